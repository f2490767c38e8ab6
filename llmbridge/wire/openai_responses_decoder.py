"""Answers of OpenAI's Responses API to deltas, streamed and whole.

A stream says everything up to four times: in deltas, at the end of a part, of an item and of the response. What was
said is not repeated, and what a gateway left out is taken from where it is said first.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from llmbridge.canon.events import BlockDelta, BlockEnd, BlockStart, Delta, Fail, Finish, Start
from llmbridge.canon.messages import Block, StopReason, Text, Thinking, ToolCall, Usage
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.fast_json import typed
from llmbridge.wire.loose_json import is_object, objects, text
from llmbridge.wire.openai_usage import decode_usage
from llmbridge.wire.sse import SSE

_CALLS = ("function_call", "custom_tool_call", "mcp_call")
_KINDS = ("message", "reasoning", *_CALLS)


class _Voice(NamedTuple):
    """A text that grows: in which kind of item, and under which name."""

    kind: str
    name: str


_VOICES: Mapping[str, _Voice] = MappingProxyType(
    {
        "response.output_text": _Voice("message", "text"),
        "response.refusal": _Voice("message", "refusal"),
        "response.reasoning_text": _Voice("reasoning", "content"),
        # OpenRouter's name for it.
        "response.reasoning": _Voice("reasoning", "content"),
        "response.reasoning_summary_text": _Voice("reasoning", "summary"),
        "response.function_call_arguments": _Voice("function_call", "arguments"),
        "response.custom_tool_call_input": _Voice("custom_tool_call", "input"),
        "response.mcp_call_arguments": _Voice("mcp_call", "arguments"),
    }
)
_DELTAS = {f"{name}.delta": voice for name, voice in _VOICES.items()}
_DONES = {f"{name}.done": voice for name, voice in _VOICES.items()}


class _Response(msgspec.Struct):
    """A response object, or an error object; the rest of it is a copy of the request."""

    id: Any = None
    object: Any = None
    model: Any = None
    status: Any = None
    output: Any = None
    usage: Any = None
    error: Any = None
    incomplete_details: Any = None


class _Wire(msgspec.Struct):
    """One event's data, typed where it is hot."""

    type: str = ""
    delta: str = ""
    output_index: int | None = None
    item_id: str | None = None
    content_index: int | None = None
    summary_index: int | None = None
    item: dict[str, Any] | None = None
    part: dict[str, Any] | None = None
    response: _Response | None = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None
    input: Any = None
    error: Any = None
    code: Any = None
    message: Any = None


_decode_wire = typed(_Wire)
_decode_response = typed(_Response)


class _Item:
    """One output item: the blocks that it opened, and what each of its texts has said so far.

    Each part of a message is a block of its own; the parts of any other item share block 0.
    """

    __slots__ = ("call", "done", "ended", "id", "kind", "places", "said", "voice")

    def __init__(self, kind: str, id: str) -> None:
        self.kind = kind
        self.id = id
        self.call: ToolCall | None = None
        self.voice = ""
        self.said: dict[int, list[str]] = {}
        self.places: dict[int, int] = {}
        self.ended: set[int] = set()
        self.done = False

    def slot(self, index: int) -> int:
        return index if self.kind == "message" else 0

    def opened(self, slot: int) -> bool:
        return slot in self.places or slot in self.ended

    def words(self, slot: int) -> str:
        return "".join(
            t for index, texts in self.said.items() if self.slot(index) == slot for t in texts
        )

    def first_index(self, count: int) -> int:
        """Where the stream began to count the `count` parts: Bedrock at 1."""
        seen = self.places.keys() | self.ended if self.kind == "message" else set(self.said)
        return 1 if seen and 0 not in seen and max(seen) == count else 0


