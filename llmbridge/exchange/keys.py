"""Several keys of one provider: where one is refused or has had enough, the next one is asked.

Source: the key pool of aibridge's successor.
"""

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from threading import Lock
from time import monotonic as system_monotonic

from llmbridge.errors import MissingKey, UpstreamError
from llmbridge.exchange.call import Call, Handler, Headers, Reply
from llmbridge.exchange.failure import RateLimited, error_reply, retry_after_fields
from llmbridge.exchange.recorder import Clock, utc_now
from llmbridge.exchange.retries import read_out, retry_after_s
from llmbridge.exchange.secret_names import masked

_logger = logging.getLogger("llmbridge")

FIRST_REST_S, LONGEST_REST_S = 60.0, 3600.0
"""How long a key rests where the provider does not say: twice as long each time, until it is taken again."""

_REFUSED, _FORBIDDEN, _LIMITED = 401, 403, 429


@dataclass(slots=True)
class _Rest:
    """Why a key rests, until when, and how often it had to without being taken in between."""

    status: int = 0
    until_s: float = -math.inf
    times: int = 0


class KeyPool:
    """An interceptor that asks with a provider's first key that does not rest, and with the next one where that is no good.

    A key rests after 401, 403 or 429, for as long as the provider says. Each answer is a record. When no key is left, the
    client gets the last one; while all rest, the provider is not asked. A provider with one key is none of its business.
    """

    def __init__(
        self, *, clock: Clock = utc_now, monotonic: Callable[[], float] = system_monotonic
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._rests: dict[tuple[str, str], _Rest] = {}
        # Calls come from several loops.
        self._lock = Lock()

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        """Forward the call with a key that is ready."""
        return self._ask(call, forward) if len(call.provider.keys) > 1 else forward(call)

    async def _ask(self, call: Call, forward: Handler) -> Reply:
        reply: Reply | None = None
        # Some providers forbid a request whoever asks: then no key is to blame.
        forbidden: list[str] = []
        for key in call.provider.keys:
            if not self._ready(call, key):
                continue
            if reply is not None:
                await read_out(reply)
            reply = await forward(replace(call, provider=replace(call.provider, key=key)))
            status = 200 if reply.replayed else reply.status
            if status == _FORBIDDEN:
                forbidden.append(key)
            elif status in (_REFUSED, _LIMITED):
                self._lay_aside(call, key, status, retry_after_s(reply, self._clock))
            else:
                for other in forbidden:
                    self._lay_aside(call, other, _FORBIDDEN, None)
                self._welcome(call, key)
                return reply
        return await self._last_word(call, reply)

    async def _last_word(self, call: Call, reply: Reply | None) -> Reply:
        """What the client hears when no key is left: the provider's answer, with the time when the first key is ready."""
        error = self._all_rest(call)
        if reply is None or (reply.status == _REFUSED and error.status == _LIMITED):
            if reply is not None:
                await read_out(reply)
            return error_reply(call.dialect, error)
        if reply.status == _LIMITED and error.retry_after_s is not None:
            fields = reply.headers.without("retry-after", "retry-after-ms").pairs
            reply.headers = Headers((*fields, *retry_after_fields(error.retry_after_s)))
        return reply

    def _ready(self, call: Call, key: str) -> bool:
        with self._lock:
            rest = self._rests.get((call.provider.name, key))
            return rest is None or rest.until_s <= self._monotonic()

    def _welcome(self, call: Call, key: str) -> None:
        # A call that was under way before the key was laid aside says nothing of it.
        if self._rests and self._ready(call, key):
            with self._lock:
                self._rests.pop((call.provider.name, key), None)

    def _lay_aside(self, call: Call, key: str, status: int, wanted_s: float | None) -> None:
        with self._lock:
            rest = self._rests.setdefault((call.provider.name, key), _Rest())
            now_s = self._monotonic()
            if rest.until_s <= now_s:
                # Calls that were under way together say it together.
                rest.times += 1
            doubled_s = FIRST_REST_S * 2.0 ** min(rest.times - 1, 10)
            rest_s = min(doubled_s if wanted_s is None else wanted_s, LONGEST_REST_S)
            rest.status, rest.until_s = status, now_s + rest_s
        name = call.provider.name
        _logger.warning(
            "%r: status %d; the key %s of %r rests for %.0f s",
            call,
            status,
            masked(key),
            name,
            rest_s,
        )

    def _all_rest(self, call: Call) -> UpstreamError:
        name, now_s = call.provider.name, self._monotonic()
        with self._lock:
            rests = [self._rests.get((name, key), _Rest()) for key in call.provider.keys]
        limited = [rest for rest in rests if rest.status == _LIMITED]
        ready_s = max(0.0, min(rest.until_s for rest in limited or rests) - now_s)
        why = "reached its rate limit" if limited else "refused them"
        kind = RateLimited if limited else MissingKey
        error = kind(
            f"all {len(rests)} keys of {name!r} rest, since the provider {why}:"
            f" the next one is tried in {math.ceil(ready_s)} s"
        )
        error.retry_after_s = ready_s
        return error
