"""Google's `generateContent` and `streamGenerateContent`.

Source: Gemini API reference and Vertex AI REST reference, "GenerateContentResponse". A stream is server-sent events
with `?alt=sse`, else a JSON array. There is no last event: a finish reason, or a block reason, is the end.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, unquote

from llmbridge.canon.events import BlockDelta, BlockEnd, BlockStart, Delta, Fail, Finish, Start
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
from llmbridge.errors import BridgeError
from llmbridge.wire import google_gemini_request
from llmbridge.wire.dialect import Decoder, Encoder, Verdict
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.fast_json import loads
from llmbridge.wire.google_gemini_encoder import (
    GeminiEncoder,
    counts,
    error_object,
    error_text,
    failure,
    head,
    part_of,
    reason,
)
from llmbridge.wire.loose_json import counts_in, is_list, is_object, objects, text
from llmbridge.wire.sse import SSE

_OPERATION = re.compile(r"/models/([^/:?]+):(stream)?[gG]enerateContent(?=\?|$)")

STOP_REASONS: Mapping[str, StopReason] = MappingProxyType(
    {
        "STOP": "stop",
        "MAX_TOKENS": "length",
        "SAFETY": "content_filter",
        "RECITATION": "content_filter",
        "LANGUAGE": "content_filter",
        "BLOCKLIST": "content_filter",
        "PROHIBITED_CONTENT": "content_filter",
        "SPII": "content_filter",
        "IMAGE_SAFETY": "content_filter",
        "MALFORMED_FUNCTION_CALL": "error",
        "OTHER": "error",
        # Vertex's REST interface of 2024 sent numbers.
        "1": "stop",
        "2": "length",
        "3": "content_filter",
        "4": "content_filter",
        "5": "error",
    }
)


def operation(target: str) -> tuple[str, bool] | None:
    """The model that a path names, and whether it asks for a stream; None where it is none of ours."""
    found = _OPERATION.search(target)
    return (unquote(found[1]), bool(found[2])) if found else None


class _Decoder:
    """Responses to deltas. The wire has no block borders: a block ends where another kind begins."""

    def __init__(self) -> None:
        self._model: str | None = None
        self._id: str | None = None
        self._started = False
        self._over = False
        self._count = 0
        self._open: type[Block] | None = None
        self._signature: str | None = None
        self._called = False
        self._stop: str | None = None
        self._usage: dict[str, Any] | None = None
        self._blocked = ""

    def feed(self, sse: SSE) -> Iterable[Delta]:
        try:
            value = loads(sse.data)
        except ValueError:
            return ()
        return list(self.take(value)) if is_object(value) else ()

    def close(self) -> Iterable[Delta]:
        if self._over:
            return ()
        if self._stop is None and not self._blocked:
            return self._fail("truncated", "the stream stopped before its finish reason")
        return self.finish()

    def finish(self) -> list[Delta]:
        """The end of an answer that is there as a whole."""
        if self._over:
            return []
        self._over = True
        word = self._stop or self._blocked or None
        stop = STOP_REASONS.get(word, "error") if word else None
        if self._blocked and not self._stop:
            stop = "content_filter"
        if stop == "stop" and self._called:
            stop = "tool_use"
        ending = Finish(stop, word, self._known(), self._model, self._id)
        return [*self._shut(), ending]

    def take(self, wire: dict[str, Any]) -> Iterator[Delta]:
        """One response."""
        if self._over:
            return
        self._model = self._model or text(wire.get("modelVersion")) or None
        self._id = self._id or text(wire.get("responseId")) or None
        if not self._started and "error" not in wire:
            self._started = True
            yield Start(self._model, self._id)
        usage = wire.get("usageMetadata")
        self._usage = usage if is_object(usage) and usage else self._usage
        feedback = wire.get("promptFeedback")
        if is_object(feedback):
            self._blocked = text(feedback.get("blockReason")) or self._blocked
        for candidate in objects(wire.get("candidates")):
            if not candidate.get("index"):
                yield from self._take_candidate(candidate)
        if error := wire.get("error"):
            yield from self._fail(*_error(error))

    def _take_candidate(self, candidate: dict[str, Any]) -> Iterator[Delta]:
        content = candidate.get("content")
        for part in objects(content.get("parts")) if is_object(content) else ():
            yield from self._take_part(part)
        if candidate.get("finishReason"):
            self._stop = str(candidate["finishReason"])

    def _take_part(self, part: dict[str, Any]) -> Iterator[Delta]:
        call, words = part.get("functionCall"), part.get("text")
        signature = text(part.get("thoughtSignature")) or None
        if is_object(call):
            yield from self._call(call)
        elif isinstance(words, str):
            kind = Thinking if part.get("thought") is True else Text
            if self._open is not kind and (words or (signature and kind is Thinking)):
                yield from self._begin(kind())
            if words:
                yield BlockDelta(self._count - 1, words)
            if signature and self._open is kind:
                self._signature = signature

    def _call(self, call: dict[str, Any]) -> Iterator[Delta]:
        self._called = True
        yield from self._begin(ToolCall(text(call.get("id")), text(call.get("name"))))
        if arguments := call.get("args"):
            yield BlockDelta(self._count - 1, dump(arguments).decode())
        yield from self._shut()

    def _begin(self, block: Block) -> Iterator[Delta]:
        yield from self._shut()
        self._open = type(block)
        yield BlockStart(self._count, block)
        self._count += 1

    def _shut(self) -> Iterator[Delta]:
        if self._open is not None:
            self._open = None
            signature, self._signature = self._signature, None
            yield BlockEnd(self._count - 1, signature)

    def _fail(self, error_type: str | None, error: str) -> list[Delta]:
        if self._over:
            return []
        self._over = True
        ending = Fail(error_type, error, "error", self._stop, self._known(), self._model, self._id)
        return [*self._shut(), ending]

    def _known(self) -> Usage | None:
        return decode_usage(self._usage) if self._usage else None


class GoogleGemini:
    """The dialect of `POST /v1beta/models/MODEL:generateContent` and `:streamGenerateContent`."""

    name = "google.gemini"
    path = "/v1beta/models/MODEL:generateContent"
    terminated = True
    markers = (b"finishReason", b"blockReason", b'"error"')

    def verdict(self, sse: SSE) -> Verdict | None:
        """An error ends; after a finish reason the end may come at any time."""
        try:
            wire = loads(sse.data)
        except ValueError:
            return None
        if not is_object(wire):
            return None
        if wire.get("error"):
            return "error"
        feedback = wire.get("promptFeedback")
        blocked = is_object(feedback) and feedback.get("blockReason")
        finished = any(each.get("finishReason") for each in objects(wire.get("candidates")))
        return "finished" if finished or blocked else None

    def target(self, model: str, *, streaming: bool) -> str:
        """Path and query of a call; a model may name its own place, as Vertex's do."""
        where = model if "/" in model else f"models/{quote(model, safe='@.-_')}"
        how = "streamGenerateContent?alt=sse" if streaming else "generateContent"
        return f"/v1beta/{where}:{how}"

    def streaming(self, body: JsonObject) -> bool:
        """The path says so, not the body."""
        return False

    def decode_request(self, body: JsonObject) -> Ask:
        """The request in canon, but for model and streaming, which stand in the path."""
        return google_gemini_request.decode(body)

    def encode_request(self, ask: Ask) -> JsonObject:
        """The request body."""
        return google_gemini_request.encode(ask)

    def decode_reply(self, body: bytes, status: int = 200) -> Iterable[Delta]:
        """A response, an array of them, or an error object."""
        value = loads(body)
        responses = objects(value) if is_list(value) else [value] if is_object(value) else []
        if not any(key in each for each in responses for key in _KEYS):
            raise ValueError("the answer has neither 'candidates' nor an error")
        decoder = _Decoder()
        deltas = [delta for each in responses for delta in decoder.take(each)]
        return [*deltas, *decoder.finish()]

    def decoder(self) -> Decoder:
        """A fresh decoder."""
        return _Decoder()

    def encode_reply(self, message: AssistantMessage) -> bytes:
        """A response; an error object when the message failed."""
        if message.error is not None or message.error_type is not None:
            return dump(failure(Fail(message.error_type, message.error)))
        content = {"parts": [part_of(block) for block in message.content], "role": "model"}
        candidate = {"content": content, "finishReason": reason(message), "index": 0}
        named = head(message.model, message.response_id)
        return dump({"candidates": [candidate], **counts(message.usage), **named})

    def encoder(self, ask: Ask) -> Encoder:
        """A fresh encoder."""
        return GeminiEncoder()

    def encode_error(self, error: BridgeError) -> bytes:
        """Google's error object."""
        return dump(error_object(error))

    def encode_error_event(self, error: BridgeError, last: bytes = b"") -> SSE:
        """The error object as a response."""
        return SSE(data=error_text(error))


_KEYS = ("candidates", "promptFeedback", "usageMetadata", "error")


def _error(error: Any) -> tuple[str | None, str]:
    if not is_object(error):
        return None, str(error)
    kind = error.get("status") or error.get("code")
    return (str(kind) if kind else None), str(error.get("message") or "")


def decode_usage(raw: dict[str, Any]) -> Usage:
    """Google counts what it cached into the prompt, and thoughts beside the candidates."""
    known = counts_in(raw)
    cached, thoughts = known.get("cachedContentTokenCount"), known.get("thoughtsTokenCount")
    prompt, tools = known.get("promptTokenCount"), known.get("toolUsePromptTokenCount", 0)
    said = known.get("candidatesTokenCount")
    return Usage(
        input_tokens=None if prompt is None else max(0, prompt - (cached or 0)) + tools,
        cache_read_tokens=cached,
        output_tokens=None if said is None and thoughts is None else (said or 0) + (thoughts or 0),
        reasoning_tokens=thoughts,
        total_tokens=known.get("totalTokenCount"),
        raw=raw,
    )


GOOGLE_GEMINI = GoogleGemini()
