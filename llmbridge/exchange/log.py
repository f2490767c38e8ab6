"""What happens, told to the standard library's logging, without secrets.

`llmbridge.calls` says a line (INFO) when a call has ended; `llmbridge.bodies` (DEBUG) shows the request as it came and
as it leaves, and status and headers of the answer.
"""

import logging
from collections.abc import Awaitable

from llmbridge.exchange.call import Call, Handler, Headers, Reply, Request
from llmbridge.exchange.printable import one_line
from llmbridge.exchange.record import Interception
from llmbridge.exchange.redact import Redactor

LIMIT_CHARACTERS = 20_000
"""What is shown of a body."""

_calls = logging.getLogger("llmbridge.calls")
_bodies = logging.getLogger("llmbridge.bodies")


def log_received(call_id: str, request: Request) -> None:
    """Show a request as the client sent it; `request` is free of secrets."""
    if _bodies.isEnabledFor(logging.DEBUG):
        _bodies.debug(
            "%s received %s %s %s %s", call_id, request.method, *_shown(request.url, request)
        )


def log_ended(ended: Interception) -> None:
    """Say who asked whom, how it ended, and how long it took."""
    if not _calls.isEnabledFor(logging.INFO):
        return
    took_s = ((ended.ended_at or ended.started_at) - ended.started_at).total_seconds()
    words = (
        ended.id,
        ended.request.method,
        ended.request.path,
        ended.provider or "-",
        ended.model or "-",
        str(ended.status or "-"),
        ended.end or "-",
        f"{took_s:.3f}s",
    )
    error = f": {ended.error}" if ended.error else ""
    _calls.info("%s", one_line(" ".join(words) + error, limit=1000))


class LoggedBodies:
    """An interceptor that shows what is sent and what status and headers come back, where DEBUG is on."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        """Forward the call."""
        return self._shown(call, forward) if _bodies.isEnabledFor(logging.DEBUG) else forward(call)

    async def _shown(self, call: Call, forward: Handler) -> Reply:
        received = call.received
        if received is not None and received.request is call.request:
            _bodies.debug("%s sends it as received to %s", call.id, one_line(call.provider.name))
        else:
            request, _ = self._redactor.request(call.request)
            name = f"{call.provider.name} {call.target}"
            _bodies.debug(
                "%s sends to %s %s %s",
                call.id,
                *_shown(self._redactor.url(name), request),
            )
        reply = await forward(call)
        headers, *_ = self._redactor.answer(reply.headers, (), None)
        _bodies.debug("%s answered %s %s", call.id, reply.status, _fields(headers))
        return reply


def _shown(where: str, request: Request) -> tuple[str, str, str]:
    body = request.body[: 4 * LIMIT_CHARACTERS].decode("utf-8", "replace")
    return one_line(where), _fields(request.headers), one_line(body, LIMIT_CHARACTERS)


def _fields(headers: Headers) -> str:
    pairs = ", ".join(f"{name}: {value}" for name, value in headers.pairs)
    return one_line(f"[{pairs}]", LIMIT_CHARACTERS)
