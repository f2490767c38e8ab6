"""Compressed answers, inflated as they come and never past a limit.

The bridge asks for plain bytes; this is for providers that compress all the same.
"""

import zlib

from llmbridge.errors import StreamTruncated, UpstreamError, UpstreamLimit

_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 47}


class Inflater:
    """Incremental gzip and deflate.

    Raises:
        UpstreamError: a coding that is not known here.
    """

    def __init__(self, coding: str) -> None:
        window = _WINDOWS.get(coding.strip().lower())
        if window is None:
            raise UpstreamError(f"the answer is encoded as {coding!r}, which was not asked for")
        self._zlib = zlib.decompressobj(window)

    def feed(self, chunk: bytes, limit_bytes: int) -> bytes:
        """What the chunk inflates to.

        Raises:
            UpstreamLimit: more than `limit_bytes` would come out.
            UpstreamError: the bytes are not of this coding.
        """
        try:
            plain = self._zlib.decompress(chunk, limit_bytes + 1)
        except zlib.error as error:
            raise UpstreamError(f"the answer's compression is broken: {error}") from error
        if len(plain) > limit_bytes:
            raise UpstreamLimit("the answer inflates to more than the bridge allows")
        return plain

    def close(self) -> None:
        """Check that the compressed data came whole.

        Raises:
            StreamTruncated: it did not.
        """
        if not self._zlib.eof:
            raise StreamTruncated("the compressed answer stopped before its end")