class ResponseDecoder:
    """Events of one reply to deltas."""

    def __init__(self) -> None:
        self._items: list[_Item] = []
        self._at: dict[int, _Item] = {}
        self._blocks = 0
        self._started = False
        self._over = False
        self._refused = False
        self._model: str | None = None
        self._id: str | None = None
        self._usage: dict[str, Any] | None = None

    def feed(self, sse: SSE) -> Iterable[Delta]:
        """The deltas this event brings."""
        if self._over:
            return ()
        try:
            wire = _decode_wire(sse.data)
        except ValueError:
            return ()
        if voice := _DELTAS.get(wire.type):
            item = self._item(voice.kind, wire.output_index, wire.item_id)
            return self._say(item, voice.name, _index(wire), wire.delta)
        return list(self._take(wire))

    def close(self) -> Iterable[Delta]:
        """`Fail("truncated")` unless the response ended."""
        if self._over:
            return ()
        reason = "the stream stopped before response.completed"
        return [*self._end_all(), self._fail("truncated", reason)]

    def finish(self, response: _Response, status: str) -> Iterator[Delta]:
        """What the response object adds, and the end. `status` is for an object that has none."""
        self._note(response)
        yield from self._start()
        yield from self._recall(objects(response.output))
        yield from self._end_all()
        stop = text(response.status) or status or None
        if stop == "failed" or response.error:
            yield self._fail(*_failure(response.error), stop)
            return
        self._over = True
        reason = self._stop_reason(stop, response.incomplete_details)
        yield Finish(reason, stop, self._known_usage(), self._model, self._id)

    def _take(self, wire: _Wire) -> Iterator[Delta]:
        match wire.type:
            case "response.created" | "response.queued" | "response.in_progress":
                self._note(wire.response or _Response())
                yield from self._start()
            case "response.output_item.added" | "response.output_item.done":
                yield from self._take_item(wire, wire.item or {})
            case "response.content_part.added" | "response.content_part.done":
                yield from self._take_part(wire, wire.part or {})
            case "response.completed" | "response.incomplete" | "response.failed":
                status = wire.type.removeprefix("response.")
                yield from self.finish(wire.response or _Response(), status)
            case "error":
                flat = {"code": wire.code, "message": wire.message}
                yield from self._break_off(wire.error or flat)
            case "" if wire.error:
                yield from self._break_off(wire.error)
            case kind if voice := _DONES.get(kind):
                item = self._item(voice.kind, wire.output_index, wire.item_id)
                whole = wire.arguments or wire.input or wire.refusal or wire.text
                yield from self._complete(item, voice.name, _index(wire), whole)
            case _:
                pass

    def _take_item(self, wire: _Wire, value: dict[str, Any]) -> Iterator[Delta]:
        kind, id = value.get("type"), text(value.get("id"))
        if kind not in _KINDS:
            return
        item, ends = self._item(kind, wire.output_index, id), wire.type.endswith(".done")
        if item.id != id and (item.done or (item.said and not ends)):
            # A gateway that gives every item the index 0.
            item = self._new(kind, wire.output_index, id)
        item.id = id
        if ends:
            yield from self._settle(item, value)
        elif kind in _CALLS and value.get("name"):
            item.call = _call(value)
            yield from self._open(item, 0, "call")

    def _take_part(self, wire: _Wire, part: dict[str, Any]) -> Iterator[Delta]:
        if (words := _words(part)) is None:
            return
        item, index = self._item("message", wire.output_index, wire.item_id), _index(wire)
        if wire.type.endswith(".added"):
            yield from self._open(item, index, words[0])
        else:
            yield from self._settle_part(item, index, *words)
            yield from self._end(item, index)

    def _item(self, kind: str, index: int | None, id: str | None) -> _Item:
        """The item an event speaks of; ids count where there is no index, as some gateways change them every time."""
        if index is not None:
            item = self._at.get(index)
            return item if item and item.kind == kind else self._new(kind, index, id)
        for item in reversed(self._items):
            same = item.id == id if item.id and id else not item.done
            if same and item.kind == kind:
                return item
        return self._new(kind, index, id)

    def _new(self, kind: str, index: int | None, id: str | None) -> _Item:
        item = _Item(kind, id or "")
        self._items.append(item)
        if index is not None:
            self._at[index] = item
        return item

    def _recall(self, output: list[dict[str, Any]]) -> Iterator[Delta]:
        """Settle what the stream left open, and say what it left out: items are the same by their ids, else in order."""
        values = [value for value in output if value.get("type") in _KINDS]
        left = list(self._items)
        named = [_claim(left, value, _same_ids) for value in values]
        for value, item in zip(values, named, strict=True):
            item = item or _claim(left, value, _nameless)
            item = item or self._new(value["type"], None, text(value.get("id")))
            yield from self._settle(item, value)

    def _settle(self, item: _Item, value: dict[str, Any]) -> Iterator[Delta]:
        """Say what the whole item says and the stream did not; then it is complete."""
        if item.done:
            return
        signature = None
        match item.kind:
            case "message":
                parts = objects(value.get("content"))
                for index, part in enumerate(parts, item.first_index(len(parts))):
                    if words := _words(part):
                        yield from self._settle_part(item, index, *words)
            case "reasoning":
                signature = text(value.get("encrypted_content")) or None
                for name in ("content", "summary"):
                    parts = objects(value.get(name))
                    for index, part in enumerate(parts, item.first_index(len(parts))):
                        yield from self._complete(item, name, index, part.get("text"))
                if signature:
                    yield from self._open(item, 0, "redacted")
            case _:
                item.call = item.call or _call(value)
                yield from self._open(item, 0, "call")
                name = "input" if item.call.custom else "arguments"
                yield from self._complete(item, name, 0, value.get(name))
        item.done = True
        for slot in list(item.places):
            yield from self._end(item, slot, signature)

    def _settle_part(self, item: _Item, index: int, name: str, whole: str) -> Iterator[Delta]:
        yield from self._complete(item, name, index, whole)
        yield from self._open(item, index, name)

    def _complete(self, item: _Item, name: str, index: int, whole: Any) -> Iterable[Delta]:
        """Say the rest of a text that is now told as a whole."""
        whole = dump(whole).decode() if is_object(whole) else whole
        said = "".join(item.said.get(index, ()))
        # Deltas that do not add up to it were shown already: they stay.
        if not isinstance(whole, str) or not whole.startswith(said):
            return ()
        return self._say(item, name, index, whole[len(said) :])

    def _say(self, item: _Item, name: str, index: int, piece: str) -> Iterable[Delta]:
        if not piece:
            return ()
        if name != item.voice:
            # Full reasoning and its summary tell the same: the first that speaks is decoded.
            if item.kind == "reasoning" and item.voice:
                return ()
            item.voice = name
            self._refused = self._refused or name == "refusal"
        slot = item.slot(index)
        place = item.places.get(slot)
        if place is None and (item.done or slot in item.ended):
            return ()
        item.said.setdefault(index, []).append(piece)
        return self._open(item, slot, name) if place is None else (BlockDelta(place, piece),)

    def _open(self, item: _Item, slot: int, name: str) -> Iterable[Delta]:
        """Open a block with what it said already; a call waits for its name."""
        block = _EMPTY.get(name, item.call)
        if block is None or item.done or item.opened(slot):
            return ()
        item.places[slot] = place = self._blocks
        self._blocks += 1
        opened = [*self._start(), BlockStart(place, block)]
        return [*opened, BlockDelta(place, words)] if (words := item.words(slot)) else opened

    def _end(self, item: _Item, slot: int, signature: str | None = None) -> Iterable[Delta]:
        place = item.places.pop(slot, None)
        if place is None:
            return ()
        item.ended.add(slot)
        return (BlockEnd(place, signature),)

    def _end_all(self) -> Iterator[Delta]:
        for item in self._items:
            for slot in list(item.places):
                yield from self._end(item, slot)

    def _break_off(self, error: Any) -> Iterator[Delta]:
        yield from self._end_all()
        yield self._fail(*_failure(error))

    def _fail(self, kind: str | None, error: str | None, stop: str | None = None) -> Fail:
        self._over = True
        return Fail(kind, error, "error", stop, self._known_usage(), self._model, self._id)

    def _start(self) -> Iterable[Delta]:
        if self._started:
            return ()
        self._started = True
        return (Start(self._model, self._id),)

    def _note(self, response: _Response) -> None:
        self._model = self._model or text(response.model) or None
        self._id = self._id or text(response.id) or None
        if is_object(response.usage):
            self._usage = response.usage

    def _known_usage(self) -> Usage | None:
        return None if self._usage is None else decode_usage(self._usage, "input", "output")

    def _stop_reason(self, stop: str | None, details: Any) -> StopReason | None:
        match stop:
            case "incomplete":
                reason = details.get("reason") if is_object(details) else None
                return "content_filter" if reason == "content_filter" else "length"
            case "queued" | "in_progress":
                return None
            case "cancelled":
                return "aborted"
            case _ if self._refused:
                return "content_filter"
            case _:
                called = any(item.call and not item.call.server for item in self._items)
                return "tool_use" if called else "stop"


