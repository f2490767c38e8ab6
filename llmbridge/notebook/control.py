"""A door on loopback for one word: stop. A page takes it when the kernel runs a cell and hears no message.

It is open as long as the bridge, and answers only who has its token: that goes to the page in messages, never into a
trait, so no saved notebook holds it.
"""

import asyncio
from collections.abc import Callable
from secrets import compare_digest, token_urlsafe
from urllib.parse import unquote

HOST = "127.0.0.1"
HEAD_BYTES = 8 * 1024
HEAD_S = 5.0


class Control:
    """Listens from `open` to `close`, both on the loop that it lives on."""

    def __init__(self, stop: Callable[[str], bool], token: str | None = None) -> None:
        self.url = ""
        self._stop = stop
        self._path = f"/{token or token_urlsafe(24)}/stop/"
        self._host = ""
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    def __repr__(self) -> str:
        return f"Control({self._host or 'closed'})"

    async def open(self) -> None:
        """Take a free port."""
        self._server = await asyncio.start_server(self._serve, HOST, 0, limit=HEAD_BYTES)
        self._host = f"{HOST}:{self._server.sockets[0].getsockname()[1]}"
        self.url = f"http://{self._host}{self._path.rstrip('/')}"

    async def close(self) -> None:
        """Give the port back."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        self.url = self._host = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            async with asyncio.timeout(HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status = self._answer(head.decode("latin-1"))
                writer.write(
                    f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
                )
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            self._open.discard(writer)
            writer.close()

    def _answer(self, head: str) -> str:
        line, *lines = head.split("\r\n")
        method, _, rest = line.partition(" ")
        path = rest.partition(" ")[0]
        fields = {name.strip().lower(): value.strip() for name, _, value in _split(lines)}
        # A name that leads here by a trick of DNS is not ours.
        if fields.get("host") != self._host:
            return "421 Misdirected Request"
        door, id = path[: len(self._path)], path[len(self._path) :]
        if not compare_digest(door.encode("latin-1"), self._path.encode()):
            return "404 Not Found"
        if method != "POST":
            return "405 Method Not Allowed"
        return "204 No Content" if self._stop(unquote(id)) else "410 Gone"


def _split(lines: list[str]) -> list[tuple[str, str, str]]:
    return [line.partition(":") for line in lines if line]
