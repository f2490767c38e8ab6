"""An answer's bytes on their way to the client: inflated where they are compressed, and no more than a limit."""

from collections.abc import AsyncIterator, Iterator

from llmbridge.errors import UpstreamLimit
from llmbridge.upstreams.answer import Answer
from llmbridge.upstreams.inflate import Inflater


class Body:
    """Iterate once. What was read ahead comes again, in one piece; the end and any failure let go of the answer.

    Raises:
        UpstreamError: the answer is encoded in a way that is not known here.
    """

    __slots__ = ("_ahead", "_answer", "_count", "_inflater", "_limit_bytes", "_pieces")

    def __init__(self, answer: Answer, coding: str, limit_bytes: int) -> None:
        self._answer = answer
        self._limit_bytes = limit_bytes
        self._count = 0
        self._ahead = b""
        self._inflater = Inflater(coding) if coding else None
        self._pieces: Iterator[bytes] = iter(())

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return ahead
        try:
            chunk = await self.read()
        except BaseException:
            await self._answer.aclose()
            raise
        if not chunk:
            await self._answer.aclose()
            raise StopAsyncIteration
        return chunk

    async def read(self) -> bytes:
        """The next bytes; none at the end.

        Raises:
            UpstreamLimit: the answer is larger than the bridge allows.
            UpstreamError: it broke off.
        """
        chunk = await (self._answer.read() if self._inflater is None else self._inflate())
        self._count += len(chunk)
        if self._count > self._limit_bytes:
            raise UpstreamLimit(f"the answer is larger than {self._limit_bytes:,} bytes")
        return chunk

    def unread(self, ahead: bytes) -> None:
        """Have these bytes come first."""
        self._ahead = ahead

    async def aclose(self) -> None:
        """Let go of the answer."""
        await self._answer.aclose()

    async def _inflate(self) -> bytes:
        assert self._inflater is not None, "asked before"
        while not (piece := next(self._pieces, b"")):
            chunk = await self._answer.read()
            if not chunk:
                self._inflater.close()
                return b""
            self._pieces = self._inflater.feed(chunk)
        return piece
