"""Bytes of a reply to deltas: the only place where a stream and a block differ."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing

from llmbridge.canon.events import Delta, Event, Fail, Snapshot
from llmbridge.canon.messages import AssistantMessage
from llmbridge.errors import BridgeError
from llmbridge.exchange.call import Headers, Reply
from llmbridge.exchange.failure import error_with
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.sse import SSE, SSEDecoder

Step = tuple[SSE | None, tuple[Delta, ...]]
"""One event of the wire (None: a blocking body, or the end of input) and what it means."""

_FIELDS = (b"data:", b"event:", b":", b"id:", b"retry:")


def is_event_stream(status: int, headers: Headers, first: bytes) -> bool:
    """True for server-sent events, judged by the label and the first bytes.

    Real recordings label streams `application/json` or not at all, and plain JSON errors `text/event-stream`.
    """
    start = first.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n ")
    if status < 400 and "text/event-stream" in headers.get("content-type", ""):
        return not start.startswith((b"{", b"["))
    return start.startswith(_FIELDS)


class ReplyDecoder:
    """Feed a reply's bytes as they come, get what they mean."""

    def __init__(self, dialect: Dialect, status: int, headers: Headers) -> None:
        self._dialect = dialect
        self._status = status
        self._headers = headers
        self._held = b""
        self._sse: SSEDecoder | None = None
        self._decoder = dialect.decoder()
        self._block: list[bytes] | None = None

    def feed(self, chunk: bytes) -> list[Step]:
        """The events this chunk completes."""
        if self._block is not None:
            self._block.append(chunk)
            return []
        if self._sse is None:
            chunk = self._held + chunk
            if len(chunk) < len(b"event:") and not chunk.endswith(b"\n"):
                self._held = chunk
                return []
            if not is_event_stream(self._status, self._headers, chunk):
                self._block = [chunk]
                return []
            self._sse = SSEDecoder()
        return [(sse, tuple(self._decoder.feed(sse))) for sse in self._sse.feed(chunk)]

    def close(self) -> list[Step]:
        """What the end of input brings."""
        if self._sse is not None:
            # Providers leave their last event open; the standard would drop it.
            steps: list[Step] = [(sse, tuple(self._decoder.feed(sse))) for sse in self._sse.close()]
            return [*steps, (None, tuple(self._decoder.close()))]
        body = self._held if self._block is None else b"".join(self._block)
        try:
            return [(None, tuple(self._dialect.decode_reply(body, self._status)))]
        except ValueError as error:
            if self._status >= 400 and not body:
                return [(None, tuple(_without_body(self._dialect, self._status)))]
            return [(None, (Fail("undecodable", str(error)),))]


def _without_body(dialect: Dialect, status: int) -> Iterable[Delta]:
    """What an error means of which only the status is known."""
    error = error_with(status, f"status {status}, and its body is not known")
    return dialect.decode_reply(dialect.encode_error(error), status)


class EventStream:
    """A reply as canon's events: iterate to watch it grow, `await result()` for the whole message.

    Failures are in the stream: the last event is `error`, its message keeps what came before.
    """

    def __init__(self, dialect: Dialect, reply: Reply) -> None:
        self._reply = reply
        self._snapshot = Snapshot()
        self._deltas = read_deltas(dialect, reply)

    def __repr__(self) -> str:
        return f"EventStream({self._reply.status}, {self._reply.end or 'under way'})"

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return self._snapshot.apply(await anext(self._deltas))

    async def result(self) -> AssistantMessage:
        """The message, once all events have come."""
        async for _ in self:
            pass
        return self._snapshot.message

    async def aclose(self) -> None:
        """Stop here and let go of the upstream."""
        await self._deltas.aclose()
        await self._reply.aclose()


async def read_deltas(dialect: Dialect, reply: Reply) -> AsyncGenerator[Delta]:
    """The deltas of a reply, as they come; closes the reply."""
    decoder = ReplyDecoder(dialect, reply.status, reply.headers)
    try:
        async with aclosing(reply):
            async for chunk in reply:
                for delta in _flat(decoder.feed(chunk)):
                    yield delta
    except BridgeError as error:
        yield Fail(error.end, error.message)
        return
    for delta in _flat(decoder.close()):
        yield delta


def _flat(steps: Iterable[Step]) -> Iterable[Delta]:
    return (delta for _, deltas in steps for delta in deltas)
