"""Canon to the wire of Anthropic Messages: events, blocks, usage.

Source: Anthropic API reference, "Messages" and "Streaming messages".
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
from llmbridge.wire.sse import SSE

STOP_WORDS: Mapping[StopReason | None, str] = MappingProxyType(
    {
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_use": "tool_use",
        "content_filter": "refusal",
        None: "end_turn",
    }
)


class MessagesEncoder:
    """Canon events to wire events, in the order and with the names the API uses."""

    def __init__(self, ask: Ask) -> None:
        self._model = ask.model
        self._redacted: set[int] = set()

    def feed(self, event: Event) -> Iterable[SSE]:
        match event.delta:
            case Start():
                yield _sse({"type": "message_start", "message": self._head(event.partial)})
            case BlockStart(index, Thinking(redacted=True)):
                self._redacted.add(index)
            case BlockStart(index, block):
                yield _sse(
                    {
                        "type": "content_block_start",
                        "index": index,
                        "content_block": _encode_block(block),
                    }
                )
            case BlockDelta(index, text):
                yield _sse(
                    {
                        "type": "content_block_delta",
                        "index": index,
                        "delta": _encode_piece(event.type, text),
                    }
                )
            case BlockEnd(index, signature):
                yield from self._end(index, signature, event)
            case Finish():
                yield from _ending(event.partial)
            case Fail():
                yield _sse({"type": "error", "error": encode_failure(event.delta)})

    def _head(self, partial: AssistantMessage) -> JsonObject:
        return {
            "id": partial.response_id or "msg_llmbridge",
            "type": "message",
            "role": "assistant",
            "model": partial.model or self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }

    def _end(self, index: int, signature: str | None, event: Event) -> Iterator[SSE]:
        if index in self._redacted:
            # The data of a redacted block goes out with its start.
            block = _encode_block(event.partial.content[index])
            yield _sse({"type": "content_block_start", "index": index, "content_block": block})
        elif signature and event.type == "thinking_end":
            delta = {"type": "signature_delta", "signature": signature}
            yield _sse({"type": "content_block_delta", "index": index, "delta": delta})
        yield _sse({"type": "content_block_stop", "index": index})


def encode_usage(usage: Usage | None) -> JsonObject:
    """The usage object; what is not known is left out, but for the two that the API always sends."""
    known = usage or Usage()
    optional = {
        "cache_read_input_tokens": known.cache_read_tokens,
        "cache_creation_input_tokens": known.cache_write_tokens,
    }
    wire: dict[str, Any] = {
        "input_tokens": known.input_tokens or 0,
        **{key: value for key, value in optional.items() if value is not None},
        "output_tokens": known.output_tokens or 0,
    }
    if known.reasoning_tokens is not None:
        wire["output_tokens_details"] = {"thinking_tokens": known.reasoning_tokens}
    return wire


def _encode_block(block: Block) -> JsonObject:
    """A block as `content_block_start` shows it: still empty, but for redacted thinking."""
    match block:
        case Text():
            return {"type": "text", "text": ""}
        case Thinking(redacted=True):
            return {"type": "redacted_thinking", "data": block.signature or ""}
        case Thinking():
            return {"type": "thinking", "thinking": "", "signature": ""}
        case ToolCall():
            kind = "server_tool_use" if block.server else "tool_use"
            return {"type": kind, "id": block.id, "name": block.name, "input": {}}


def encode_whole(block: Block) -> JsonObject:
    """A block with all that it holds."""
    whole = dict(_encode_block(block))
    match block:
        case Text():
            whole["text"] = block.text
        case Thinking(redacted=False):
            whole |= {"thinking": block.text, "signature": block.signature or ""}
        case ToolCall():
            whole["input"] = block.arguments
        case _:
            pass
    return whole


def _encode_piece(event_type: str, text: str) -> JsonObject:
    match event_type:
        case "thinking_delta":
            return {"type": "thinking_delta", "thinking": text}
        case "tool_call_delta":
            return {"type": "input_json_delta", "partial_json": text}
        case _:
            return {"type": "text_delta", "text": text}


def encode_failure(failure: Fail) -> JsonObject:
    """What stands under `error`."""
    return {"type": failure.error_type or "api_error", "message": failure.error or ""}


def _ending(message: AssistantMessage) -> Iterator[SSE]:
    stop = message.stop or STOP_WORDS.get(message.stop_reason, "end_turn")
    delta = {"stop_reason": stop, "stop_sequence": None}
    yield _sse({"type": "message_delta", "delta": delta, "usage": encode_usage(message.usage)})
    yield _sse({"type": "message_stop"})


def _sse(value: dict[str, Any]) -> SSE:
    return SSE(value["type"], dump(value).decode())
