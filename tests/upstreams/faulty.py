"""A provider that does just what a test says, byte by byte: HTTP/1.1 by hand over plain sockets."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from ssl import SSLContext
from typing import Self

Fields = Sequence[tuple[str, str]]

SSE: Fields = (("content-type", "text/event-stream; charset=utf-8"),)
JSON: Fields = (("content-type", "application/json"),)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came in; names of fields in lower case."""

    method: str
    target: str
    fields: Fields
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        """The only value of that field; None where there is none."""
        values = [value for key, value in self.fields if key == name]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None


class Peer:
    """The other side of one request: what it asked, and ways to answer it well or badly."""

    def __init__(
        self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.asked = asked
        self.stays = False
        self._reader = reader
        self._writer = writer

    async def send(self, *pieces: bytes) -> None:
        """Each piece in a packet of its own, as far as sockets go."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            # A turn of the loop lets the reader on the other side have it alone.
            await asyncio.sleep(0)

    async def left(self) -> None:
        """Returns when the other side has hung up."""
        with suppress(ConnectionError):
            while await self._reader.read(65536):
                pass

    def keep(self) -> None:
        """Take another request on this connection."""
        self.stays = True

    def reset(self) -> None:
        """Break the connection without a goodbye."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Behaviour = Callable[[Peer], Awaitable[None]]


class Provider:
    """Answers its requests with these behaviours in order, the last one again and again; an `async with` block runs it.

    A connection ends with its behaviour, unless that said `keep`. `asked` are the requests, `connections` the number of
    connections so far. Without `reads_bodies` it answers as soon as it has a request's head.
    """

    def __init__(
        self, *behaviours: Behaviour, reads_bodies: bool = True, tls: SSLContext | None = None
    ) -> None:
        self._tls = tls
        self._reads_bodies = reads_bodies
        self.asked: list[Asked] = []
        self.connections = 0
        self._behaviours = list(behaviours)
        self._tasks: set[asyncio.Task[None]] = set()
        self._emptied = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    async def emptied(self) -> None:
        """Returns when no connection is open."""
        while self._tasks:
            self._emptied.clear()
            await self._emptied.wait()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=2**20, ssl=self._tls
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await self.emptied()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    pass
        finally:
            writer.close()
            self._tasks.discard(task)
            self._emptied.set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        asked = await _read(reader, self._reads_bodies)
        self.asked.append(asked)
        behave = self._behaviours.pop(0) if len(self._behaviours) > 1 else self._behaviours[0]
        peer = Peer(asked, reader, writer)
        await behave(peer)
        return peer.stays


async def _read(reader: asyncio.StreamReader, with_body: bool) -> Asked:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    fields = [
        (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)
    ]
    length = int(dict(fields).get("content-length", "0")) if with_body else 0
    return Asked(method, target, fields, await reader.readexactly(length))


# Bytes to send


def head(fields: Iterable[tuple[str, str]], status: int = 200, reason: str = "Said") -> bytes:
    """The head of an answer; framing is among the fields."""
    lines = (f"{name}: {value}\r\n" for name, value in fields)
    return f"HTTP/1.1 {status} {reason}\r\n{''.join(lines)}\r\n".encode("latin-1")


def whole(body: bytes, fields: Iterable[tuple[str, str]] = JSON, status: int = 200) -> bytes:
    """A whole answer with its length."""
    return head((*fields, ("content-length", str(len(body)))), status) + body


def chunked_head(fields: Iterable[tuple[str, str]] = SSE, status: int = 200) -> bytes:
    """The head of an answer that comes in chunks."""
    return head((*fields, ("transfer-encoding", "chunked")), status)


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    """One HTTP chunk."""
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


LAST = b"0\r\n\r\n"


# Behaviours


def says(*pieces: bytes, keep: bool = False) -> Behaviour:
    """Send these, then hang up or keep the connection."""

    async def behave(peer: Peer) -> None:
        await peer.send(*pieces)
        if keep:
            peer.keep()

    return behave


def streams(
    *pieces: bytes, fields: Iterable[tuple[str, str]] = SSE, extension: bytes = b""
) -> Behaviour:
    """A whole stream, each piece in a chunk and a packet of its own; the connection stays."""
    chunks = (chunk(piece, extension) for piece in pieces)
    return says(*chain((chunked_head(fields),), chunks, (LAST,)), keep=True)


def holds(*pieces: bytes, left: asyncio.Event | None = None) -> Behaviour:
    """Send these and nothing more, until the other side hangs up."""

    async def behave(peer: Peer) -> None:
        await peer.send(*pieces)
        await peer.left()
        if left is not None:
            left.set()

    return behave


async def hangs_up(peer: Peer) -> None:
    """No answer at all."""


async def resets(peer: Peer) -> None:
    """No answer, and a broken connection."""
    peer.reset()