_EMPTY: Mapping[str, Block] = MappingProxyType(
    {
        "text": Text(),
        "refusal": Text(refusal=True),
        "content": Thinking(),
        "summary": Thinking(),
        "redacted": Thinking(redacted=True),
    }
)


def decode_response(body: bytes) -> Iterable[Delta]:
    """The deltas of a whole answer.

    Raises:
        ValueError: it is neither a response object nor an error object.
    """
    response = _decode_response(body)
    if response.object == "response" or isinstance(response.output, list):
        return list(ResponseDecoder().finish(response, ""))
    if response.error:
        return (Fail(*_failure(response.error)),)
    raise ValueError("the answer is neither a response object nor an error object")


def _failure(error: Any) -> tuple[str | None, str | None]:
    """Type (else code) and message, from an object or, at xAI, from a string."""
    if not is_object(error):
        return None, text(error) or None
    kind, message = error.get("type") or error.get("code"), error.get("message")
    return str(kind) if kind else None, str(message) if message else None


def _call(value: dict[str, Any]) -> ToolCall:
    kind = value.get("type")
    return ToolCall(
        text(value.get("call_id")) or text(value.get("id")),
        text(value.get("name")),
        server=kind == "mcp_call",
        custom=kind == "custom_tool_call",
    )


def _claim(
    left: list[_Item], value: dict[str, Any], fits: Callable[[_Item, dict[str, Any]], bool]
) -> _Item | None:
    """The first of the items left that fits the value; it is taken out."""
    for item in left:
        if item.kind == value["type"] and fits(item, value):
            left.remove(item)
            return item
    return None


def _same_ids(item: _Item, value: dict[str, Any]) -> bool:
    id, call_id = text(value.get("id")), text(value.get("call_id"))
    return bool((id and item.id == id) or (call_id and item.call and item.call.id == call_id))


def _nameless(item: _Item, _value: dict[str, Any]) -> bool:
    return item.call is None


def _words(part: dict[str, Any]) -> tuple[str, str] | None:
    """A message part's name and text; None for parts that hold neither text nor a refusal."""
    name = "refusal" if part.get("type") == "refusal" else "text"
    known = part.get("type") in ("output_text", "text", "refusal")
    return (name, str(part.get(name) or "")) if known else None


def _index(wire: _Wire) -> int:
    return wire.content_index or wire.summary_index or 0
