"""What the clients of `/stream` and `/api/stream` send: one message model in three spellings.

Source: the proxy clients of bitop-dev/agent, tinyagent and pi. Read liberally: pi writes `toolCallId` where the others
write `tool_call_id`; images come as base64 `data` or as a `url`. Written in snake case.
"""

from collections.abc import Iterator
from typing import Any

from llmbridge.canon.messages import (
    AssistantMessage,
    Block,
    Context,
    Image,
    JsonObject,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    UserMessage,
)
from llmbridge.errors import RequestError
from llmbridge.wire.loose_json import camel, is_list, is_object, objects, text

ROLES = ("user", "assistant", "tool_result", "toolResult")
BLOCKS = ("text", "thinking", "tool_call", "toolCall", "image")

_DEAREST = 1e12
REDACTED = "redacted:"
"""Before the signature of thinking that nobody may read: these wires have no other place for that."""


def decode_context(body: JsonObject, provider: str) -> Context:
    """The conversation. Thinking stays where `provider` thought it and signed it: nobody else can read it.

    Raises:
        RequestError: the context is no object, or its messages no array of objects.
    """
    context = body.get("context")
    if context is None:
        return Context()
    if not is_object(context):
        raise RequestError(
            f"context is {context!r:.80}, which is no object: send one with messages"
        )
    said = context.get("messages")
    if said is not None and not (is_list(said) and all(is_object(turn) for turn in said)):
        raise RequestError(f"context.messages is {said!r:.80}, which is no array of objects")
    turns = objects(context.get("messages"))
    return Context(
        system=text(_named(context, "system_prompt")),
        messages=tuple(message for turn in turns for message in _decode_turn(turn, provider)),
        tools=tuple(_decode_tool(tool) for tool in objects(context.get("tools"))),
    )


def strange(body: JsonObject) -> Iterator[str]:
    """Roles and blocks that nothing here knows."""
    context = body.get("context")
    turns = objects(context.get("messages")) if is_object(context) else []
    for turn in turns:
        if turn.get("role") not in ROLES:
            yield f"messages: role {turn.get('role')!r}"
        for part in objects(turn.get("content")):
            if part.get("type") not in BLOCKS:
                yield f"messages: {part.get('type')!r}"


def _named(holder: JsonObject, name: str) -> Any:
    """The value under this name, in either case."""
    return holder[name] if name in holder else holder.get(camel(name))


def _decode_turn(turn: dict[str, Any], provider: str) -> Iterator[Message]:
    match turn.get("role"):
        case "user":
            yield UserMessage(_parts(turn.get("content")))
        case "assistant":
            own = turn.get("provider") in (None, "", provider)
            content = turn.get("content")
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            yield AssistantMessage(
                tuple(
                    block
                    for wire in objects(blocks)
                    for block in _decode_block(wire)
                    if not isinstance(block, Thinking) or (own and block.signature)
                )
            )
        case "tool_result" | "toolResult":
            yield ToolResult(
                text(_named(turn, "tool_call_id")),
                _parts(turn.get("content")),
                _named(turn, "is_error") is True,
                text(_named(turn, "tool_name")),
            )
        case _:
            pass


def _decode_block(wire: dict[str, Any]) -> Iterator[Block]:
    match wire.get("type"):
        case "text":
            yield Text(text(wire.get("text")))
        case "thinking":
            signature = text(_named(wire, "thinking_signature"))
            redacted = wire.get("redacted") is True or signature.startswith(REDACTED)
            words = "" if redacted else text(wire.get("thinking"))
            yield Thinking(words, signature.removeprefix(REDACTED) or None, redacted)
        case "tool_call" | "toolCall":
            arguments = wire.get("arguments")
            yield ToolCall(
                text(wire.get("id")),
                text(wire.get("name")),
                arguments if is_object(arguments) else {},
            )
        case _:
            pass


def _parts(content: Any) -> tuple[Text | Image, ...]:
    if isinstance(content, str):
        return (Text(content),)
    return tuple(part for wire in objects(content) for part in _decode_part(wire))


def _decode_part(wire: dict[str, Any]) -> Iterator[Text | Image]:
    match wire.get("type"):
        case "text":
            yield Text(text(wire.get("text")))
        case "image":
            url = text(wire.get("url"))
            head, inline, data = url.partition(";base64,")
            if inline and head.startswith("data:"):
                yield Image(head.removeprefix("data:"), data)
            else:
                yield Image(text(_named(wire, "mime_type")), text(wire.get("data")), url)
        case _:
            pass


