"""Canon's events and messages as tinyagent has them: dicts in snake case."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmbridge.canon.events import BlockDelta, BlockEnd, BlockStart, Event, Fail, Finish
from llmbridge.canon.messages import AssistantMessage, Block, Context, Text, Thinking, ToolCall
from llmbridge.wire import proxy_context
from llmbridge.wire.loose_json import is_object

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_keys, dict_values

Message = dict[str, Any]
"""An assistant message: role, content, api, provider, model, usage, stop_reason, timestamp (ms), error_message."""


class StreamEvent(dict[str, Any]):
    """An event; `partial`, the message so far, is put together when somebody reads it."""

    def __init__(self, fields: Mapping[str, Any], partial: Callable[[], Message]) -> None:
        super().__init__(fields)
        self._partial: Callable[[], Message] | None = partial

    def __missing__(self, name: str) -> Any:
        if name == "partial" and self._partial is not None:
            return self._whole()["partial"]
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name == "partial" or super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value under this name."""
        # dict.get does not ask for what is missing.
        return self[name] if name in self else default  # noqa: SIM401

    def keys(self) -> "dict_keys[str, Any]":
        """The names, `partial` among them."""
        return super(StreamEvent, self._whole()).keys()

    def values(self) -> "dict_values[str, Any]":
        """The values."""
        return super(StreamEvent, self._whole()).values()

    def items(self) -> "dict_items[str, Any]":
        """Names and values."""
        return super(StreamEvent, self._whole()).items()

    def __iter__(self) -> Iterator[str]:
        return super(StreamEvent, self._whole()).__iter__()

    def __len__(self) -> int:
        return super(StreamEvent, self._whole()).__len__()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StreamEvent):
            other._whole()
        return super(StreamEvent, self._whole()).__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __repr__(self) -> str:
        return super(StreamEvent, self._whole()).__repr__()

    def _whole(self) -> "StreamEvent":
        if self._partial is not None:
            self["partial"] = self._partial()
            self._partial = None
        return self


@dataclass(frozen=True, slots=True)
class Spelling:
    """Who answers, when, and the words for the reasons to stop: `reasons` in messages, `ends` in the last event."""

    api: str
    provider: str
    model: str
    timestamp: int
    reasons: Mapping[str, str]
    ends: Mapping[str, str]

    def event(self, event: Event) -> StreamEvent:
        """The same event as a dict."""
        return StreamEvent(self._fields(event), lambda: self.message(event.partial))

    def message(self, message: AssistantMessage) -> Message:
        """The message as it stands."""
        done = message.stop_reason is not None
        told: Message = {
            "role": "assistant",
            "content": [_block(block, done=done) for block in message.content],
            "api": self.api,
            "provider": self.provider,
            "model": self.model,
            "usage": proxy_context.encode_usage(message.usage) if done else None,
            "stop_reason": self._word(self.reasons, message),
            "timestamp": self.timestamp,
        }
        return {**told, "error_message": message.error} if message.error else told

    def _word(self, words: Mapping[str, str], message: AssistantMessage) -> str:
        if message.error is not None and message.stop_reason != "aborted":
            return "error"
        reason = message.stop_reason or "stop"
        return words.get(reason, "error" if reason == "content_filter" else reason)

    def _fields(self, event: Event) -> dict[str, Any]:
        match event.delta:
            case BlockStart(index):
                return {"type": event.type, "content_index": index}
            case BlockDelta(index, text):
                return {"type": event.type, "content_index": index, "delta": text}
            case BlockEnd(index):
                block = event.partial.content[index]
                whole = _block(block, done=True)
                key = "tool_call" if isinstance(block, ToolCall) else "content"
                return {
                    "type": event.type,
                    "content_index": index,
                    key: whole if isinstance(block, ToolCall) else block.text,
                }
            case Finish() | Fail():
                message = event.partial
                key = "message" if event.type == "done" else "error"
                reason = self._word(self.ends, message)
                return {"type": event.type, "reason": reason, key: self.message(message)}
            case _:
                return {"type": event.type}


def _block(block: Block, *, done: bool) -> dict[str, Any]:
    match block:
        case Text():
            return {"type": "text", "text": block.text, "text_signature": block.signature}
        case Thinking():
            signed = {"thinking_signature": block.signature}
            return {"type": "thinking", "thinking": block.text, **signed}
        case ToolCall():
            call = {"type": "tool_call", "id": block.id, "name": block.name}
            call |= {"arguments": block.arguments}
            return call if done else {**call, "partial_json": block.arguments_text}


def option(options: Any, name: str) -> Any:
    """An option by name, from a dict or an object; None when it is not there."""
    return options.get(name) if is_object(options) else getattr(options, name, None)


def context_of(context: Any, provider: str) -> Context:
    """Tinyagent's context in canon: messages are dicts or have `model_dump`.

    Raises:
        TypeError: a message is neither.
    """
    messages = [_dumped(message) for message in option(context, "messages") or ()]
    names = ("name", "description", "parameters")
    tools = [
        {name: option(tool, name) for name in names} for tool in option(context, "tools") or ()
    ]
    system = option(context, "system_prompt") or ""
    wire = {"system_prompt": system, "messages": messages, "tools": tools}
    return proxy_context.decode_context({"context": wire}, provider)


def _dumped(message: Any) -> dict[str, Any]:
    if is_object(message):
        return message
    dump = getattr(message, "model_dump", None)
    if dump is None:
        raise TypeError(
            f"context.messages: {type(message).__name__} is neither a dict nor has model_dump()"
        )
    dumped: object = dump(exclude_none=True)
    if not is_object(dumped):
        raise TypeError("context.messages: model_dump() must return a dict")
    return dumped
