"""Ask again where a provider says no for the moment, as long as the client has not got a byte.

Source: the rules of the official SDKs, `_should_retry` and `_calculate_retry_timeout`.
"""

import logging
import math
import random
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime

import anyio

from llmbridge.errors import BridgeError, Unreachable
from llmbridge.exchange.call import Call, Handler, Reply
from llmbridge.exchange.options import check_count
from llmbridge.exchange.recorder import Clock, utc_now

_logger = logging.getLogger("llmbridge")

_FIRST_S, _LONGEST_S = 0.5, 8.0
LONGEST_WAIT_S = 60.0
"""A provider that wants more time than this is not asked again: its answer goes to the client, who may wait."""

_REST_S = 5.0
_PASSING = frozenset({408, 409, 429})


class Retries:
    """An interceptor that asks up to `times` times more. Each answer is a record; a recording is never asked for another."""

    def __init__(
        self,
        times: int,
        *,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Clock = utc_now,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        check_count("retries", times, 0)
        self._times = times
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        """Forward the call until it is answered well, or there is no sense or no try left."""
        return self._again(call, forward) if self._times else forward(call)

    async def _again(self, call: Call, forward: Handler) -> Reply:
        wait_s: float | None
        for tried in range(self._times):
            try:
                reply = await forward(call)
            except Unreachable as error:
                why, wait_s = error.message, self._backoff_s(tried)
            else:
                wait_s = self._wait_s(reply, tried)
                if wait_s is None:
                    return reply
                why = f"status {reply.status}"
                await read_out(reply)
            _logger.info("%r: %s; asking again in %.2f s", call, why, wait_s)
            await self._sleep(wait_s)
        return await forward(call)

    def _wait_s(self, reply: Reply, tried: int) -> float | None:
        """How long to wait before asking again; None when this answer is the one to give."""
        if reply.status < 400 or reply.replayed:
            return None
        advice = reply.headers.get("x-should-retry", "").strip().lower()
        passing = reply.status in _PASSING or reply.status >= 500
        if advice == "false" or not (passing or advice == "true"):
            return None
        wanted_s = retry_after_s(reply, self._clock)
        if wanted_s is None:
            return self._backoff_s(tried)
        return wanted_s if wanted_s <= LONGEST_WAIT_S else None

    def _backoff_s(self, tried: int) -> float:
        return min(_FIRST_S * 2.0**tried, _LONGEST_S) * (1 - 0.25 * self._jitter())


def retry_after_s(reply: Reply, clock: Clock = utc_now) -> float | None:
    """How long the provider wants to be left alone, if it says so."""
    wanted_ms = _number(reply.headers.get("retry-after-ms", ""))
    if wanted_ms is not None:
        return wanted_ms / 1000
    said = reply.headers.get("retry-after", "")
    seconds = _number(said)
    if seconds is not None or not said:
        return seconds
    try:
        return max(0.0, (parsedate_to_datetime(said) - clock()).total_seconds())
    except (TypeError, ValueError):
        return None


async def read_out(reply: Reply) -> None:
    """The rest of an answer that nobody will see, for its record."""
    try:
        with anyio.move_on_after(_REST_S):
            async for _ in reply:
                pass
    except BridgeError:
        return  # Its record says so.
    finally:
        await reply.aclose("upstream_error")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
