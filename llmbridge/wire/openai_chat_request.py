"""Requests of OpenAI Chat Completions to canon and back.

Source: OpenAI API reference, "Create chat completion". Audio and file parts are left out of canon; system messages
are joined, wherever they stood.
"""

from collections.abc import Iterator
from typing import Any

from llmbridge.canon.messages import (
    Ask,
    AssistantMessage,
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
from llmbridge.canon.partial_json import parse_partial
from llmbridge.wire.loose_json import is_object, objects


def decode(body: JsonObject) -> Ask:
    """The request in canon; every key that is not model, stream, messages or tools is an option."""
    turns = objects(body.get("messages"))
    system = [
        part.text
        for turn in turns
        if turn.get("role") in ("system", "developer")
        for part in _parts(turn.get("content"))
        if isinstance(part, Text)
    ]
    context = Context(
        system="\n\n".join(system),
        messages=tuple(message for turn in turns for message in _decode_turn(turn)),
        tools=tuple(spec for tool in objects(body.get("tools")) for spec in _decode_tool(tool)),
    )
    known = ("model", "stream", "messages", "tools")
    options = {key: value for key, value in body.items() if key not in known}
    return Ask(str(body.get("model") or ""), context, body.get("stream") is True, options)


def encode(ask: Ask) -> JsonObject:
    """The request body, without keys that would be empty."""
    context = ask.context
    messages = [_encode_turn(message) for message in context.messages]
    if context.system:
        messages.insert(0, {"role": "system", "content": context.system})
    body: dict[str, Any] = {"model": ask.model, "messages": messages, **ask.options}
    if context.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                },
            }
            for tool in context.tools
        ]
    if ask.streaming:
        body = {"stream_options": {"include_usage": True}, **body, "stream": True}
    return body


def _decode_turn(turn: dict[str, Any]) -> Iterator[Message]:
    match turn.get("role"):
        case "user":
            yield UserMessage(_parts(turn.get("content")))
        case "assistant":
            yield AssistantMessage(tuple(_decode_said(turn)))
        case "tool" | "function":
            yield ToolResult(
                str(turn.get("tool_call_id") or ""),
                _parts(turn.get("content")),
                name=str(turn.get("name") or ""),
            )
        case _:
            pass


def _decode_said(turn: dict[str, Any]) -> Iterator[Text | Thinking | ToolCall]:
    thought = turn.get("reasoning_content") or turn.get("reasoning")
    if isinstance(thought, str):
        yield Thinking(thought)
    for part in _parts(turn.get("content")):
        if isinstance(part, Text):
            yield part
    for call in objects(turn.get("tool_calls")):
        custom = call.get("type") == "custom"
        function = call.get("custom" if custom else "function")
        if is_object(function):
            text = str(function.get("input" if custom else "arguments") or "")
            value = text if custom else _value(text)
            yield ToolCall(
                str(call.get("id") or ""), str(function.get("name", "")), value, text, custom=custom
            )


def _value(text: str) -> Any:
    try:
        return parse_partial(text)
    except ValueError:
        return {}


def _parts(content: Any) -> tuple[Text | Image, ...]:
    if isinstance(content, str):
        return (Text(content),)
    return tuple(part for wire in objects(content) for part in _decode_part(wire))


def _decode_part(wire: dict[str, Any]) -> Iterator[Text | Image]:
    picture = wire.get("image_url")
    if isinstance(wire.get("text"), str):
        yield Text(wire["text"])
    elif is_object(picture):
        yield _image(str(picture.get("url", "")))


def _image(url: str) -> Image:
    head, found, data = url.partition(";base64,")
    if found and head.startswith("data:"):
        return Image(head.removeprefix("data:"), data)
    return Image(url=url)


def _decode_tool(tool: dict[str, Any]) -> Iterator[ToolSpec]:
    function = tool.get("function")
    if is_object(function):
        schema = function.get("parameters")
        yield ToolSpec(
            str(function.get("name", "")),
            str(function.get("description") or ""),
            schema if is_object(schema) else {},
        )


def _encode_turn(message: Message) -> JsonObject:
    match message:
        case UserMessage():
            return {"role": "user", "content": [_encode_part(part) for part in message.content]}
        case ToolResult():
            content = "".join(part.text for part in message.content if isinstance(part, Text))
            turn = {"role": "tool", "tool_call_id": message.tool_call_id, "content": content}
            return {**turn, "name": message.name} if message.name else turn
        case AssistantMessage():
            return _encode_said(message)


def _encode_said(message: AssistantMessage) -> JsonObject:
    turn: dict[str, Any] = {"role": "assistant", "content": message.text or None}
    if message.thinking:
        turn["reasoning_content"] = message.thinking
    if message.tool_calls:
        turn["tool_calls"] = [_encode_call(call) for call in message.tool_calls]
    return turn


def _encode_call(call: ToolCall) -> JsonObject:
    kind, key = ("custom", "input") if call.custom else ("function", "arguments")
    text = call.text if call.custom else call.text or "{}"
    return {"id": call.id, "type": kind, kind: {"name": call.name, key: text}}


def _encode_part(part: Text | Image) -> JsonObject:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Image():
            url = part.url or f"data:{part.mime_type};base64,{part.data}"
            return {"type": "image_url", "image_url": {"url": url}}
