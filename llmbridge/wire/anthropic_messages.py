"""Anthropic Messages: `POST /v1/messages`.

Source: Anthropic API reference, "Messages" and "Streaming messages".

Canon has no word for citations, server tools' results, compaction and containers: they are relayed and recorded as
they are, and left out of a decoded message.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import msgspec

from llmbridge.canon.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Delta,
    Fail,
    Finish,
    Start,
)
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
from llmbridge.wire import anthropic_request
from llmbridge.wire.anthropic_encoder import (
    STOP_WORDS,
    MessagesEncoder,
    encode_failure,
    encode_usage,
    encode_whole,
)
from llmbridge.wire.dialect import Decoder, Encoder, Verdict
from llmbridge.wire.error_bodies import anthropic_error, dump
from llmbridge.wire.fast_json import loads, typed
from llmbridge.wire.loose_json import count, counts_in, is_list, is_object
from llmbridge.wire.sse import SSE

STOP_REASONS: Mapping[str, StopReason] = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "pause_turn": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "tool_use": "tool_use",
        "refusal": "content_filter",
    }
)

_VERDICTS: Mapping[str, Verdict] = MappingProxyType({"message_stop": "completed", "error": "error"})
_TOOL_BLOCKS = ("tool_use", "server_tool_use", "mcp_tool_use")


class _Piece(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    signature: str = ""
    stop_reason: str | None = None


class _Wire(msgspec.Struct):
    """One event's data, typed where it is hot."""

    type: str = ""
    index: int = 0
    delta: _Piece | None = None
    content_block: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


_decode_wire = typed(_Wire)


class _Decoder:
    """Wire events to deltas. Blocks that canon does not know keep their wire index to themselves."""

    def __init__(self) -> None:
        self._open: dict[int, int] = {}
        self._signatures: dict[int, str] = {}
        self._blocks = 0
        self._started = False
        self._over = False
        self._usage: dict[str, Any] = {}
        self._counted = False
        self._stop: str | None = None

    def feed(self, sse: SSE) -> Iterable[Delta]:
        if self._over:
            return ()
        try:
            wire = _decode_wire(sse.data)
        except ValueError:
            return ()
        match wire.type:
            case "content_block_delta":
                return self._grow(wire.index, wire.delta or _Piece())
            case "content_block_start":
                return self.begin(wire.index, wire.content_block or {})
            case "content_block_stop":
                return self.end(wire.index)
            case "message_start":
                return self._start(wire.message or {})
            case "message_delta":
                self._add_usage(wire.usage)
                self._counted = self._counted or is_object(wire.usage)
                self._stop = (wire.delta and wire.delta.stop_reason) or self._stop
            case "message_stop":
                self._over = True
                return [*self._close_blocks(), _finish(self._stop, self._usage)]
            case "error":
                self._over = True
                return [*self._close_blocks(), _fail(wire.error or {}, self._known())]
            case _:
                pass
        return ()

    def close(self) -> Iterable[Delta]:
        if self._over:
            return ()
        self._over = True
        fail = Fail("truncated", "the stream stopped before message_stop", usage=self._known())
        return [*self._close_blocks(), fail]

    def _start(self, message: dict[str, Any]) -> Iterable[Delta]:
        self._add_usage(message.get("usage"))
        if self._started:
            return ()
        self._started = True
        return [Start(_text(message.get("model")), _text(message.get("id")))]

    def begin(self, index: int, wire: dict[str, Any]) -> Iterable[Delta]:
        block = _empty_block(wire)
        if block is None:
            return ()
        place = self._open[index] = self._blocks
        self._blocks += 1
        started: list[Delta] = [BlockStart(place, block)]
        if first := wire.get("text") or wire.get("thinking"):
            started.append(BlockDelta(place, str(first)))
        if signature := wire.get("signature") or wire.get("data"):
            self._signatures[index] = str(signature)
        if wire.get("input"):
            started.append(BlockDelta(place, dump(wire["input"]).decode()))
        return started

    def _grow(self, index: int, piece: _Piece) -> Iterable[Delta]:
        place = self._open.get(index)
        if place is None:
            return ()
        if piece.type == "signature_delta":
            self._signatures[index] = self._signatures.get(index, "") + piece.signature
            return ()
        text = piece.text or piece.partial_json or piece.thinking
        return (BlockDelta(place, text),) if text else ()

    def end(self, index: int) -> Iterable[Delta]:
        place = self._open.pop(index, None)
        return () if place is None else (BlockEnd(place, self._signatures.pop(index, None)),)

    def _close_blocks(self) -> list[Delta]:
        return [delta for index in list(self._open) for delta in self.end(index)]

    def _add_usage(self, usage: Any) -> None:
        # message_delta restates message_start's numbers, sometimes with others: the last one counts.
        if is_object(usage):
            self._usage.update({key: value for key, value in usage.items() if value is not None})

    def _known(self) -> Usage | None:
        """What a stream that broke off has used: how much it said is not known before its `message_delta`."""
        usage = decode_usage(self._usage) if self._usage else None
        if usage is None or self._counted:
            return usage
        return replace(usage, output_tokens=None, total_tokens=None)


