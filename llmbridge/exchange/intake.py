"""One request from door to door: its start recorded, routed, answered, its end recorded. Errors become answers here."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from operator import attrgetter
from os import urandom
from typing import Protocol

from llmbridge.errors import BridgeError, BridgeShutdown, End, Stopped, StoreUnavailable
from llmbridge.exchange.call import (
    Call,
    Caller,
    Handler,
    Headers,
    Received,
    Reply,
    Request,
    end_told,
)
from llmbridge.exchange.failure import error_reply
from llmbridge.exchange.log import log_ended, log_received
from llmbridge.exchange.printable import one_line
from llmbridge.exchange.record import Interception
from llmbridge.exchange.recorder import Clock, utc_now
from llmbridge.exchange.redact import Redactor
from llmbridge.exchange.remembered import LARGEST_BYTES, OVERHEAD_BYTES, Remembered
from llmbridge.exchange.routing import Destination, Router
from llmbridge.exchange.toolbox import ToolRun
from llmbridge.exchange.watching import Watchers
from llmbridge.wire.anthropic_messages import ANTHROPIC_MESSAGES
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.google_gemini import GOOGLE_GEMINI
from llmbridge.wire.opaque import OPAQUE

_logger = logging.getLogger("llmbridge")

# What SDKs read, and what a provider's support asks for. Cookies, transport and CORS are for its own origin.
_PASSED_ON = re.compile(
    r"content-(type|length|encoding|disposition)|cache-control|x-accel-buffering"
    r"|retry-after(-ms)?|x-should-retry|x-content-type-options|(x-)?ratelimit(-.*)?|(anthropic|openai|x-llmbridge)-.*"
    r"|(x-|apim-|x-ms-)?request-id|x-generation-id|mistral-correlation-id|cf-ray"
)
_WITHHELD = re.compile(r".*(organi[sz]ation|project|account)")


_NAMES = attrgetter(*(each.name for each in fields(Caller) if each.name != "metadata"))
"""All else that is known of a caller."""


def new_id() -> str:
    """A random id."""
    return urandom(16).hex()


@dataclass(frozen=True, slots=True)
class _Known:
    """What a request means: where it goes, what is kept of it, the call to make or why there is none, how it is told."""

    where: Destination
    received: Received
    routed: Call | BridgeError
    told: Interception


class Opens(Protocol):
    """What an intake needs of a store."""

    async def begin(self, interception: Interception) -> None:
        """Returns once the start is durable; a failure refuses the call."""

    def end(self, interception: Interception) -> None:
        """Take the interception as it ended. Never waits."""


class Intake:
    """The `Handle` that every frontend holds. `inflight` are the interceptions under way, by id.

    Once `closed` it makes no more calls, since nobody would record them.
    """

    def __init__(
        self,
        router: Router,
        handler: Handler,
        store: Opens,
        redactor: Redactor,
        clock: Clock = utc_now,
        ids: Callable[[], str] = new_id,
        watchers: Watchers | None = None,
    ) -> None:
        self.inflight: dict[str, Interception] = {}
        self.closed = False
        self._router = router
        self._handler = handler
        self._store = store
        self._redactor = redactor
        self._clock = clock
        self._ids = ids
        self._known = Remembered[_Known]()
        self._watchers = watchers or Watchers()

    async def __call__(self, request: Request) -> Reply:
        """The reply; what goes wrong on the way is a reply too, in the client's dialect."""
        known = self._know(request)
        if self.closed:
            return error_reply(
                shape(request, known.where),
                BridgeShutdown("the bridge is closed: make a new one"),
            )
        id, call = self._ids(), known.routed
        if isinstance(call, Call):
            call = call.anew(id, request.arrived_s)
        opened = known.told.anew(id, self._clock())
        log_received(id, opened.request)
        try:
            await self._begin(opened)
            self.inflight[id] = opened
            self._watchers.tell(opened)
            reply = await self._answer(call, known)
        except StoreUnavailable as error:
            return error_reply(shape(request, known.where), error)
        except BaseException as reason:
            self._close(opened, call, end_told(reason) or "client_gone", None)
            raise
        reply.headers = passed_on(reply.headers)
        return reply.watch(lambda ended: self._end(opened, call, ended), farewell=True)

    def _know(self, request: Request) -> _Known:
        """What the request means, found anew only where no equal one came before."""
        if len(request.body) > LARGEST_BYTES:
            return self._learn(request)
        who = request.caller
        key = (
            request.body,
            request.url,
            request.method,
            request.headers.pairs,
            _NAMES(who),
            tuple(who.metadata.items()),
        )
        known = self._known.get(key)
        if known is None:
            known = self._learn(request)
            if isinstance(known.routed, Call):
                self._known.put(key, known, OVERHEAD_BYTES + request.size_bytes)
        return known

    def _learn(self, request: Request) -> _Known:
        if request.arrived_s is not None:
            request = replace(request, arrived_s=None)
        where = self._router.destination(request)
        received = Received(request, *self._redactor.request(request))
        routed: Call | BridgeError
        try:
            routed = self._router.call(request, where, "", received)
        except BridgeError as error:
            routed = _untraced(error)
        return _Known(where, received, routed, self._told(received.kept, where, routed))

    async def _answer(self, call: Call | BridgeError, known: _Known) -> Reply:
        failure: BridgeError
        try:
            if isinstance(call, Call):
                return await self._handler(call)
            failure = call
        except BridgeError as error:
            failure = _untraced(error)
        except Exception:
            # The border: whatever an interceptor raises, the client gets an answer.
            _logger.exception("%r failed", call)
            failure = BridgeError("the bridge failed; its log says why")
        return error_reply(shape(known.received.request, known.where), failure)

    def _told(
        self, request: Request, where: Destination, routed: Call | BridgeError
    ) -> Interception:
        caller, call = request.caller, routed if isinstance(routed, Call) else None
        return Interception(
            "",
            self._clock(),
            request,
            caller.frontend,
            caller.actor,
            caller.client,
            caller.session_id,
            call.provider.name if call else where.provider.name,
            where.asked.name,
            (call.model or None) if call else None,
            call.streaming if call else False,
        )

    async def _begin(self, opened: Interception) -> None:
        try:
            await self._store.begin(opened)
        except Exception as error:
            # One line for each: while a database is away, every call comes here.
            _logger.error(
                "the store refused the start of call %s: %s",
                opened.id,
                one_line(str(error), limit=500),
                exc_info=_logger.isEnabledFor(logging.DEBUG),
            )
            raise StoreUnavailable("the call could not be recorded, so it was not made") from error

    def _end(self, opened: Interception, call: Call | BridgeError, reply: Reply) -> None:
        self._close(opened, call, reply.end or "interrupted", reply)

    def _close(
        self, opened: Interception, call: Call | BridgeError, end: End, reply: Reply | None
    ) -> None:
        known = self.inflight.pop(opened.id, opened)
        error = reply.error if reply else None
        faults, runs = (call.faults, call.tool_runs) if isinstance(call, Call) else ((), ())
        ended = known.ended(
            self._clock(),
            end,
            reply.status if reply else None,
            _kind(error) if error else None,
            self._redactor.text(error.message) if error else None,
            reply.replayed if reply else False,
            "; ".join(faults) or None,
            tuple([self._without_secrets(run) for run in runs]),
        )
        self._watchers.tell(ended)
        self._store.end(ended)
        log_ended(ended)

    def _without_secrets(self, run: ToolRun) -> ToolRun:
        text = self._redactor.text
        result, error = run.result and text(run.result), run.error and text(run.error)
        return replace(run, result=result, error=error)


