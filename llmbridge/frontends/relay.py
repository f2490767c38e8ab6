"""One reply on its way to one ASGI client: read ahead within bounds, what is ready together leaves together."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio

from llmbridge.errors import BridgeError, BridgeShutdown, End, UpstreamError
from llmbridge.exchange.call import Handle, Reply, Request
from llmbridge.frontends.passing import CLOSE_LIMIT_S, reply_fields, sendable
from llmbridge.wire.sse import ends_event

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

Fields = tuple[tuple[bytes, bytes], ...]
Answer = Callable[[int, Fields, bytes], bool]
"""Writes status, fields and body in one go; False where it cannot."""

More = Callable[[bytes], bool]
"""Writes one more piece of a reply whose head is out; False where it cannot, or not at once."""

Drop = Callable[[], None]
"""Ends the connection without an answer."""

ANSWER, MORE, DROP = "llmbridge.answer", "llmbridge.more", "llmbridge.drop"
"""The keys of the scope under which our own connections give these."""

QUEUE_BYTES = 256 * 1024
KEPT_BACK = frozenset(
    {
        "content-length",
        # A provider's word on cookies, transport and pages is for its own origin, not for ours.
        "set-cookie",
        "alt-svc",
        "strict-transport-security",
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "access-control-allow-headers",
        "access-control-allow-methods",
        "access-control-expose-headers",
        "access-control-max-age",
    }
)
SETTLE_S = 0.02
"""Who is answered sooner than this is not watched for leaving: most replays, and every refusal."""

_WITH_BODY = frozenset(range(200, 600)) - {204, 304}
_SHUTTING_DOWN = "the bridge is shutting down"

_logger = logging.getLogger("llmbridge.server")


class StreamCut(Exception):
    """The head is out and the body cannot be completed: the server has to drop the connection."""


class Relay:
    """The application's task reads the reply, one child writes, another owns `receive` and waits for the client to leave.

    The children come when they are needed: what is all there at once is read and written in one go.
    """

    __slots__ = (
        "_answer",
        "_arrived",
        "_client_send",
        "_drained",
        "_ended",
        "_failure",
        "_flushing",
        "_given_up",
        "_handle",
        "_loop",
        "_more",
        "_pending",
        "_ping_s",
        "_pinger",
        "_receive",
        "_reply",
        "_request",
        "_sending_since",
        "_sent_at",
        "_size",
        "_stall_s",
        "_stalled",
        "_started",
        "_tail",
        "_task",
        "_timer",
        "_watcher",
        "_writer",
    )

    def __init__(
        self,
        handle: Handle,
        receive: Receive,
        send: Send,
        stall_s: float,
        ping_s: float,
        answer: Answer | None = None,
        more: More | None = None,
    ) -> None:
        self._handle = handle
        self._receive = receive
        self._client_send = send
        self._answer = answer
        self._more = more
        self._flushing = False
        self._stall_s = stall_s
        self._ping_s = ping_s
        self._loop = asyncio.get_running_loop()
        self._pending: list[bytes] = []
        self._size = 0
        self._tail = b""
        self._ended = False
        self._started = False
        self._stalled = False
        self._reply: Reply | None = None
        self._failure: BridgeError | None = None
        self._given_up: End | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._sending_since: float | None = None
        self._sent_at = 0.0
        self._task = asyncio.current_task()
        self._writer: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.Handle | None = None
        self._pinger: asyncio.TimerHandle | None = None

    async def run(self, request: Request) -> None:
        """Ask, and pass the reply on until it ends, the client leaves or `stop` is called.

        Raises:
            BridgeError: nothing was sent yet.
            StreamCut: what was sent must not look whole.
        """
        self._request = request
        # Most replays end within this turn of the loop, and need no timer.
        self._timer = self._loop.call_soon(self._wait_to_settle)
        try:
            await self._read()
            await self._see_off()
        finally:
            self._timer.cancel()
            if self._pinger is not None:
                self._pinger.cancel()
            await self._dismiss()
        if self._stalled:
            raise StreamCut("the client stopped reading")
        if self._given_up == "client_gone" or self._failure is None:
            return
        if not self._started:
            raise self._failure
        raise StreamCut(f"the reply broke off: {self._failure.message}")

    async def _dismiss(self) -> None:
        """Wait for the children to end: nobody is watched or written to any more."""
        children = [child for child in (self._writer, self._watcher) if child is not None]
        if children:
            for child in children:
                child.cancel()
            await asyncio.wait(children)
            for child in children:
                if not child.cancelled():
                    child.result()

    def stop(self) -> None:
        """End the reply now with what its dialect says last."""
        self._give_up("bridge_shutdown")

    # The reader

    async def _read(self) -> None:
        starter = None
        try:
            self._reply = reply = await self._handle(self._request)
            if self._given_up is not None:
                raise asyncio.CancelledError  # The handle did not listen.
            if not reply.at_once:
                starter = self._loop.call_soon(self._start_writer)
            if (body := reply.take()) is not None:
                self._put(body)
            async for chunk in reply:
                self._put(chunk)
                if self._size >= QUEUE_BYTES:
                    await self._drain()
        except asyncio.CancelledError:
            await self._part(self._given_up or "client_gone")
            self._swallow_cancel()
        except BridgeError as error:
            self._failure = error
        except Exception:
            # The border of a call: its client is told or cut off, the others go on.
            _logger.exception("%s %s failed", self._request.method, self._request.path)
            self._failure = BridgeError("the bridge failed; its log says why")
        finally:
            if starter is not None:
                starter.cancel()
            self._end()

    async def _part(self, end: End) -> None:
        """Close the reply early; a client that is still there hears why."""
        error = BridgeShutdown(_SHUTTING_DOWN)
        if self._reply is None:
            self._failure = error
            return
        told = end != "bridge_shutdown"
        if not told and (farewell := self._reply.farewell(error)):
            self._put(farewell)
            told = True
        if told:
            self._end()
        await _close(self._reply, end)
        if not told and self._reply.end != "completed":
            self._failure = error

    def _swallow_cancel(self) -> None:
        """Go on after a cancellation of our own; one from outside goes on itself."""
        assert self._task is not None, "runs in a task"
        if not (self._given_up or self._stalled) or self._task.uncancel():
            raise asyncio.CancelledError

    def _give_up(self, end: End) -> None:
        if self._given_up is None and not self._ended:
            self._given_up = end
            if self._task is not None:
                self._task.cancel(end)

    async def _drain(self) -> None:
        self._drained = self._loop.create_future()
        if self._writer is None:
            self._start_writer()
        await self._drained

    def _put(self, chunk: bytes) -> None:
        self._pending.append(chunk)
        self._size += len(chunk)
        self._tail = chunk if len(chunk) > 2 else self._tail[-2:] + chunk
        self._notify()

    def _end(self) -> None:
        self._ended = True
        self._notify()

    def _notify(self) -> None:
        if self._arrived is None or self._arrived.done():
            return
        if self._more is None or self._ended:
            self._arrived.set_result(None)
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write what has come while the writer waits; wake it where that is not to be had at once."""
        self._flushing = False
        if self._arrived is None or self._arrived.done() or not self._pending:
            return
        if self._more is not None and self._more(b"".join(self._pending)):
            self._take()
            self._sent_at = self._loop.time()
        else:
            self._arrived.set_result(None)

    # The writer

    def _start_writer(self) -> None:
        if self._writer is None:
            self._writer = self._loop.create_task(self._write())

    async def _see_off(self) -> None:
        """Write what is left, or let the writer do so."""
        try:
            if self._writer is not None:
                await asyncio.wait((self._writer,))
            elif self._reply is not None and not self._answered(self._reply):
                await self._write()
        except asyncio.CancelledError:
            self._swallow_cancel()

    def _answered(self, reply: Reply) -> bool:
        """True when the whole reply is out: it was all there, and the server could write it in one go."""
        if self._answer is None or self._failure is not None or self._given_up is not None:
            return False
        fields = None if self._request.method == "HEAD" else writable(reply)
        if fields is None:
            return False
        self._started = self._answer(reply.status, fields, b"".join(self._pending))
        return self._started

    async def _write(self) -> None:
        assert self._reply is not None, "there is a reply to write"
        if self._failure is not None and not self._pending:
            return
        try:
            head = self._head(self._reply)
        except BridgeError as error:
            self._failure = error
            self._give_up("upstream_error")
            return
        await self._send(head)
        while self._given_up != "client_gone":
            if not self._pending and not self._ended:
                self._arrived = self._loop.create_future()
                await self._arrived
                continue
            ended, last = self._ended, self._ended and self._failure is None
            body = self._take()
            if body or last:
                await self._send(
                    {"type": "http.response.body", "body": body, "more_body": not last}
                )
            if ended:
                return

    def _head(self, reply: Reply) -> Message:
        fields = reply_fields(reply.headers, KEPT_BACK)
        whole = self._ended and self._failure is None
        if whole and self._request.method != "HEAD" and reply.status in _WITH_BODY:
            fields.append((b"content-length", b"%d" % self._size))
        return {"type": "http.response.start", "status": reply.status, "headers": fields}

    def _take(self) -> bytes:
        pending = self._pending
        body = pending[0] if len(pending) == 1 else b"".join(pending)
        self._pending, self._size = [], 0
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        return body

    async def _send(self, message: Message) -> None:
        self._started = True
        self._sending_since = self._loop.time()
        try:
            await self._client_send(message)
        except OSError:
            self._give_up("client_gone")
        self._sending_since, self._sent_at = None, self._loop.time()

    # The client

    def _wait_to_settle(self) -> None:
        self._timer = self._loop.call_later(SETTLE_S, self._settle)

    def _settle(self) -> None:
        """The call takes its time: watch the client from now on."""
        self._watcher = self._loop.create_task(self._watch())
        self._timer = self._loop.call_later(self._stall_s / 8, self._check)
        self._pinger = self._loop.call_later(self._ping_s, self._keep_alive)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._give_up("client_gone")

    def _keep_alive(self) -> None:
        """Break a silence that somebody on the way may take for a dead connection."""
        silent_s = self._loop.time() - self._sent_at if self._started else 0.0
        if silent_s >= self._ping_s:
            silent_s = 0.0
            if ping := self._ping():
                self._put(ping)
        self._pinger = self._loop.call_later(self._ping_s - silent_s, self._keep_alive)

    def _ping(self) -> bytes:
        """What may be written into this silence: nothing inside an event, or before all is sent that came."""
        reply = self._reply
        if reply is None or self._ended or self._given_up is not None:
            return b""
        if self._pending or self._sending_since is not None:
            return b""
        streams = "text/event-stream" in reply.headers.get("content-type", "")
        return reply.ping() if streams and (not self._tail or ends_event(self._tail)) else b""

    def _check(self) -> None:
        """Cut off a client that takes nothing."""
        since = self._sending_since
        if since is None or self._loop.time() - since <= self._stall_s:
            self._timer = self._loop.call_later(self._stall_s / 8, self._check)
            return
        self._stalled = True
        self._give_up("client_gone")
        sender = self._writer or self._task
        if sender is not None:
            sender.cancel()


def writable(reply: Reply) -> Fields | None:
    """The fields to write with a whole body; None where there may be none, or a field cannot be sent."""
    if reply.status not in _WITH_BODY:
        return None
    try:
        return sendable(reply.headers.pairs, KEPT_BACK)
    except UpstreamError:
        return None


async def _close(reply: Reply, end: End) -> None:
    try:
        with anyio.move_on_after(CLOSE_LIMIT_S, shield=True) as limit:
            await reply.aclose(end)
        if limit.cancelled_caught:
            _logger.warning("a reply did not close within %s s", CLOSE_LIMIT_S)
    except Exception:
        # The border of a reply that nobody reads any more.
        _logger.exception("closing a reply failed")
