"""The client of pace: many streams at once, the lateness of each event, every byte compared.

    python -m tests.bench.punctuality PORT SCHEDULE STREAMS

Prints JSON: `late_ms`, by how much each piece came later than SCHEDULE has it, counted from the write of its request,
and how many were `joined` to the one before. Ends with 1, and says why, when an answer has other bytes.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Iterator
from itertools import accumulate
from operator import sub
from pathlib import Path
from typing import Any

LIMIT_S = 30
LAST = b"\r\n0\r\n\r\n"


class Listener(asyncio.Protocol):
    """Only notes what came when: it is read when all is over."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, bytes]] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: Any = None
        self.tail = b""
        self.asked = 0.0

    def connection_made(self, transport) -> None:
        self.transport = transport

    def ask(self, request: bytes) -> None:
        self.asked = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.heard.append((time.perf_counter(), data))
        # The last chunk may come in two reads.
        self.tail = (self.tail + data)[-len(LAST) :]
        if self.tail == LAST and not self.over.done():
            self.over.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(exc or EOFError("the server closed inside a reply"))

    def pieces(self) -> list[tuple[float, bytes]]:
        """The body as it was framed, each piece with the ms since the request at which it was whole."""
        found, held, in_head = [], b"", True
        for when, data in self.heard:
            held += data
            if in_head:
                head, blank, rest = held.partition(b"\r\n\r\n")
                if not blank:
                    continue
                if not head.startswith(b"HTTP/1.1 200 "):
                    raise ValueError(f"not a success: {held[:500]!r}")
                held, in_head = rest, False
            while (piece := first_piece(held)) is not None:
                found.append((1e3 * (when - self.asked), piece))
                held = held[len(b"%x\r\n\r\n" % len(piece)) + len(piece) :]
        *whole, (_, last) = found
        if last:
            raise ValueError("the reply does not end as it should")
        return whole


def first_piece(held: bytes) -> bytes | None:
    """The first chunk if it is all there; the last one is empty."""
    size, end, rest = held.partition(b"\r\n")
    if not end or len(rest) < int(size, 16) + 2:
        return None
    return rest[: int(size, 16)]


def arrivals(came: list[tuple[float, bytes]], expected: list[bytes]) -> Iterator[float]:
    """When each expected piece was whole: a server that is late may send several in one.

    Raises:
        ValueError: these are not the same bytes.
    """
    if b"".join(piece for _, piece in came) != b"".join(expected):
        raise ValueError("an answer is not the recorded one, byte by byte")
    ends = accumulate(len(piece) for _, piece in came)
    times = iter(zip(ends, (when for when, _ in came), strict=True))
    end, when = next(times)
    for wanted in accumulate(map(len, expected)):
        while end < wanted:
            end, when = next(times)
        yield when


async def listen(port: int, request: bytes, streams: int) -> list[Listener]:
    loop = asyncio.get_running_loop()
    listeners = [
        (await loop.create_connection(Listener, "127.0.0.1", port))[1] for _ in range(streams)
    ]
    for listener in listeners:
        listener.ask(request)
    async with asyncio.timeout(LIMIT_S):
        for listener in listeners:
            await listener.over
    return listeners


def written(port: int, body: str) -> bytes:
    data = body.encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    ).encode() + data


def main() -> None:
    port, streams = int(sys.argv[1]), int(sys.argv[3])
    schedule = json.loads(Path(sys.argv[2]).read_bytes())
    due_ms = [ms for ms, _ in schedule["pieces"]]
    expected = [text.encode() for _, text in schedule["pieces"]]
    # A collection would count as the server's lateness.
    gc.disable()
    listeners = asyncio.run(listen(port, written(port, schedule["request"]), streams))
    late_ms: list[float] = []
    joined = 0
    for listener in listeners:
        came = listener.pieces()
        late_ms += map(sub, arrivals(came, expected), due_ms)
        joined += len(expected) - len(came)
    json.dump({"late_ms": late_ms, "joined": joined}, sys.stdout)


if __name__ == "__main__":
    main()