def _untraced(error: BridgeError) -> BridgeError:
    """The error that is told to the client, without the way it came: frames refer to it, so it would stay, with the call."""
    return error.with_traceback(None)


def _kind(error: BridgeError) -> str:
    """What went wrong, in a word; that somebody stopped the call is no failure of an API."""
    return "stopped" if isinstance(error, Stopped) else error.kind


def shape(request: Request, where: Destination) -> Dialect:
    """The dialect whose error shape this client knows."""
    if where.dialect is OPAQUE and "anthropic-version" in request.headers:
        return ANTHROPIC_MESSAGES
    if where.asked.name in ("opaque", "models") and where.provider.dialects == (
        GOOGLE_GEMINI.name,
    ):
        return GOOGLE_GEMINI
    return where.asked


def passed_on(headers: Headers) -> Headers:
    """The fields of an answer that reach the client; records keep them all."""
    return _passed_on(headers.pairs)


@lru_cache(maxsize=256)
def _passed_on(pairs: tuple[tuple[str, str], ...]) -> Headers:
    return Headers(pair for pair in pairs if _passes_on(pair[0]))


@lru_cache(maxsize=512)
def _passes_on(name: str) -> bool:
    lower = name.lower()
    return _PASSED_ON.fullmatch(lower) is not None and not _WITHHELD.match(lower)
