"""Replies in canon to OpenAI's Responses API, streamed and whole.

Each block becomes an output item of its own, numbered like the block. The wire has no place for the signature of a
text and for a provider's word for the stop that is not one of its statuses.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple, assert_never

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
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.sse import SSE

DEFAULT_ID = "resp_llmbridge"

_STATUSES: Mapping[StopReason, str] = MappingProxyType(
    {
        "stop": "completed",
        "tool_use": "completed",
        "length": "incomplete",
        "content_filter": "incomplete",
        "error": "failed",
        "aborted": "cancelled",
    }
)
_REASONS: Mapping[StopReason | None, str] = MappingProxyType(
    {"length": "max_output_tokens", "content_filter": "content_filter"}
)


def encode_response(message: AssistantMessage) -> dict[str, Any]:
    """The response object of a reply that ended, well or not."""
    status, id = _status(message), message.response_id or DEFAULT_ID
    reason = _REASONS.get(message.stop_reason)
    return {
        **_response(id, message.model, status),
        "error": _error(message) if status == "failed" else None,
        "incomplete_details": {"reason": reason} if reason and status == "incomplete" else None,
        "output": [
            encode_item(block, _item_id(block, id, index), "completed")
            for index, block in enumerate(message.content)
        ],
        "usage": encode_usage(message.usage),
    }


def encode_item(block: Block, id: str, status: str) -> JsonObject:
    """The output item of a block; while it is in progress it shows nothing of what is to come."""
    begun = status == "in_progress"
    match block:
        case Text():
            content = [] if begun else [_part(block, block.text)]
            item = {"id": id, "type": "message", "status": status}
            return {**item, "content": content, "role": "assistant"}
        case Thinking():
            return {"id": id, **reasoning_fields(block)}
        case ToolCall():
            return {"id": id, "status": status, **call_fields(block, "" if begun else "{}")}
        case _:
            assert_never(block)


def reasoning_fields(block: Thinking) -> JsonObject:
    """A reasoning item without an id: the text as its summary."""
    summary = [_summary_part(block.text)] if block.text else []
    fields = {"type": "reasoning", "summary": summary}
    return {**fields, "encrypted_content": block.signature} if block.signature else fields


def call_fields(call: ToolCall, empty: str = "{}") -> JsonObject:
    """A call's item without an id; `empty` stands for no arguments."""
    if call.server:
        fields = {"type": "mcp_call", "server_label": "", "output": None, "error": None}
        return {**fields, "name": call.name, "arguments": call.text or empty}
    if call.custom:
        fields = {"type": "custom_tool_call", "call_id": call.id}
        return {**fields, "name": call.name, "input": call.text}
    fields = {"type": "function_call", "call_id": call.id}
    return {**fields, "name": call.name, "arguments": call.text or empty}


class _Open(NamedTuple):
    """A block under way: the name of its text's events, what all of them hold, and its deltas beside that."""

    voice: str
    place: JsonObject
    beside: JsonObject


