"""Streams of OpenAI's shape that tell their usage only where asked: asked for, and kept from a client who did not ask.

Source: OpenAI, "Create chat completion", `stream_options`: one more chunk, with usage and no choices. Completions have it too.
"""

from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from typing import Any

from llmbridge.canon.strict_json import loads_strict
from llmbridge.exchange.call import Call, Handler, Reply
from llmbridge.exchange.event_pieces import events
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.fast_json import loads_object
from llmbridge.wire.loose_json import is_object
from llmbridge.wire.opaque import OPENAI_COMPLETIONS
from llmbridge.wire.openai_chat import OPENAI_CHAT

_TOLD_LAST = (OPENAI_CHAT, OPENAI_COMPLETIONS)
_ASKED = b',"stream_options":{"include_usage":true}}'


def ask_for_usage(call: Call, forward: Handler) -> Awaitable[Reply]:
    """Forward the call so that its record has the usage; what the client gets is as if nobody had asked."""
    if not (call.streaming and call.dialect in _TOLD_LAST and call.provider.stream_usage):
        return forward(call)
    body = asking(call.request.body)
    if body is None:
        return forward(call)
    return _kept_back(replace(call, request=replace(call.request, body=body)), forward)


def asking(body: bytes) -> bytes | None:
    """The body with the question for usage in it; None where it asks already, or is nothing to ask in."""
    if b'"stream_options"' not in body:
        whole = body.rstrip()
        # All else stays as the client wrote it.
        return whole[:-1] + _ASKED if whole.endswith(b"}") else None
    try:
        asked: Any = loads_strict(body)
    except ValueError:
        return None
    if not is_object(asked):
        return None
    options = asked.get("stream_options")
    if options is not None and (not is_object(options) or options.get("include_usage")):
        return None
    return dump({**asked, "stream_options": {**(options or {}), "include_usage": True}})


async def _kept_back(call: Call, forward: Handler) -> Reply:
    reply = await forward(call)
    # What is recorded has been served to somebody as it is.
    return reply if reply.replayed or reply.status >= 400 else reply.through(_without_usage)


async def _without_usage(source: Reply) -> AsyncIterator[bytes]:
    async for piece in events(source):
        if not _is_usage_alone(piece):
            yield piece


def _is_usage_alone(piece: bytes) -> bool:
    # Most chunks have a usage of null.
    if b'"usage"' not in piece or b'"choices"' not in piece or b"{" not in piece:
        return False
    data = piece.partition(b"data:")[2]
    if not data or b'"usage":null' in data:
        return False
    chunk = loads_object(data)
    return chunk.get("choices") == [] and is_object(chunk.get("usage"))
