"""A reply's bytes in whole events, each as it was sent."""

import re
from collections.abc import AsyncGenerator

from llmbridge.errors import BridgeError
from llmbridge.exchange.call import Headers, Reply
from llmbridge.exchange.codec import is_event_stream

_BORDER = re.compile(rb"\r?\n\r?\n|\r\r")
_UNLABELLED = Headers()


async def events(source: Reply) -> AsyncGenerator[bytes]:
    """One piece for each event, its blank line included; an answer that is no stream counts as one event."""
    held, is_stream = bytearray(), None
    try:
        async for chunk in source:
            if is_stream is None:
                is_stream = is_event_stream(source.status, source.headers, chunk)
            seen = max(0, len(held) - 3)
            held += chunk
            if is_stream:
                while border := _BORDER.search(held, seen):
                    yield bytes(held[: border.end()])
                    del held[: border.end()]
                    seen = 0
    except BridgeError:
        if held:
            yield bytes(held)
        raise
    if held:
        yield bytes(held)


def is_event(piece: bytes) -> bool:
    """True for a piece of a stream, False for a whole answer."""
    return is_event_stream(200, _UNLABELLED, piece)


def with_half_the_data(event: bytes) -> bytes:
    """The event with its last line of data cut in half; the blank line stays."""
    body = event.rstrip(b"\r\n")
    start = body.rfind(b"data:") + len(b"data:")
    return body[: start + (len(body) - start) // 2] + event[len(body) :]