def _decode_tool(tool: dict[str, Any]) -> ToolSpec:
    schema = tool.get("parameters")
    return ToolSpec(
        text(tool.get("name")), text(tool.get("description")), schema if is_object(schema) else {}
    )


def encode_context(context: Context, provider: str, model: str) -> dict[str, Any]:
    """The conversation in snake case; no key that would be empty but the system prompt."""
    wire: dict[str, Any] = {
        "system_prompt": context.system,
        "messages": [_encode_turn(message, provider, model) for message in context.messages],
    }
    if context.tools:
        wire["tools"] = [
            {"name": t.name, "description": t.description, "parameters": t.parameters}
            for t in context.tools
        ]
    return wire


def _encode_turn(message: Message, provider: str, model: str) -> JsonObject:
    match message:
        case UserMessage():
            content = [_encode_part(part) for part in message.content]
            return {"role": "user", "content": content, "timestamp": 0}
        case AssistantMessage():
            return encode_message(message, provider, model)
        case ToolResult():
            turn: dict[str, Any] = {
                "role": "tool_result",
                "content": [_encode_part(part) for part in message.content],
                "tool_call_id": message.tool_call_id,
                "tool_name": message.name,
                "is_error": message.is_error,
                "timestamp": 0,
            }
            return {name: value for name, value in turn.items() if value or name == "timestamp"}


def encode_message(message: AssistantMessage, provider: str, model: str) -> dict[str, Any]:
    """An assistant message, whole or so far; a time of 0 says that nobody set one."""
    said = {"model": message.model or model, "provider": provider}
    wire: dict[str, Any] = {
        "role": "assistant",
        "content": [encode_block(block) for block in message.content],
        **{name: value for name, value in said.items() if value},
        "usage": encode_usage(message.usage),
        "stop_reason": message.stop_reason or "",
    }
    if message.error:
        wire["error_message"] = message.error
    return {**wire, "timestamp": 0}


def encode_block(block: Block) -> JsonObject:
    """A block without the keys that would be empty."""
    match block:
        case Text():
            wire: dict[str, Any] = {"type": "text", "text": block.text}
        case Thinking():
            wire = {"type": "thinking", "thinking": block.text}
            wire |= {"thinking_signature": block.signature, "redacted": block.redacted}
        case ToolCall():
            wire = {"type": "tool_call", "id": block.id, "name": block.name}
            wire |= {"arguments": block.arguments}
    return {name: value for name, value in wire.items() if value}


def _encode_part(part: Text | Image) -> JsonObject:
    match part:
        case Text():
            wire = {"type": "text", "text": part.text}
        case Image():
            wire = {"type": "image", "data": part.data, "mime_type": part.mime_type}
            wire |= {"url": part.url}
    return {name: value for name, value in wire.items() if value}


def encode_usage(usage: Usage | None, prices: JsonObject | None = None) -> dict[str, Any]:
    """Uncached input, output, cache, the total, and what they cost by these prices (dollars a million tokens)."""
    usage = usage or Usage()
    counts = {
        "input": usage.input_tokens or 0,
        "output": usage.output_tokens or 0,
        "cache_read": usage.cache_read_tokens or 0,
        "cache_write": usage.cache_write_tokens or 0,
    }
    cost: dict[str, float] = dict.fromkeys(counts, 0)
    for name, count in counts.items():
        price = _named(prices or {}, name)
        # The client's own prices: one that is no price must not break the stream at its last event.
        if isinstance(price, int | float) and 0 < price < _DEAREST and count:
            cost[name] = count * price / 1_000_000
    total = usage.total_tokens if usage.total_tokens is not None else sum(counts.values())
    return {**counts, "total_tokens": total, "cost": {**cost, "total": sum(cost.values())}}


def decode_usage(value: Any) -> Usage | None:
    """Counts as such a server sends them, in either case."""
    if not is_object(value):
        return None
    counts = {
        name: count if isinstance(count := _named(value, name), int) else None
        for name in ("input", "cache_read", "cache_write", "output", "total_tokens")
    }
    return Usage(
        counts["input"],
        counts["cache_read"],
        counts["cache_write"],
        counts["output"],
        None,
        counts["total_tokens"],
        value,
    )


def to_camel(value: Any) -> Any:
    """The same JSON with pi's keys."""
    if is_object(value):
        return {camel(name): to_camel(inner) for name, inner in value.items()}
    return [to_camel(item) for item in value] if is_list(value) else value
