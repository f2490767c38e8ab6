"""Canon's replies in the words of Google's `generateContent`: a stream of responses, each with a part."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from llmbridge.canon.events import BlockDelta, BlockEnd, BlockStart, Event, Fail, Finish, Start
from llmbridge.canon.messages import (
    AssistantMessage,
    Block,
    JsonObject,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from llmbridge.canon.partial_json import parse_partial
from llmbridge.errors import BridgeError, Kind
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.sse import SSE

STATUSES: Mapping[Kind, str] = MappingProxyType(
    {
        "invalid_request": "INVALID_ARGUMENT",
        "authentication": "UNAUTHENTICATED",
        "permission": "PERMISSION_DENIED",
        "not_found": "NOT_FOUND",
        "too_large": "INVALID_ARGUMENT",
        "rate_limit": "RESOURCE_EXHAUSTED",
        "quota": "RESOURCE_EXHAUSTED",
        "overloaded": "UNAVAILABLE",
        "timeout": "DEADLINE_EXCEEDED",
        "api": "INTERNAL",
    }
)

_REASONS: Mapping[StopReason | None, str] = MappingProxyType(
    {
        "stop": "STOP",
        "tool_use": "STOP",
        "length": "MAX_TOKENS",
        "content_filter": "SAFETY",
        "error": "OTHER",
        "aborted": "OTHER",
    }
)


class GeminiEncoder:
    """Events to responses. A call goes out whole, at its end: this wire has no pieces of arguments."""

    def __init__(self) -> None:
        self._blocks: dict[int, Block] = {}
        self._arguments: dict[int, list[str]] = {}
        self._head: dict[str, Any] = {}

    def feed(self, event: Event) -> Iterable[SSE]:
        return [SSE(data=dump(wire).decode()) for wire in self._wire(event)]

    def _wire(self, event: Event) -> Iterator[JsonObject]:
        match event.delta:
            case Start(model, response_id):
                self._head = head(model, response_id)
            case BlockStart(index, block):
                self._blocks[index] = block
            case BlockDelta(index, piece):
                block = self._blocks[index]
                if isinstance(block, ToolCall):
                    self._arguments.setdefault(index, []).append(piece)
                else:
                    yield self._said(_prose(block, piece))
            case BlockEnd(index, signature):
                block = self._blocks[index]
                if isinstance(block, ToolCall):
                    yield self._said(_call(block, "".join(self._arguments.get(index, ()))))
                elif signature:
                    yield self._said({**_prose(block, ""), "thoughtSignature": signature})
            case Finish():
                yield self._end(event.partial)
            case Fail():
                yield failure(event.delta)

    def _said(self, part: JsonObject) -> JsonObject:
        content = {"parts": [part], "role": "model"}
        return {"candidates": [{"content": content, "index": 0}], **self._head}

    def _end(self, message: AssistantMessage) -> JsonObject:
        candidate = {
            "content": {"parts": [{"text": ""}], "role": "model"},
            "finishReason": reason(message),
            "index": 0,
        }
        return {"candidates": [candidate], **counts(message.usage), **self._head}


def head(model: str | None, response_id: str | None) -> dict[str, Any]:
    """What every response says of itself."""
    named = {"modelVersion": model, "responseId": response_id}
    return {name: value for name, value in named.items() if value}


def reason(message: AssistantMessage) -> str:
    """Google's word for why it stopped."""
    return message.stop or _REASONS.get(message.stop_reason, "STOP")


def part_of(block: Block) -> JsonObject:
    """A whole block."""
    if isinstance(block, ToolCall):
        return _call(block, block.text)
    signed = {"thoughtSignature": block.signature} if block.signature else {}
    return {**_prose(block, block.text), **signed}


def _prose(block: Text | Thinking, words: str) -> dict[str, Any]:
    return {"text": words, "thought": True} if isinstance(block, Thinking) else {"text": words}


def _call(block: ToolCall, arguments: str) -> JsonObject:
    value: Any = {}
    with suppress(ValueError):
        value = parse_partial(arguments) if arguments else {}
    named = {"id": block.id} if block.id else {}
    return {"functionCall": {**named, "name": block.name, "args": value}}


def counts(usage: Usage | None) -> dict[str, Any]:
    """Prompt with what came from the cache, candidates without thoughts."""
    if usage is None:
        return {}
    thoughts = usage.reasoning_tokens
    output = usage.output_tokens
    wire = {
        "promptTokenCount": _sum(usage.input_tokens, usage.cache_read_tokens),
        "candidatesTokenCount": None if output is None else output - (thoughts or 0),
        "totalTokenCount": usage.total_tokens,
        "cachedContentTokenCount": usage.cache_read_tokens,
        "thoughtsTokenCount": thoughts,
    }
    return {"usageMetadata": {name: n for name, n in wire.items() if n is not None}}


def _sum(*numbers: int | None) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def failure(fail: Fail) -> JsonObject:
    """Google's error object for an answer that broke off."""
    status = fail.error_type or ""
    known = status in STATUSES.values()
    detail = {"code": 500, "message": fail.error or "", "status": status if known else "INTERNAL"}
    return {"error": detail}


def error_object(error: BridgeError) -> JsonObject:
    """`{"error":{"code","message","status"}}`."""
    detail = {"code": error.status, "message": error.message, "status": STATUSES[error.kind]}
    return {"error": detail}


def error_text(error: BridgeError) -> str:
    """The same as an event's data."""
    return json.dumps(error_object(error), ensure_ascii=True, separators=(",", ":"))
