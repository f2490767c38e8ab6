"""The interception's id in place of the provider's, in answers of Anthropic Messages and Chat Completions.

Source: aibridge, which always does it. Here it is an interceptor that one has to ask for, since it changes bytes:
`Bridge(interceptors=[interception_ids])`. Responses keep theirs, by which clients go on with `previous_response_id`;
records keep the provider's.
"""

from collections.abc import AsyncIterator
from typing import Any

from llmbridge.exchange.call import Call, Handler, Reply
from llmbridge.exchange.event_pieces import events
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.fast_json import loads_object
from llmbridge.wire.loose_json import is_object
from llmbridge.wire.sse import SSE, SSEDecoder, encode_sse

_CHANGED = ("anthropic.messages", "openai.chat")


async def interception_ids(call: Call, forward: Handler) -> Reply:
    """Answer under the interception's id."""
    reply = await forward(call)
    spoken = call.client_dialect or call.dialect
    if reply.status >= 400 or spoken.name not in _CHANGED:
        return reply

    async def renamed(source: Reply) -> AsyncIterator[bytes]:
        async for piece in events(source):
            yield _renamed(piece, call.id)

    answer = reply.through(renamed, prompt=True)
    answer.headers = reply.headers.without("content-length")
    return answer


def _renamed(piece: bytes, id: str) -> bytes:
    if piece.lstrip().startswith(b"{"):
        whole = loads_object(piece)
        return dump({**whole, "id": id}) if "id" in whole else piece
    decoder = SSEDecoder()
    for sse in [*decoder.feed(piece), *decoder.close()]:
        data = loads_object(sse.data)
        message: Any = data.get("message")
        if is_object(message) and "id" in message:
            data = {**data, "message": {**message, "id": id}}
        elif isinstance(data.get("id"), str):
            data = {**data, "id": id}
        else:
            return piece
        return encode_sse(SSE(sse.event, dump(data).decode()))
    return piece
