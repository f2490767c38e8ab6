"""uvicorn's HTTP/1.1 connection, with bounds on what a client may send ahead and leave unread."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import lru_cache, partial
from time import monotonic
from typing import Any, cast

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from llmbridge.frontends.asgi import ARRIVED_S, BODY
from llmbridge.frontends.relay import ANSWER, DROP, MORE, Answer, Fields, StreamCut

HEAD_BYTES = 32 * 1024
HEAD_FIELDS = 100
HEAD_S = 10.0
UPLOAD_REST_S = 5.0
UNREAD_S = 60.0
STARTS = 16
"""How many calls begin in one turn of the loop."""

AtOnce = Callable[[Any, Answer], bool]
"""`ASGIApp.answer`."""

_KEEPS_ALIVE, _CLOSES = b"\r\n", b"connection: close\r\n\r\n"

_logger = logging.getLogger("llmbridge.server.http")


def _is_news(record: logging.LogRecord) -> bool:
    """False for a cut stream, of which the application has told already."""
    return not (record.exc_info and isinstance(record.exc_info[1], StreamCut))


_logger.addFilter(_is_news)


class Connections(ServerState):
    """The open connections of one server."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = asyncio.Event()
        self.ended = False
        """True once none is to come: one whose handshake lasted until now is dropped."""
        self._waiting: deque[Callable[[], None]] = deque()
        self._starting = False

    def start(self, begin: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        """Begin a call in a later turn of the loop, few each turn: what others have sent is read in between."""
        self._waiting.append(begin)
        if not self._starting:
            self._starting = True
            loop.call_soon(self._start_some, loop)

    def _start_some(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            for _ in range(min(STARTS, len(self._waiting))):
                self._waiting.popleft()()
        finally:
            # One that was answered at once may have brought the next.
            self._starting = bool(self._waiting)
            if self._starting:
                loop.call_soon(self._start_some, loop)

    async def gone(self) -> None:
        """Return when none is left."""
        while self.connections:
            self.lost.clear()
            await self.lost.wait()


class Connection(HttpToolsProtocol):
    """A head has to come in time and in measure; a client that takes nothing is dropped, whatever is left for it."""

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = _logger
        self.access_log = False
        self._lost = server_state.lost
        self._open = server_state
        self._in_head = True
        self._head_bytes = 0
        self._received = 0
        self._refused = False
        self._idle_since = 0.0
        self._at_once: AtOnce | None = getattr(cast(Any, config).loaded_app, "answer", None)
        self._begun: RequestResponseCycle
        self._head_timer: asyncio.TimerHandle | None = None
        self._upload_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if self._open.ended:
            transport.abort()
            return
        # Whatever the system does not take at once counts as unread. Over TLS none is as much as a limit of 0.
        transport.set_write_buffer_limits(high=1 if self.scheme == "https" else 0)
        self._head_timer = self.loop.call_later(HEAD_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        self._end_upload()
        self._end_unread()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)
        self._let_go()
        self._lost.set()

    def data_received(self, data: bytes) -> None:
        was_in_head, self._received = self._in_head, len(data)
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        if was_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse_head()
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self.transport.close)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._end_head()
        if self._head_is_too_large():
            self._refuse_head()
            raise httptools.HttpParserError
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._open.start(partial(self._begin, cycle, app), self.loop)

    def _begin(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self.transport.is_closing():
            return  # Nobody is there to be answered.
        self._begun = cycle
        if not cycle.more_body and not cycle.disconnected:
            cycle.scope[BODY] = bytes(cycle.body)  # type: ignore[literal-required]  # a key of ours
            at_once = None if self.flow.write_paused else self._at_once
            if at_once is not None and at_once(cycle.scope, self._answer):
                return
        cycle.scope[ANSWER] = self._answer  # type: ignore[literal-required]  # another
        cycle.scope[MORE] = self._more  # type: ignore[literal-required]  # another
        cycle.scope[DROP] = self._drop  # type: ignore[literal-required]  # another
        super()._start_asgi_task(cycle, app)

    def _answer(self, status: int, fields: Fields, body: bytes) -> bool:
        """Write a whole reply in one go; False where it has to take the way of all others."""
        # Of several requests sent ahead one is begun at a time.
        cycle = self._begun
        busy = cycle.response_started or cycle.disconnected or self.flow.write_paused
        if busy or status not in STATUS_LINE:
            return False
        cycle.response_started = cycle.response_complete = True
        head = _head(status, tuple(self.server_state.default_headers), fields)
        end = _KEEPS_ALIVE if cycle.keep_alive else _CLOSES
        self.transport.write(b"%bcontent-length: %d\r\n%b%b" % (head, len(body), end, body))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def _more(self, piece: bytes) -> bool:
        """Write one more piece of the reply; False where it has to take the way of all others."""
        cycle = self._begun
        if self.flow.write_paused or cycle.disconnected or not cycle.chunked_encoding:
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        return True

    def _drop(self) -> None:
        """End the connection without an answer to the request that was begun."""
        # As when the client had left: uvicorn answers 500 where nothing was sent.
        self._begun.disconnected = True
        self.transport.close()

    def on_response_complete(self) -> None:
        # As uvicorn has it, but for the timer: it makes one for each reply.
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            else:
                self._idle_since = self.loop.time()
                if self.timeout_keep_alive_task is None:
                    self._watch_idle(self.timeout_keep_alive)
        if self.cycle.response_complete and self.cycle.more_body:
            # Refused while it still sends: closing now would take the answer from it, reading on has to end.
            self._upload_timer = self.loop.call_later(UPLOAD_REST_S, self.transport.close)

    def _unset_keepalive_if_required(self) -> None:
        """Let the timer be: it asks itself when the connection was last in use."""

    def _watch_idle(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._in_head or not self.cycle.response_complete:
            return  # The end of the next reply begins anew.
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._watch_idle(left_s)
        else:
            super().timeout_keep_alive_handler()

    def on_message_complete(self) -> None:
        # The application may be long in coming to it, when many ask at once.
        self.scope[ARRIVED_S] = monotonic()  # type: ignore[literal-required]  # a key of ours
        super().on_message_complete()
        self._end_upload()

    def send_400_response(self, msg: str) -> None:
        if not self._refused:
            super().send_400_response(msg)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_unread(-1)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_unread()

    def _refuse_head(self) -> None:
        self._refused = True
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
            b"content-length: 0\r\nconnection: close\r\n\r\n"
        )
        self.transport.close()

    def _head_is_too_large(self) -> bool:
        if len(self.headers) > HEAD_FIELDS:
            return True
        if self._head_bytes + self._received <= HEAD_BYTES:
            return False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        return size > HEAD_BYTES

    def _let_go(self) -> None:
        """Tell who is under way, and take out what refers back to this: the garbage collector would have to find it."""
        self.pipeline.clear()
        for cycle in (self.cycle, getattr(self, "_begun", None)):
            if cycle is not None:
                # uvicorn tells the newest request alone, which may wait for its turn behind this one.
                cycle.disconnected = not cycle.response_complete
                cycle.message_event.set()
                cycle.on_response = _nothing
                for key in (ANSWER, MORE, DROP):
                    cycle.scope.pop(key, None)  # type: ignore[misc]  # keys of ours

    def _end_head(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _watch_unread(self, before: int) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread == before:
            self.transport.abort()
        else:
            self._unread_timer = self.loop.call_later(UNREAD_S, self._watch_unread, unread)

    def _end_upload(self) -> None:
        if self._upload_timer is not None:
            self._upload_timer.cancel()
            self._upload_timer = None

    def _end_unread(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None


def _nothing() -> None:
    """There is nobody to go on with."""


@lru_cache(maxsize=256)
def _head(status: int, dated: Fields, fields: Fields) -> bytes:
    """The lines that are the same for many replies of one second."""
    return STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % field for field in (*dated, *fields))
