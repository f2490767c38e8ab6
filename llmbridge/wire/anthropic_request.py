"""Requests of Anthropic Messages to canon and back.

Source: Anthropic API reference, "Messages". Document blocks, citations and cache marks are left out of canon.
"""

from collections.abc import Iterator
from typing import Any

from llmbridge.canon.messages import (
    Ask,
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
    UserMessage,
)
from llmbridge.wire.loose_json import is_object, objects

DEFAULT_MAX_TOKENS = 4096


def decode(body: JsonObject) -> Ask:
    """The request in canon; every key that is not model, stream, system, messages or tools is an option."""
    known = ("model", "stream", "system", "messages", "tools")
    context = Context(
        system="\n\n".join(
            part.text for part in _parts(body.get("system")) if isinstance(part, Text)
        ),
        messages=tuple(
            message for turn in objects(body.get("messages")) for message in _decode_turn(turn)
        ),
        tools=tuple(_decode_tool(tool) for tool in objects(body.get("tools"))),
    )
    options = {key: value for key, value in body.items() if key not in known}
    return Ask(str(body.get("model") or ""), context, body.get("stream") is True, options)


def encode(ask: Ask) -> JsonObject:
    """The request body, without keys that would be empty."""
    context = ask.context
    body: dict[str, Any] = {"model": ask.model, "max_tokens": DEFAULT_MAX_TOKENS, **ask.options}
    if context.system:
        body["system"] = context.system
    body["messages"] = _encode_turns(context.messages)
    if context.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
            for tool in context.tools
        ]
    if ask.streaming:
        body["stream"] = True
    return body


def _decode_turn(turn: dict[str, Any]) -> Iterator[Message]:
    content = turn.get("content")
    if turn.get("role") == "assistant":
        blocks = (
            [{"type": "text", "text": content}] if isinstance(content, str) else objects(content)
        )
        yield AssistantMessage(tuple(b for wire in blocks for b in _decode_block(wire)))
        return
    for wire in objects(content):
        if wire.get("type") == "tool_result":
            yield ToolResult(
                str(wire.get("tool_use_id", "")),
                _parts(wire.get("content")),
                wire.get("is_error") is True,
            )
    said = _parts(content)
    if said or not objects(content):
        yield UserMessage(said)


def _decode_block(wire: dict[str, Any]) -> Iterator[Block]:
    match wire.get("type"):
        case "text":
            yield Text(str(wire.get("text", "")))
        case "thinking":
            yield Thinking(str(wire.get("thinking", "")), wire.get("signature") or None)
        case "redacted_thinking":
            yield Thinking("", str(wire.get("data", "")), redacted=True)
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            yield ToolCall(
                str(wire.get("id", "")),
                str(wire.get("name", "")),
                wire.get("input") or {},
                server=wire["type"] != "tool_use",
            )
        case _:
            pass


def _parts(content: Any) -> tuple[Text | Image, ...]:
    if isinstance(content, str):
        return (Text(content),)
    return tuple(part for wire in objects(content) for part in _decode_part(wire))


def _decode_part(wire: dict[str, Any]) -> Iterator[Text | Image]:
    source = wire.get("source")
    if wire.get("type") == "text":
        yield Text(str(wire.get("text", "")))
    elif wire.get("type") == "image" and is_object(source):
        yield Image(
            str(source.get("media_type", "")),
            str(source.get("data", "")),
            str(source.get("url", "")),
        )


def _decode_tool(tool: dict[str, Any]) -> ToolSpec:
    schema = tool.get("input_schema")
    return ToolSpec(
        str(tool.get("name", "")),
        str(tool.get("description") or ""),
        schema if is_object(schema) else {},
    )


def _encode_turns(messages: tuple[Message, ...]) -> list[JsonObject]:
    turns: list[dict[str, Any]] = []
    for message in messages:
        match message:
            case UserMessage():
                turns.append(
                    {"role": "user", "content": [_encode_part(p) for p in message.content]}
                )
            case AssistantMessage():
                content = [_encode_block(block) for block in message.content]
                turns.append({"role": "assistant", "content": content})
            case ToolResult():
                result = _encode_result(message)
                # The results of one turn belong in one user message.
                if turns and turns[-1].get("results"):
                    turns[-1]["content"].append(result)
                else:
                    turns.append({"role": "user", "content": [result], "results": True})
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def _encode_result(result: ToolResult) -> JsonObject:
    wire: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": result.tool_call_id,
        "content": [_encode_part(part) for part in result.content],
    }
    return {**wire, "is_error": True} if result.is_error else wire


def _encode_part(part: Text | Image) -> JsonObject:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Image(url=str(url)) if url:
            return {"type": "image", "source": {"type": "url", "url": url}}
        case Image():
            source = {"type": "base64", "media_type": part.mime_type, "data": part.data}
            return {"type": "image", "source": source}


def _encode_block(block: Block) -> JsonObject:
    match block:
        case Text():
            return {"type": "text", "text": block.text}
        case Thinking(redacted=True):
            return {"type": "redacted_thinking", "data": block.signature or ""}
        case Thinking():
            return {"type": "thinking", "thinking": block.text, "signature": block.signature or ""}
        case ToolCall():
            kind = "server_tool_use" if block.server else "tool_use"
            return {"type": kind, "id": block.id, "name": block.name, "input": block.arguments}
