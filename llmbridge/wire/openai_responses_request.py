"""Requests of OpenAI's Responses API to canon and back.

Source: OpenAI API reference, "Create a model response". Left out of canon: input items other than messages,
reasoning, calls and their outputs; files and stored images; item ids; `strict` and other marks of a function. The wire
has no place for the name of a result and whether it is an error, and does not tell where one reply of the assistant
ends and the next begins: text after text, and thinking after text, begin a new one.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, assert_never

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
from llmbridge.canon.partial_json import parse_partial
from llmbridge.wire.loose_json import is_object, objects, text
from llmbridge.wire.openai_responses_encoder import call_fields, reasoning_fields

_KNOWN = ("model", "stream", "instructions", "input", "tools")


def decode(body: JsonObject) -> Ask:
    """The request in canon. System and developer messages join the instructions, wherever they stand.

    Tools that are not functions stay among the options, as `tools`.
    """
    value = body.get("input")
    items = [{"role": "user", "content": value}] if isinstance(value, str) else objects(value)
    tools = objects(body.get("tools"))
    options = {key: value for key, value in body.items() if key not in _KNOWN}
    if others := [tool for tool in tools if tool.get("type") != "function"]:
        options["tools"] = others
    context = Context(
        system="\n\n".join(_system(body.get("instructions"), items)),
        messages=tuple(_decode_items(items)),
        tools=tuple(_decode_tool(tool) for tool in tools if tool.get("type") == "function"),
    )
    return Ask(text(body.get("model")), context, body.get("stream") is True, options)


def encode(ask: Ask) -> JsonObject:
    """The request body, without keys that would be empty.

    Calls that a provider ran itself are left out: canon does not hold their results.
    """
    context = ask.context
    body: dict[str, Any] = {"model": ask.model, **ask.options}
    if context.system:
        body["instructions"] = context.system
    body["input"] = list(_encode_messages(context.messages))
    if context.tools:
        tools = [_encode_tool(tool) for tool in context.tools]
        body["tools"] = [*tools, *objects(ask.options.get("tools"))]
    if ask.streaming:
        body["stream"] = True
    return body


def _system(instructions: Any, items: list[dict[str, Any]]) -> Iterator[str]:
    """All that is said with the authority of the system, in order."""
    if text(instructions):
        yield instructions
    for item in items:
        if item.get("role") in ("system", "developer"):
            yield from (part.text for part in _parts(item.get("content")) if isinstance(part, Text))


def _decode_items(items: list[dict[str, Any]]) -> Iterator[Message]:
    """Messages; what the assistant thought, said and called in a row is one, until it thinks or speaks again."""
    turn: list[Block] = []
    for item in items:
        blocks, message = list(_decode_block(item)), _decode_item(item)
        again = _spoke(turn) and any(not isinstance(block, ToolCall) for block in blocks)
        if turn and (message or again):
            yield AssistantMessage(tuple(turn))
            turn = []
        turn += blocks
        if message:
            yield message
    if turn:
        yield AssistantMessage(tuple(turn))


def _spoke(turn: list[Block]) -> bool:
    return any(isinstance(block, Text) for block in turn)


def _decode_block(item: dict[str, Any]) -> Iterator[Block]:
    match item.get("type", "message"):
        case "message" if item.get("role") == "assistant":
            yield from (part for part in _parts(item.get("content")) if isinstance(part, Text))
        case "reasoning":
            parts = objects(item.get("content")) or objects(item.get("summary"))
            thought = "".join(text(part.get("text")) for part in parts)
            signature = text(item.get("encrypted_content")) or None
            if thought or signature:
                yield Thinking(thought, signature, redacted=not thought)
        case "function_call" | "mcp_call" as kind:
            written = text(item.get("arguments"))
            id = text(item.get("call_id" if kind == "function_call" else "id"))
            name = text(item.get("name"))
            yield ToolCall(id, name, _arguments(written), written, server=kind == "mcp_call")
        case "custom_tool_call":
            written = text(item.get("input"))
            id, name = text(item.get("call_id")), text(item.get("name"))
            yield ToolCall(id, name, written, written, custom=True)
        case _:
            pass


def _decode_item(item: dict[str, Any]) -> Message | None:
    match item.get("type", "message"):
        case "message" if item.get("role") == "user":
            return UserMessage(_parts(item.get("content")))
        case "function_call_output" | "custom_tool_call_output":
            output = item.get("output")
            return ToolResult(text(item.get("call_id")), _parts(output) if output else ())
        case _:
            return None


def _parts(content: Any) -> tuple[Text | Image, ...]:
    if isinstance(content, str):
        return (Text(content),)
    return tuple(part for wire in objects(content) for part in _decode_part(wire))


def _decode_part(wire: dict[str, Any]) -> Iterator[Text | Image]:
    match wire.get("type"):
        case "input_text" | "output_text" | "text":
            yield Text(text(wire.get("text")))
        case "refusal":
            yield Text(text(wire.get("refusal")), refusal=True)
        case "input_image" if url := text(wire.get("image_url")):
            head, found, data = url.partition(";base64,")
            if found and head.startswith("data:"):
                yield Image(head.removeprefix("data:"), data)
            else:
                yield Image(url=url)
        case _:
            pass


def _decode_tool(tool: dict[str, Any]) -> ToolSpec:
    schema = tool.get("parameters")
    return ToolSpec(
        text(tool.get("name")),
        text(tool.get("description")),
        schema if is_object(schema) else {},
    )


def _arguments(written: str) -> Any:
    try:
        return parse_partial(written)
    except ValueError:
        return {}


def _encode_messages(messages: tuple[Message, ...]) -> Iterator[JsonObject]:
    custom: set[str] = set()
    for message in messages:
        match message:
            case UserMessage():
                content = [_encode_part(part) for part in message.content]
                yield {"type": "message", "role": "user", "content": content}
            case AssistantMessage():
                custom |= {call.id for call in message.tool_calls if call.custom}
                yield from _encode_turn(message)
            case ToolResult():
                yield _encode_result(message, message.tool_call_id in custom)
            case _:
                assert_never(message)


def _encode_turn(message: AssistantMessage) -> Iterator[JsonObject]:
    for kind, group in groupby(message.content, type):
        if kind is Text:
            content = [_encode_text(block) for block in group if isinstance(block, Text)]
            yield {"type": "message", "role": "assistant", "content": content}
            continue
        for block in group:
            if isinstance(block, Thinking) and (block.text or block.signature):
                yield reasoning_fields(block)
            elif isinstance(block, ToolCall) and not block.server:
                yield call_fields(block)


def _encode_text(block: Text) -> JsonObject:
    if block.refusal:
        return {"type": "refusal", "refusal": block.text}
    return {"type": "output_text", "text": block.text}


def _encode_result(result: ToolResult, custom: bool) -> JsonObject:
    output: Any = [_encode_part(part) for part in result.content]
    match result.content:
        case ():
            output = ""
        case (Text() as only,):
            output = only.text
        case _:
            pass
    kind = "custom_tool_call_output" if custom else "function_call_output"
    return {"type": kind, "call_id": result.tool_call_id, "output": output}


def _encode_part(part: Text | Image) -> JsonObject:
    match part:
        case Text():
            return {"type": "input_text", "text": part.text}
        case Image():
            url = part.url or f"data:{part.mime_type};base64,{part.data}"
            return {"type": "input_image", "image_url": url, "detail": "auto"}
        case _:
            assert_never(part)


def _encode_tool(tool: ToolSpec) -> JsonObject:
    # Left out, `strict` would be true, and refuse schemas that other APIs take.
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": False,
    }
