"""Records without what was said: who asked which model, when, what it took, which tools were called and how it ended stay.

A request's body goes. An answer keeps its events and their times, and in each only what is known to be no content: what a
provider adds tomorrow goes, too. So frames read such records like any other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from llmbridge.exchange.codec import is_event_stream
from llmbridge.exchange.record import BODY, Chunk, Interception, Record, Store
from llmbridge.exchange.toolbox import ToolRun
from llmbridge.wire.fast_json import loads
from llmbridge.wire.loose_json import is_list, is_object, objects
from llmbridge.wire.sse import SSE, SSEDecoder, encode_sse

_MARK = f"<redacted:{BODY}>"

_WHOLE = frozenset(("usage", "usageMetadata"))
_OPENED = frozenset(
    (
        "candidates",
        "choices",
        "content",
        "content_block",
        "delta",
        "error",
        "function",
        "functionCall",
        "function_call",
        "incomplete_details",
        "item",
        "message",
        "output",
        "part",
        "partial",
        "parts",
        "promptFeedback",
        "response",
        "toolCall",
        "tool_call",
        "tool_calls",
        "x_groq",
    )
)
"""What holds events and blocks. Arguments of tools are none of these, under whatever name."""

_WORDS = frozenset(
    (
        "blockReason",
        "call_id",
        "contentIndex",
        "content_index",
        "created",
        "created_at",
        "finishReason",
        "finish_reason",
        "id",
        "index",
        "item_id",
        "model",
        "modelVersion",
        "name",
        "native_finish_reason",
        "object",
        "output_index",
        "provider",
        "reason",
        "responseId",
        "response_id",
        "role",
        "sequence_number",
        "service_tier",
        "status",
        "stopReason",
        "stop_reason",
        "summary_index",
        "system_fingerprint",
        "toolCallId",
        "tool_call_id",
        "tool_use_id",
        "type",
    )
)


class BodilessStore:
    """Gives a store what a bridge has for it, without the bodies."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def begin(self, interception: Interception) -> None:
        """Pass it on without the request's body."""
        await self._store.begin(_without_words(interception))

    def add(self, record: Record) -> None:
        """Pass it on without the request's body and the answer's words."""
        self._store.add(bodiless(record))

    def end(self, interception: Interception) -> None:
        """Pass it on without the request's body and what tools answered."""
        self._store.end(_without_words(interception))


def bodiless(record: Record) -> Record:
    """The record without what was said; `redacted` says so."""
    request = record.request and replace(record.request, body=b"")
    rules = tuple(sorted({*record.redacted, BODY}))
    return replace(record, request=request, chunks=tuple(_blanked(record)), redacted=rules)


def _without_words(interception: Interception) -> Interception:
    request = replace(interception.request, body=b"")
    runs = tuple(_run(run) for run in interception.tool_runs)
    return replace(interception, request=request, tool_runs=runs)


def _run(run: ToolRun) -> ToolRun:
    return replace(run, result=None, error=run.error and _MARK)


def _blanked(record: Record) -> Iterator[Chunk]:
    """Each event at its time; an answer in one piece at the time of its first byte."""
    if not is_event_stream(record.status, record.headers, record.body):
        seconds = next((seconds for seconds, chunk in record.chunks if chunk), 0.0)
        if body := _json(record.body):
            yield seconds, body
        return
    decoder, seconds = SSEDecoder(), 0.0
    for seconds, chunk in record.chunks:
        yield from ((seconds, _event(sse)) for sse in decoder.feed(chunk))
    yield from ((seconds, _event(sse)) for sse in decoder.close())


def _event(sse: SSE) -> bytes:
    data = sse.data if sse.data == "[DONE]" else _json(sse.data.encode("utf-8", "replace")).decode()
    return encode_sse(replace(sse, data=data))


def _json(text: bytes) -> bytes:
    """The same JSON without words; nothing where it is none."""
    try:
        value = loads(text)
    except ValueError:
        return b""
    return msgspec.json.encode(_kept(value))


def _kept(value: Any) -> Any:
    if is_object(value):
        return _object(value)
    return [_object(each) for each in objects(value)]


def _object(value: Mapping[str, Any], *, of_error: bool = False) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    of_error = of_error or value.get("type") == "error"
    for key, inner in value.items():
        if key in _WHOLE or inner is None:
            kept[key] = inner
        elif is_object(inner):
            kept[key] = _object(inner, of_error=key == "error") if key in _OPENED else {}
        elif is_list(inner):
            kept[key] = _kept(inner) if key in _OPENED else []
        elif key in _WORDS or (of_error and key == "code"):
            kept[key] = inner
        elif isinstance(inner, str):
            # That there is one says something: a refusal in Responses, a bare error of xAI.
            kept[key] = _MARK if key in ("refusal", "error") and inner else ""
    return kept
