"""Handles, servers and clients that the frontends are tried with."""

import asyncio
import json
import queue
import socket
from collections.abc import AsyncIterator, Callable

from llmbridge.errors import BridgeError, End, StreamTruncated
from llmbridge.exchange.call import Headers, Reply, Request, no_farewell, no_ping, once

SSE = Headers([("content-type", "text/event-stream")])
JSON = Headers([("content-type", "application/json")])
EVENTS = (b"data: one\n\n", b"data: two\n\n", b"data: thr", b"ee\n\n", b"data: [DONE]\n\n")
WAIT_S = 5

Pieces = Callable[[], AsyncIterator[bytes]]


class FakeHandle:
    """Answers each request alike, and tells how each reply ended."""

    def __init__(
        self,
        pieces: Pieces | bytes,
        *,
        status: int = 200,
        headers: Headers = SSE,
        farewell: Callable[[BridgeError], bytes] = no_farewell,
        ping: Callable[[], bytes] = no_ping,
    ) -> None:
        self.requests: list[Request] = []
        self.ends: queue.SimpleQueue[End | None] = queue.SimpleQueue()
        self._pieces = pieces
        self._status = status
        self._headers = headers
        self._farewell = farewell
        self._ping = ping

    async def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        pieces = once(self._pieces) if isinstance(self._pieces, bytes) else self._pieces()
        ended = self.ends.put
        reply = Reply(self._status, self._headers, pieces, on_end=lambda reply: ended(reply.end))
        reply.farewell, reply.ping = self._farewell, self._ping
        return reply

    def end(self) -> End | None:
        """How the next reply to end has ended."""
        return self.ends.get(timeout=WAIT_S)


class Unanswered:
    """Never comes to an answer; tells when it starts and when it is given up."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.waiting = asyncio.Event()
        self.given_up: queue.SimpleQueue[tuple[object, ...]] = queue.SimpleQueue()

    async def __call__(self, request: Request) -> Reply:
        self.asked.put(True)
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as cancelled:
            self.given_up.put(cancelled.args)
            raise
        raise AssertionError("nobody sets the event")


async def events() -> AsyncIterator[bytes]:
    for event in EVENTS:
        yield event


async def spaced() -> AsyncIterator[bytes]:
    for event in EVENTS:
        await asyncio.sleep(0)
        yield event


async def unfinished() -> AsyncIterator[bytes]:
    yield EVENTS[0]
    await asyncio.Event().wait()


async def broken() -> AsyncIterator[bytes]:
    yield EVENTS[0]
    await asyncio.sleep(0)
    raise StreamTruncated("the provider hung up")


class Stillborn:
    """Pieces of which not even the first comes."""

    def __aiter__(self) -> "Stillborn":
        return self

    async def __anext__(self) -> bytes:
        raise StreamTruncated("the provider hung up")


def encode_error(request: Request, error: BridgeError) -> bytes:
    return json.dumps({"kind": error.kind, "message": error.message}).encode()


class RawClient:
    """A socket and nothing that mends what comes over it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def ask(self, path: str = "/v1/messages", *fields: str, body: bytes = b"{}") -> None:
        head = [f"POST {path} HTTP/1.1", "content-type: application/json"]
        if not any(field.lower().startswith("host:") for field in fields):
            head.append("host: 127.0.0.1")
        head += [f"content-length: {len(body)}", *fields, "", ""]
        self.socket.sendall("\r\n".join(head).encode("latin-1") + body)

    def until(self, mark: bytes) -> bytes:
        """What comes up to `mark` and a little more."""
        got = b""
        while mark not in got:
            piece = self.socket.recv(65536)
            assert piece, f"closed after {got!r}"
            got += piece
        return got

    def rest(self) -> bytes:
        """All that comes until the connection ends, however it ends."""
        got = b""
        try:
            while piece := self.socket.recv(65536):
                got += piece
        except ConnectionResetError:
            pass
        return got