class ResponseEncoder:
    """Events of one reply to the API's events, numbered."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._id = ""
        self._number = 0
        self._open: dict[int, _Open] = {}
        self._said: set[int] = set()

    def feed(self, event: Event) -> Iterable[SSE]:
        """What goes over the wire for this event."""
        match event.delta:
            case BlockDelta(index, text):
                return list(self._grow(index, text))
            case Start():
                return self._begin(event)
            case BlockStart(index, block):
                return [*self._begin(event), *self._start(index, block)]
            case BlockEnd(index):
                return list(self._end(index, event.partial.content[index]))
            case Finish() | Fail():
                return [*self._begin(event), self._finish(event.partial)]
            case _:
                assert_never(event.delta)

    def _begin(self, event: Event) -> list[SSE]:
        if self._id:
            return []
        partial = event.partial
        # Clients check that the id stays the same, so one that comes with the end is too late.
        self._id = partial.response_id or DEFAULT_ID
        response = _response(self._id, partial.model or self._model, "in_progress")
        return [
            self._sse("response.created", response=response),
            self._sse("response.in_progress", response=response),
        ]

    def _start(self, index: int, block: Block) -> Iterator[SSE]:
        id = _item_id(block, self._id, index)
        self._open[index] = opened = _opened(block, {"item_id": id, "output_index": index})
        item = encode_item(block, id, "in_progress")
        yield self._sse("response.output_item.added", output_index=index, item=item)
        if isinstance(block, Text):
            yield self._sse("response.content_part.added", **opened.place, part=_part(block, ""))

    def _grow(self, index: int, text: str) -> Iterator[SSE]:
        voice, place, beside = self._open[index]
        if index not in self._said and "summary_index" in place:
            part = _summary_part("")
            yield self._sse("response.reasoning_summary_part.added", **place, part=part)
        self._said.add(index)
        yield self._sse(f"{voice}.delta", **place, delta=text, **beside)

    def _end(self, index: int, block: Block) -> Iterator[SSE]:
        voice, place, _ = self._open.pop(index)
        item = encode_item(block, place["item_id"], "completed")
        match block:
            case Text(text):
                part = _part(block, text)
                said = {key: part[key] for key in ("refusal", "text", "logprobs") if key in part}
                yield self._sse(f"{voice}.done", **place, **said)
                yield self._sse("response.content_part.done", **place, part=part)
            case Thinking(text) if text:
                part = _summary_part(text)
                yield self._sse(f"{voice}.done", **place, text=text)
                yield self._sse("response.reasoning_summary_part.done", **place, part=part)
            case Thinking():
                pass
            case ToolCall():
                name = "input" if "input" in item else "arguments"
                if index not in self._said and item[name]:
                    # Nobody said the {} that stands for no arguments.
                    yield self._sse(f"{voice}.delta", **place, delta=item[name])
                yield self._sse(f"{voice}.done", **place, name=block.name, **{name: item[name]})
            case _:
                assert_never(block)
        yield self._sse("response.output_item.done", output_index=index, item=item)

    def _finish(self, message: AssistantMessage) -> SSE:
        model = message.model or self._model
        response = encode_response(replace(message, response_id=self._id, model=model))
        status = response["status"]
        # The API has no event of its own for the other statuses.
        ending = status if status in ("completed", "failed") else "incomplete"
        return self._sse(f"response.{ending}", response=response)

    def _sse(self, type: str, **fields: Any) -> SSE:
        data = {"type": type, "sequence_number": self._number, **fields}
        self._number += 1
        return SSE(type, dump(data).decode())


def _opened(block: Block, place: JsonObject) -> _Open:
    match block:
        case Text(refusal=True):
            return _Open("response.refusal", {**place, "content_index": 0}, {})
        case Text():
            beside: JsonObject = {"logprobs": []}
            return _Open("response.output_text", {**place, "content_index": 0}, beside)
        case Thinking():
            return _Open("response.reasoning_summary_text", {**place, "summary_index": 0}, {})
        case ToolCall(server=True):
            return _Open("response.mcp_call_arguments", place, {})
        case ToolCall(custom=True):
            return _Open("response.custom_tool_call_input", place, {})
        case ToolCall():
            return _Open("response.function_call_arguments", place, {})
        case _:
            assert_never(block)


def _item_id(block: Block, response_id: str, index: int) -> str:
    """An id in the API's form, unique as far as the response's id is; an MCP call has no other than the call's."""
    match block:
        case Text():
            prefix = "msg"
        case Thinking():
            prefix = "rs"
        case ToolCall(server=True):
            return block.id
        case ToolCall():
            prefix = "ctc" if block.custom else "fc"
        case _:
            assert_never(block)
    return f"{prefix}_{response_id.removeprefix('resp_')}_{index}"


def _response(id: str, model: str | None, status: str) -> dict[str, Any]:
    """A response object still without an outcome; what the API repeats from the request has its default."""
    return {
        "id": id,
        "object": "response",
        "created_at": 0,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model or "",
        "output": [],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }


def encode_usage(usage: Usage | None) -> JsonObject | None:
    """The usage object. All its keys are required: a detail that is not known is null, as look-alikes send it."""
    if usage is None:
        return None
    read, written = usage.cache_read_tokens, usage.cache_write_tokens
    input = (usage.input_tokens or 0) + (read or 0) + (written or 0)
    output = usage.output_tokens or 0
    return {
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": input + output if usage.total_tokens is None else usage.total_tokens,
    }


def _status(message: AssistantMessage) -> str:
    if message.error is not None or message.error_type is not None:
        return "failed"
    if message.stop_reason is None:
        return message.stop if message.stop in ("queued", "in_progress") else "completed"
    if message.stop_reason == "content_filter" and message.stop != "incomplete":
        # A refusal is how the model completes; a filter is what cuts it off.
        refused = any(isinstance(block, Text) and block.refusal for block in message.content)
        return "completed" if refused else "incomplete"
    return _STATUSES[message.stop_reason]


def _error(message: AssistantMessage) -> JsonObject | None:
    return {"code": message.error_type or "server_error", "message": message.error or ""}


def _part(block: Text, text: str) -> JsonObject:
    if block.refusal:
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _summary_part(text: str) -> JsonObject:
    return {"type": "summary_text", "text": text}
