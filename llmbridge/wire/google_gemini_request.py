"""Requests of Google's `generateContent` to canon and back.

Source: Gemini API reference, "Generating content". Model and streaming stand in the path. Files, code and grounding are
left out of canon. Google reads its keys in snake case as well, and its own SDK mixes both.
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
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.loose_json import in_camel, is_object, objects, text

UNSIGNED = "skip_thought_signature_validator"
"""What Google takes in place of the signature of a call that another model made."""

_RESULT = ("result", "output", "error")


def decode(body: JsonObject) -> Ask:
    """The request in canon; every key that is not contents, systemInstruction or tools is an option."""
    body = in_camel(body)
    ids = _Ids()
    messages = [
        message
        for content in objects(body.get("contents"))
        for message in _decode_content(content, ids)
    ]
    context = Context(
        system="\n\n".join(_texts(body.get("systemInstruction"))),
        messages=tuple(messages),
        tools=tuple(
            _decode_tool(declared)
            for tool in objects(body.get("tools"))
            for declared in objects(in_camel(tool).get("functionDeclarations"))
        ),
    )
    known = ("contents", "tools", "systemInstruction")
    return Ask(context=context, options={k: v for k, v in body.items() if k not in known})


def encode(ask: Ask) -> JsonObject:
    """The request body, without keys that would be empty."""
    context = ask.context
    body: dict[str, Any] = {}
    if context.system:
        body["systemInstruction"] = {"parts": [{"text": context.system}]}
    body["contents"] = _encode_contents(context.messages)
    if context.tools:
        declared = [
            {"name": t.name, "description": t.description, "parametersJsonSchema": t.parameters}
            for t in context.tools
        ]
        body["tools"] = [{"functionDeclarations": declared}]
    return {**body, **ask.options}


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif is_object(content):
        parts = content.get("parts")
        for part in [parts] if is_object(parts) else objects(parts):
            yield text(part.get("text"))


class _Ids:
    """Calls go by their names here; where they have no id, each gets one, and results find theirs in order."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._waiting: dict[str, list[str]] = {}

    def call(self, id: str, name: str) -> str:
        """The id of a call."""
        same = sum(each == name for each in self.names.values())
        id = id or (f"{name}-{same}" if same else name)
        self.names[id] = name
        self._waiting.setdefault(name, []).append(id)
        return id

    def result(self, id: str, name: str) -> str:
        """The id of the call that this answers."""
        waiting = self._waiting.get(name, [])
        if id in waiting:
            waiting.remove(id)
        return id or (waiting.pop(0) if waiting else name)


def _decode_content(content: dict[str, Any], ids: _Ids) -> Iterator[Message]:
    parts = [in_camel(part) for part in objects(content.get("parts"))]
    if content.get("role") == "model":
        yield AssistantMessage(tuple(block for part in parts for block in _decode_block(part, ids)))
        return
    for part in parts:
        answered = part.get("functionResponse")
        if is_object(answered):
            yield _decode_result(answered, ids)
    said = tuple(each for part in parts for each in _decode_part(part))
    if said:
        yield UserMessage(said)


def _decode_block(part: dict[str, Any], ids: _Ids) -> Iterator[Block]:
    call = part.get("functionCall")
    signature = text(part.get("thoughtSignature")) or None
    if is_object(call):
        arguments = call.get("args")
        name = text(call.get("name"))
        yield ToolCall(ids.call(text(call.get("id")), name), name, arguments if arguments else {})
    elif part.get("thought") is True:
        yield Thinking(text(part.get("text")), signature)
    elif isinstance(part.get("text"), str):
        yield Text(part["text"], signature)


def _decode_result(answered: dict[str, Any], ids: _Ids) -> ToolResult:
    response, name = answered.get("response"), text(answered.get("name"))
    id = ids.result(text(answered.get("id")), name)
    said = response if is_object(response) else {}
    # Only what SDKs make of a plain string is one again.
    key = next(iter(said)) if len(said) == 1 else ""
    plain = said[key] if key in _RESULT and isinstance(said[key], str) else dump(said).decode()
    named = "" if name in (id, ids.names.get(id)) else name
    return ToolResult(id, (Text(plain),), key == "error", named)


def _decode_part(part: dict[str, Any]) -> Iterator[Text | Image]:
    inline, file = in_camel(part.get("inlineData")), in_camel(part.get("fileData"))
    if isinstance(part.get("text"), str):
        yield Text(part["text"])
    elif inline:
        yield Image(text(inline.get("mimeType")), text(inline.get("data")))
    elif file:
        yield Image(text(file.get("mimeType")), url=text(file.get("fileUri")))


def _decode_tool(declared: dict[str, Any]) -> ToolSpec:
    declared = in_camel(declared)
    schema = declared.get("parametersJsonSchema", declared.get("parameters"))
    return ToolSpec(
        text(declared.get("name")),
        text(declared.get("description")),
        schema if is_object(schema) else {},
    )


def _encode_contents(messages: tuple[Message, ...]) -> list[JsonObject]:
    contents: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for message in messages:
        match message:
            case UserMessage():
                parts = [_encode_part(part) for part in message.content]
                contents.append({"role": "user", "parts": parts})
            case AssistantMessage():
                names.update({call.id: call.name for call in message.tool_calls})
                parts = [_encode_block(block) for block in message.content]
                contents.append({"role": "model", "parts": parts})
            case ToolResult():
                part = {"functionResponse": _encode_result(message, names)}
                # The results of one turn belong in one content.
                if contents and "functionResponse" in contents[-1]["parts"][-1]:
                    contents[-1]["parts"].append(part)
                else:
                    contents.append({"role": "user", "parts": [part]})
    return [{"role": each["role"], "parts": each["parts"]} for each in contents if each["parts"]]


def _encode_result(result: ToolResult, names: dict[str, str]) -> JsonObject:
    id = result.tool_call_id
    said = "".join(part.text for part in result.content if isinstance(part, Text))
    name = result.name or names.get(id) or id
    return {"id": id, "name": name, "response": {"error" if result.is_error else "result": said}}


def _encode_part(part: Text | Image) -> JsonObject:
    match part:
        case Text():
            return {"text": part.text}
        case Image(url=str(url)) if url:
            kind = {"mimeType": part.mime_type} if part.mime_type else {}
            return {"fileData": {**kind, "fileUri": url}}
        case Image():
            return {"inlineData": {"mimeType": part.mime_type, "data": part.data}}


def _encode_block(block: Block) -> JsonObject:
    match block:
        case ToolCall():
            call = {"id": block.id, "name": block.name, "args": block.arguments}
            return {"functionCall": call, "thoughtSignature": UNSIGNED}
        case Thinking():
            signed = {"thoughtSignature": block.signature} if block.signature else {}
            return {"text": block.text, "thought": True, **signed}
        case Text():
            signed = {"thoughtSignature": block.signature} if block.signature else {}
            return {"text": block.text, **signed}
