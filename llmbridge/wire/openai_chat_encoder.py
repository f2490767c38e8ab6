"""Canon to the wire of OpenAI Chat Completions: chunks, messages, usage.

Source: OpenAI API reference, "Chat completions"; DeepSeek's `reasoning_content`, OpenRouter's `reasoning_details`.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from llmbridge.canon.events import BlockDelta, BlockEnd, BlockStart, Event, Fail, Finish, Start
from llmbridge.canon.messages import (
    Ask,
    AssistantMessage,
    Block,
    JsonObject,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.loose_json import is_object
from llmbridge.wire.sse import SSE

STOP_WORDS: Mapping[StopReason | None, str] = MappingProxyType(
    {"length": "length", "tool_use": "tool_calls", "content_filter": "content_filter"}
)


class ChatEncoder:
    """Canon events to chunks; reasoning goes as `reasoning_content`, signatures as `reasoning_details`."""

    def __init__(self, ask: Ask) -> None:
        options = ask.options.get("stream_options")
        self._usage = is_object(options) and options.get("include_usage") is True
        self._model = ask.model
        self._calls: dict[int, int] = {}
        self._keys: dict[int, str] = {}

    def feed(self, event: Event) -> Iterable[SSE]:
        match event.delta:
            case Start():
                yield self._chunk(event, {"role": "assistant", "content": ""})
            case BlockStart(index, ToolCall() as call):
                self._calls[index] = len(self._calls)
                yield self._chunk(event, {"tool_calls": [self._call(index, call, "")]})
            case BlockStart(index, block):
                self._keys[index] = _key(block)
            case BlockDelta(index, text) if index in self._calls:
                yield self._chunk(event, {"tool_calls": [self._more(event, index, text)]})
            case BlockDelta(index, text):
                yield self._chunk(event, {self._keys[index]: text})
            case BlockEnd(index, signature) if signature and event.type == "thinking_end":
                detail = _encode_detail(event.partial.content[index], signature)
                yield self._chunk(event, {"reasoning_details": [detail]})
            case Finish():
                yield from self._finish(event)
            case Fail():
                yield SSE(data=encode_failure(event.delta).decode())
            case _:
                pass

    def _chunk(self, event: Event, delta: JsonObject, stop: str | None = None) -> SSE:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": stop}
        return self._object(event.partial, [choice], None)

    def _object(self, partial: AssistantMessage, choices: list[Any], usage: Any) -> SSE:
        wire: dict[str, Any] = {
            "id": partial.response_id or "chatcmpl-llmbridge",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": partial.model or self._model,
            "choices": choices,
        }
        if self._usage:
            wire["usage"] = usage
        return SSE(data=dump(wire).decode())

    def _call(self, index: int, call: ToolCall, text: str) -> JsonObject:
        return {"index": self._calls[index], **encode_call(call, text)}

    def _more(self, event: Event, index: int, text: str) -> JsonObject:
        call = event.partial.content[index]
        if isinstance(call, ToolCall) and call.custom:
            return {"index": self._calls[index], "custom": {"input": text}}
        return {"index": self._calls[index], "function": {"arguments": text}}

    def _finish(self, event: Event) -> Iterator[SSE]:
        message = event.partial
        yield self._chunk(event, {}, message.stop or STOP_WORDS.get(message.stop_reason, "stop"))
        if self._usage:
            yield self._object(message, [], encode_usage(message.usage))
        yield SSE(data="[DONE]")


def encode_call(call: ToolCall, text: str) -> JsonObject:
    """A tool call object with these arguments."""
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": text}}
    function = {"name": call.name, "arguments": text}
    return {"id": call.id, "type": "function", "function": function}


def _key(block: Block) -> str:
    """The key of a delta that carries this block's text."""
    if isinstance(block, Thinking):
        return "reasoning_content"
    return "refusal" if isinstance(block, Text) and block.refusal else "content"


def encode_message(message: AssistantMessage) -> JsonObject:
    """The `message` of a whole completion."""
    refusal = "".join(b.text for b in message.content if isinstance(b, Text) and b.refusal)
    wire: dict[str, Any] = {
        "role": "assistant",
        "content": message.text or None,
        "refusal": refusal or None,
    }
    if message.thinking:
        wire["reasoning_content"] = message.thinking
    details = [
        _encode_detail(block, block.signature)
        for block in message.content
        if isinstance(block, Thinking) and block.signature
    ]
    if details:
        wire["reasoning_details"] = details
    if message.tool_calls:
        wire["tool_calls"] = [encode_call(call, call.text) for call in message.tool_calls]
    return wire


def _encode_detail(block: Block, signature: str) -> JsonObject:
    if isinstance(block, Thinking) and block.redacted:
        return {"type": "reasoning.encrypted", "data": signature}
    return {"type": "reasoning.text", "text": "", "signature": signature}


def encode_usage(usage: Usage | None) -> JsonObject:
    """The usage object: cached input inside `prompt_tokens`, reasoning inside `completion_tokens`."""
    known = usage or Usage()
    parts = (known.input_tokens, known.cache_read_tokens, known.cache_write_tokens)
    prompt, completion = sum(part or 0 for part in parts), known.output_tokens or 0
    wire: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": known.total_tokens or prompt + completion,
    }
    cached = {
        "cached_tokens": known.cache_read_tokens,
        "cache_write_tokens": known.cache_write_tokens,
    }
    if prompt_details := {key: value for key, value in cached.items() if value is not None}:
        wire["prompt_tokens_details"] = prompt_details
    if known.reasoning_tokens is not None:
        wire["completion_tokens_details"] = {"reasoning_tokens": known.reasoning_tokens}
    return wire


def encode_failure(failure: Fail) -> bytes:
    """The error object."""
    detail = {
        "message": failure.error or "",
        "type": failure.error_type or "server_error",
        "param": None,
        "code": None,
    }
    return dump({"error": detail})
