"""A client of one dialect, a provider of another: the request and its answer through canon.

Carried: system prompt, text, images, thinking, tools, their calls and results, the shared settings, stop reasons, usage,
errors with their status. A request with anything else is refused, by name. Left out are hints (prompt cache marks, `name`
and `strict` of a message or tool, `detail` of an image) and the thinking of earlier turns, signed for whoever thought it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from dataclasses import replace

from llmbridge.canon.events import (
    BlockStart,
    Delta,
    Fail,
    Finish,
    Snapshot,
    Start,
    fold,
)
from llmbridge.canon.messages import (
    Ask,
    AssistantMessage,
    Image,
    Message,
    Thinking,
    ToolCall,
    ToolResult,
)
from llmbridge.errors import BridgeError, RequestError, UpstreamError
from llmbridge.exchange.call import Call, Handler, Headers, Reply, no_farewell, once
from llmbridge.exchange.codec import read_deltas
from llmbridge.exchange.failure import error_with
from llmbridge.exchange.json_array import as_array, wants_array
from llmbridge.exchange.json_body import json_body
from llmbridge.exchange.proxied import PROXIES
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.error_bodies import dump, error_fields
from llmbridge.wire.proxy_stream import PROXY_STREAM
from llmbridge.wire.settings import SETTINGS, Untranslatable
from llmbridge.wire.sse import encode_sse

_STREAM = (
    ("content-type", "text/event-stream"),
    ("cache-control", "no-cache"),
    ("x-accel-buffering", "no"),
)
_EMPTY = frozenset({204, 205})
_PLAIN_RESULTS = frozenset({"openai.chat", "google.gemini"})
_OF_THE_BODY = ("content-type", "content-length", "content-encoding", "transfer-encoding")
_OF_A_PROVIDER = ("anthropic-", "openai-", "x-stainless-")


def translate(call: Call, forward: Handler) -> Awaitable[Reply]:
    """Forward the call in its provider's dialect, answer in the client's."""
    client = call.client_dialect
    return forward(call) if client is None else _translated(call, client, forward)


async def _translated(call: Call, client: Dialect, forward: Handler) -> Reply:
    ask, body = _question(call, client)
    fields = (pair for pair in call.request.headers.pairs if _passes(pair[0]))
    request = replace(call.request, headers=Headers(fields), body=body)
    told_in_stream = client.name == PROXY_STREAM.name
    try:
        reply = await forward(replace(call, request=request))
    except UpstreamError as error:
        if not told_in_stream:
            raise
        return _failed(call, ask, error, None)
    if call.streaming and 200 <= reply.status < 300 and reply.status not in _EMPTY:
        return _streamed(call, client, ask, reply)
    if told_in_stream:
        message = fold([delta async for delta in read_deltas(call.dialect, reply)])
        said = f"{call.provider.name}: HTTP {reply.status}: {message.error}"
        return _failed(call, ask, reply.error or error_with(reply.status, said), reply, said)
    return await _whole(call.dialect, client, reply)


def _failed(
    call: Call, ask: Ask, error: BridgeError, source: Reply | None, said: str | None = None
) -> Reply:
    """A refusal for clients who take it for a broken transport unless it comes in a stream."""
    assert call.client_dialect is not None, "only called for a client of another dialect"
    snapshot, encoder = Snapshot(), call.client_dialect.encoder(ask)
    said = said or f"{call.provider.name}: {error.message}"
    events = [snapshot.apply(delta) for delta in (Start(), Fail(error.kind, said))]
    body = b"".join(encode_sse(sse) for event in events for sse in encoder.feed(event))
    reply = Reply(200, Headers(_STREAM), once(body), source=source, at_once=True)
    reply.settled = (source.end if source else None) or error.end
    reply.error, reply.farewell = error, no_farewell
    return reply


def _passes(name: str) -> bool:
    lower = name.lower()
    return lower != "content-length" and not lower.startswith(_OF_A_PROVIDER)


def _question(call: Call, client: Dialect) -> tuple[Ask, bytes]:
    """What the client asks, and the body that asks the provider.

    Raises:
        RequestError: something in it cannot be carried.
    """
    body = json_body(call.request)
    ask, asked, spoken = (
        client.decode_request(body),
        SETTINGS[client.name],
        SETTINGS[call.dialect.name],
    )
    try:
        if strange := ", ".join(dict.fromkeys(asked.strange(body))):
            raise Untranslatable(strange)
        options = spoken.encode(asked.decode(ask.options))
        proxied = client.name in PROXIES
        messages = tuple(
            _carried(message, call.dialect, proxied=proxied) for message in ask.context.messages
        )
    except Untranslatable as error:
        raise RequestError(
            f"a route leads from {client.name} to {call.dialect.name}, which cannot carry {error}:"
            " leave it out, or ask a provider that speaks the client's dialect"
        ) from None
    except (AttributeError, TypeError) as error:
        raise RequestError(f"the request is not of {client.name}: {error}") from None
    context = replace(ask.context, messages=messages)
    model = call.model or ask.model
    wanted = call.dialect.encode_request(Ask(model, context, call.streaming, options))
    ask = replace(ask, model=model, provider=call.provider.name)
    renames = call.provider.renames
    return ask, dump({renames.get(name, name): value for name, value in wanted.items()})


def _carried(message: Message, spoken: Dialect, *, proxied: bool) -> Message:
    if isinstance(message, AssistantMessage):
        # A proxy's client brings back what this provider thought and signed; tools need it there.
        if proxied and spoken.name == "anthropic.messages":
            return message
        return replace(
            message, content=tuple(b for b in message.content if not isinstance(b, Thinking))
        )
    pictured = any(isinstance(part, Image) for part in message.content)
    if isinstance(message, ToolResult) and pictured and spoken.name in _PLAIN_RESULTS:
        raise Untranslatable("an image in a tool's result")
    return message


def _streamed(call: Call, client: Dialect, ask: Ask, reply: Reply) -> Reply:
    array = wants_array(client, call.request.target)
    last, over = b"", array or reply.replayed

    async def encoded(source: Reply) -> AsyncGenerator[bytes]:
        nonlocal last, over
        snapshot, encoder = Snapshot(), client.encoder(ask)
        async with aclosing(_plain(read_deltas(call.dialect, source))) as deltas:
            async for delta in deltas:
                over = over or isinstance(delta, Finish | Fail)
                events = encoder.feed(snapshot.apply(delta))
                if piece := b"".join(encode_sse(sse) for sse in events):
                    last = piece
                    yield piece

    def farewell(error: BridgeError) -> bytes:
        return b"" if over else encode_sse(client.encode_error_event(error, last))

    def spelled(source: Reply) -> AsyncIterator[bytes]:
        return as_array(encoded(source)) if array else encoded(source)

    answer = reply.through(spelled, prompt=True)
    # Some clients take 200 alone for a stream.
    answer.status = 200
    kind = (("content-type", "application/json"), *_STREAM[1:]) if array else _STREAM
    answer.headers = Headers((*kind, *reply.headers.without(*_OF_THE_BODY, *dict(_STREAM)).pairs))
    # What breaks off there is an event of the client's dialect already; what ends here is not.
    answer.farewell = farewell
    return answer


async def _plain(deltas: AsyncGenerator[Delta]) -> AsyncGenerator[Delta]:
    """Without the provider's own words, which encoders would rather use than ours; every tool call has an id."""
    answer = ""
    async with aclosing(deltas):
        async for delta in deltas:
            match delta:
                case Start(_, response_id):
                    answer = response_id or ""
                case BlockStart(index, ToolCall(id="") as call):
                    # Google names calls by their function alone: others tell them apart by an id.
                    named = replace(call, id=f"call_{answer or 'x'}_{index}")
                    delta = BlockStart(index, named)
                case Finish() | Fail():
                    usage = delta.usage and replace(delta.usage, raw={})
                    delta = replace(delta, stop=None, usage=usage)
                case _:
                    pass
            yield delta


async def _whole(spoken: Dialect, client: Dialect, reply: Reply) -> Reply:
    message = fold([delta async for delta in _plain(read_deltas(spoken, reply))])
    status, error = reply.status, reply.error
    if message.stop_reason == "error" or message.error_type or status >= 400:
        status = status if status >= 400 else 502
        error = error or error_with(status, message.error or f"the provider answered {status}")
        body = client.encode_error(error)
    else:
        body = client.encode_reply(message)
    fields = error_fields(body)
    headers = Headers([*fields, *reply.headers.without(*_OF_THE_BODY).pairs])
    answer = Reply(status, headers, once(body), source=reply)
    answer.farewell, answer.error = no_farewell, error
    return answer
