"""Compressed answers, inflated in small steps as they come.

The bridge asks for plain bytes; this is for providers that compress all the same.
"""

import zlib
from collections.abc import Iterator

from llmbridge.errors import StreamTruncated, UpstreamError, UpstreamLimit

STEP_BYTES = 64 * 1024
"""How much comes out at once; no bomb is in memory whole."""

MAX_RATIO = 100
"""Text shrinks to a tenth, seldom to a thirtieth. What grows more than this is a bomb, once it is large at all."""

_SMALL_BYTES = 1024 * 1024
_GZIP, _ZLIB, _RAW = 31, 15, -15


def coding_of(field: str) -> str:
    """What a `Content-Encoding` names, without the codings that change nothing."""
    names = (name.strip().lower() for name in field.split(","))
    return ", ".join(name for name in names if name not in ("", "identity"))


class Inflater:
    """Incremental gzip and deflate.

    Raises:
        UpstreamError: a coding that is not known here.
    """

    def __init__(self, coding: str) -> None:
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise UpstreamError(f"the answer is encoded as {coding!r}, which was not asked for")
        self._deflate = coding == "deflate"
        self._zlib = zlib.decompressobj(_GZIP)
        self._in_bytes = 0
        self._out_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What the chunk inflates to, piece by piece.

        Raises:
            UpstreamLimit: it grows beyond measure.
            UpstreamError: the bytes are not of this coding.
        """
        if chunk and not self._in_bytes:
            self._zlib = zlib.decompressobj(self._window(chunk))
        self._in_bytes += len(chunk)
        piece = b""
        # A full piece may leave more to come although all input was taken.
        while chunk or len(piece) == STEP_BYTES:
            if self._zlib.eof:
                if chunk[:1] != b"\x1f":
                    return
                # Some servers close one compressed stream and begin another.
                self._zlib = zlib.decompressobj(_GZIP)
            try:
                piece = self._zlib.decompress(chunk, STEP_BYTES)
            except zlib.error as error:
                raise UpstreamError(f"the answer's compression is broken: {error}") from error
            chunk = self._zlib.unused_data or self._zlib.unconsumed_tail
            self._out_bytes += len(piece)
            if self._out_bytes > max(_SMALL_BYTES, self._in_bytes * MAX_RATIO):
                raise UpstreamLimit(f"the answer inflates to more than {MAX_RATIO} times its size")
            if piece:
                yield piece

    def close(self) -> None:
        """Check that the compressed data came whole.

        Raises:
            StreamTruncated: it did not.
        """
        if self._in_bytes and not self._zlib.eof:
            raise StreamTruncated("the compressed answer stopped before its end")

    def _window(self, chunk: bytes) -> int:
        if not self._deflate:
            return _GZIP
        # Some servers mean the bare format by "deflate", without the header that the standard asks for.
        return _ZLIB if chunk[0] & 0x0F == 8 else _RAW
