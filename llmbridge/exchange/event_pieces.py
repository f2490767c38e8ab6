"""A reply's bytes in whole events, each as it was sent."""

import re
from collections.abc import AsyncGenerator, Iterator

from llmbridge.errors import BridgeError
from llmbridge.exchange.call import Headers, Reply
from llmbridge.exchange.codec import is_event_stream

_BORDER = re.compile(rb"\r?\n\r?\n|\r\r")
_UNLABELLED = Headers()


class Pieces:
    """Cuts a stream's bytes after each event, its blank line included; `held` is what has not ended."""

    def __init__(self) -> None:
        self.held = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The events that this chunk completes, with the bytes that came."""
        seen = max(0, len(self.held) - 3)
        self.held += chunk
        start = 0
        while border := _BORDER.search(self.held, max(seen, start)):
            yield bytes(self.held[start : border.end()])
            start = border.end()
        del self.held[:start]


async def events(source: Reply) -> AsyncGenerator[bytes]:
    """One piece for each event, its blank line included; an answer that is no stream counts as one event."""
    pieces, is_stream = Pieces(), None
    try:
        async for chunk in source:
            if is_stream is None:
                is_stream = is_event_stream(source.status, source.headers, chunk)
            if is_stream:
                for piece in pieces.feed(chunk):
                    yield piece
            else:
                pieces.held += chunk
    except BridgeError:
        if pieces.held:
            yield bytes(pieces.held)
        raise
    if pieces.held:
        yield bytes(pieces.held)


def is_event(piece: bytes) -> bool:
    """True for a piece of a stream, False for a whole answer."""
    return is_event_stream(200, _UNLABELLED, piece)


def with_half_the_data(event: bytes) -> bytes:
    """The event with its last line of data cut in half; the blank line stays."""
    body = event.rstrip(b"\r\n")
    start = body.rfind(b"data:") + len(b"data:")
    return body[: start + (len(body) - start) // 2] + event[len(body) :]
