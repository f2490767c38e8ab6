"""The yardstick of pace: asyncio alone, each piece written at a deadline from the request's arrival.

    python -m tests.bench.punctual SCHEDULE

SCHEDULE is JSON: {"pieces": [[ms since the request, text], ...]}. It reads nothing of a request but its end.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"

Pieces = list[tuple[float, bytes]]


class Punctual(asyncio.Protocol):
    def __init__(self, pieces: Pieces) -> None:
        self.pieces = pieces
        self.received = b""
        self.transport: Any = None

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, blank, body = self.received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if not blank or len(body) < int(length):
            return
        self.received = b""
        self.transport.write(HEAD)
        self.write_at(asyncio.get_running_loop().time(), 0)

    def write_at(self, arrived: float, place: int) -> None:
        loop = asyncio.get_running_loop()
        while place < len(self.pieces):
            due_s, piece = self.pieces[place]
            if arrived + due_s > loop.time():
                loop.call_at(arrived + due_s, self.write_at, arrived, place)
                return
            self.transport.write(piece)
            place += 1
        self.transport.write(LAST)


def framed(text: str) -> bytes:
    data = text.encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(pieces: Pieces) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Punctual(pieces), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    schedule = json.loads(Path(sys.argv[1]).read_bytes())
    asyncio.run(serve([(ms / 1e3, framed(text)) for ms, text in schedule["pieces"]]))


if __name__ == "__main__":
    main()