class AnthropicMessages:
    """The dialect of `POST /v1/messages`."""

    name = "anthropic.messages"
    path = "/v1/messages"
    terminated = True
    markers = (b"message_stop", b'"error"')

    def verdict(self, sse: SSE) -> Verdict | None:
        """`message_stop` completes; an `error` event is the last one too."""
        try:
            kind = _decode_wire(sse.data).type
        except ValueError:
            return None
        return _VERDICTS.get(kind)

    def streaming(self, body: JsonObject) -> bool:
        """True with `"stream": true`."""
        return body.get("stream") is True

    def decode_request(self, body: JsonObject) -> Ask:
        """The request in canon."""
        return anthropic_request.decode(body)

    def target(self, model: str, *, streaming: bool) -> str:
        """The path: the rest stands in the body."""
        return self.path

    def encode_request(self, ask: Ask) -> JsonObject:
        """The request body; `max_tokens` is 4096 where the options do not say."""
        return anthropic_request.encode(ask)

    def decode_reply(self, body: bytes, status: int = 200) -> Iterable[Delta]:
        """A message object, or an error object."""
        value = loads(body)
        if not is_object(value):
            raise ValueError("the answer is not a JSON object")
        return _decode_message(value)

    def decoder(self) -> Decoder:
        """A fresh decoder."""
        return _Decoder()

    def encode_reply(self, message: AssistantMessage) -> bytes:
        """A message object; an error object when the message failed."""
        if message.error is not None or message.error_type is not None:
            failure = Fail(message.error_type, message.error)
            return dump({"type": "error", "error": encode_failure(failure)})
        return dump(
            {
                "id": message.response_id or "msg_llmbridge",
                "type": "message",
                "role": "assistant",
                "model": message.model or "",
                "content": [encode_whole(block) for block in message.content],
                "stop_reason": message.stop or STOP_WORDS.get(message.stop_reason, "end_turn"),
                "stop_sequence": None,
                "usage": encode_usage(message.usage),
            }
        )

    def encoder(self, ask: Ask) -> Encoder:
        """A fresh encoder."""
        return MessagesEncoder(ask)

    def encode_error(self, error: BridgeError) -> bytes:
        """Anthropic's error object."""
        return anthropic_error(error)

    def encode_error_event(self, error: BridgeError, last: bytes = b"") -> SSE:
        """`event: error`."""
        return SSE("error", anthropic_error(error).decode())


def _decode_message(value: dict[str, Any]) -> Iterator[Delta]:
    usage = value.get("usage")
    if value.get("type") == "error" or is_object(value.get("error")):
        yield _fail(value.get("error") or {})
        return
    if not is_list(value.get("content")):
        raise ValueError("the answer has no 'content' list")
    yield Start(_text(value.get("model")), _text(value.get("id")))
    # A block is a stream of one piece: the stream decoder reads it.
    blocks = _Decoder()
    for index, block in enumerate(value["content"]):
        if is_object(block):
            yield from blocks.begin(index, block)
            yield from blocks.end(index)
    yield _finish(_text(value.get("stop_reason")), usage if is_object(usage) else {})


def _empty_block(wire: dict[str, Any]) -> Block | None:
    match wire.get("type"):
        case "text":
            return Text()
        case "thinking":
            return Thinking()
        case "redacted_thinking":
            return Thinking(redacted=True)
        case str(kind) if kind in _TOOL_BLOCKS:
            server = kind != "tool_use"
            return ToolCall(str(wire.get("id", "")), str(wire.get("name", "")), server=server)
        case _:
            return None


def _finish(stop: str | None, usage: dict[str, Any]) -> Finish:
    reason = STOP_REASONS.get(stop, "stop") if stop else None
    return Finish(reason, stop, decode_usage(usage) if usage else None)


def _fail(error: Any, usage: Usage | None = None) -> Fail:
    detail = error if is_object(error) else {"message": str(error)}
    return Fail(
        _text(detail.get("type")),
        str(detail.get("message", "")),
        usage=usage,
    )


def decode_usage(raw: dict[str, Any]) -> Usage:
    """Anthropic counts cached input apart from `input_tokens`, thinking inside `output_tokens`."""
    known, details = counts_in(raw), raw.get("output_tokens_details")
    reasoning = count(details.get("thinking_tokens")) if is_object(details) else None
    parts = (
        known.get("input_tokens"),
        known.get("cache_read_input_tokens"),
        known.get("cache_creation_input_tokens"),
        known.get("output_tokens"),
    )
    total = sum(part or 0 for part in parts)
    return Usage(*parts, reasoning, total, raw)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


ANTHROPIC_MESSAGES = AnthropicMessages()
