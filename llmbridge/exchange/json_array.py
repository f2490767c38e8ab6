"""A stream for Google's clients that ask for no events: one JSON array, an element for each response.

Source: Gemini API reference, "streamGenerateContent": events come with `?alt=sse` alone.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import parse_qs

from llmbridge.wire.dialect import Dialect
from llmbridge.wire.google_gemini import GOOGLE_GEMINI, operation
from llmbridge.wire.sse import SSEDecoder


def wants_array(asked: Dialect, target: str) -> bool:
    """True for a stream that its client reads as an array."""
    named = operation(target) if asked is GOOGLE_GEMINI else None
    if named is None or not named[1]:
        return False
    return "sse" not in parse_qs(target.partition("?")[2]).get("alt", ())


async def as_array(events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The data of these events as the elements of an array, each as soon as it is there."""
    decoder, opening = SSEDecoder(), b"["
    async with aclosing(events):
        async for piece in events:
            for sse in decoder.feed(piece):
                yield opening + sse.data.encode()
                opening = b",\r\n"
    yield b"[]" if opening == b"[" else b"]"
