"""A reply as it grows: six deltas in, one event each out, every event with the message so far.

`Snapshot` is the only place that builds a message. An event holds a place in the shared history, not a copy: the
message is put together when `Event.partial` is read, so keeping every event of a long reply costs no text twice.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, assert_never, overload

from llmbridge.canon.markup import panel, preformatted
from llmbridge.canon.messages import (
    AssistantMessage,
    Block,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    Usage,
    message_html,
    shortened,
)
from llmbridge.canon.partial_json import PartialJSON

EventType = Literal[
    "start",
    "text_start",
    "text_delta",
    "text_end",
    "thinking_start",
    "thinking_delta",
    "thinking_end",
    "tool_call_start",
    "tool_call_delta",
    "tool_call_end",
    "done",
    "error",
]


@dataclass(frozen=True, slots=True)
class Start:
    """The reply begins; what is not known yet may come with `Finish`."""

    model: str | None = None
    response_id: str | None = None


@dataclass(frozen=True, slots=True)
class BlockStart:
    """Block number `index` opens; `block` says of which kind and is still empty."""

    index: int
    block: Block


@dataclass(frozen=True, slots=True)
class BlockDelta:
    """Block `index` grows by `text` (for a tool call: by a piece of its arguments)."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class BlockEnd:
    """Block `index` is complete; a thinking block's signature comes with its end."""

    index: int
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The reply is whole. A `model` or `response_id` given here replaces that of `Start`."""

    stop_reason: StopReason | None = None
    stop: str | None = None
    usage: Usage | None = None
    model: str | None = None
    response_id: str | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """The reply broke off; what came before stays. `Finish`'s fields mean the same here."""

    error_type: str | None = None
    error: str | None = None
    stop_reason: StopReason | None = "error"
    stop: str | None = None
    usage: Usage | None = None
    model: str | None = None
    response_id: str | None = None


Delta = Start | BlockStart | BlockDelta | BlockEnd | Finish | Fail


class _Growing:
    """One block under way: append-only pieces, each with the place in the history where it came."""

    __slots__ = (
        "arguments",
        "block",
        "closed",
        "fed",
        "grows",
        "opened",
        "pieces",
        "places",
        "signature",
        "whole",
    )

    def __init__(self, block: Block, opened: int, grows: EventType) -> None:
        self.block = block
        self.opened = opened
        self.grows: EventType = grows
        self.closed = 0
        self.signature: str | None = None
        self.pieces: list[str] = []
        self.places = array("Q")
        self.whole: Block | None = None
        self.arguments = PartialJSON()
        self.fed = 0

    def end(self, place: int, delta: BlockEnd) -> None:
        self.closed = place
        self.signature = delta.signature

    def at(self, place: int) -> Block:
        """The block as it stood then; once it is closed it is built a single time."""
        if not self.closed or place < self.closed:
            return self.build(bisect_right(self.places, place), None)
        if self.whole is None:
            self.whole = self.build(len(self.pieces), self.signature)
        return self.whole

    def build(self, count: int, signature: str | None) -> Block:
        text = "".join(self.pieces[:count])
        match self.block:
            case Text() | Thinking():
                return replace(self.block, text=text, signature=signature)
            case ToolCall(custom=True):
                return replace(self.block, arguments=text, arguments_text=text)
            case ToolCall():
                return replace(self.block, arguments=self.value(count), arguments_text=text)
            case _:
                assert_never(self.block)

    def value(self, count: int) -> object:
        """What the first `count` pieces of the arguments determine; {} while that is nothing."""
        if count < self.fed:
            # Scrolled back: the parser only goes forward.
            self.arguments, self.fed = PartialJSON(), 0
        pieces, self.fed = self.pieces[self.fed : count], count
        try:
            return self.arguments.feed("".join(pieces)).value
        except ValueError:
            return {}


class _History:
    """What has happened so far, shared by all events of one reply."""

    __slots__ = ("blocks", "ending", "order", "place", "start")

    def __init__(self) -> None:
        self.place = 0
        self.start = Start()
        self.blocks: dict[int, _Growing] = {}
        self.order: list[_Growing] = []
        self.ending: tuple[int, Finish | Fail] | None = None

    def message(self, place: int) -> AssistantMessage:
        start = self.start
        if self.ending is None or place < self.ending[0]:
            return AssistantMessage(Blocks(self, place), start.model, start.response_id)
        end = self.ending[1]
        return AssistantMessage(
            content=tuple(Blocks(self, place)),
            model=end.model or start.model,
            response_id=end.response_id or start.response_id,
            stop_reason=end.stop_reason,
            stop=end.stop,
            usage=end.usage,
            error_type=end.error_type if isinstance(end, Fail) else None,
            error=end.error if isinstance(end, Fail) else None,
        )


class Blocks(Sequence[Block]):
    """The blocks of a message under way: equal to a tuple of them, each put together when it is read."""

    __slots__ = ("_count", "_history", "_place")

    def __init__(self, history: _History, place: int) -> None:
        self._history = history
        self._place = place
        self._count = bisect_right(history.order, place, key=lambda block: block.opened)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Block, ...]: ...
    def __getitem__(self, index: int | slice) -> Block | tuple[Block, ...]:
        chosen = self._history.order[: self._count][index]
        if isinstance(chosen, list):
            return tuple(block.at(self._place) for block in chosen)
        return chosen.at(self._place)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == (tuple(other) if isinstance(other, Blocks) else other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


class Event:
    """One step of a reply: what kind, the delta itself, and the message as it stands after it."""

    __slots__ = ("_history", "_place", "delta", "type")

    def __init__(self, type: EventType, delta: Delta, history: _History) -> None:
        self.type = type
        self.delta = delta
        self._history = history
        self._place = history.place

    @property
    def partial(self) -> AssistantMessage:
        """The message so far; it never changes, whatever comes after."""
        return self._history.message(self._place)

    def __repr__(self) -> str:
        return f"Event(type={self.type!r}, delta={self.delta!r})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        piece = self.delta.text if isinstance(self.delta, BlockDelta) else ""
        printer.text(f"Event({self.type}{f' {shortened(piece, 80)}' if piece else ''})")

    def _repr_html_(self) -> str:
        so_far = message_html(self.partial)
        return panel(f"Event {self.type}", preformatted(self.delta), so_far)


_KINDS: dict[type[Block], tuple[EventType, EventType, EventType]] = {
    Text: ("text_start", "text_delta", "text_end"),
    Thinking: ("thinking_start", "thinking_delta", "thinking_end"),
    ToolCall: ("tool_call_start", "tool_call_delta", "tool_call_end"),
}


_Rare = Start | BlockStart | BlockEnd | Finish | Fail


class Snapshot:
    """Builds a reply from deltas, one event for each."""

    __slots__ = ("_history",)

    def __init__(self) -> None:
        self._history = _History()

    def apply(self, delta: Delta) -> Event:
        """Take the next delta.

        Raises:
            KeyError: the delta names a block that was never started.
        """
        history = self._history
        history.place += 1
        if isinstance(delta, BlockDelta):
            # Nearly all deltas are of this kind: no detour for them.
            block = history.blocks[delta.index]
            block.pieces.append(delta.text)
            block.places.append(history.place)
            return Event(block.grows, delta, history)
        return Event(self._take(delta, history), delta, history)

    def _take(self, delta: _Rare, history: _History) -> EventType:
        match delta:
            case BlockStart(index, block):
                started, grows, _ = _KINDS[type(block)]
                history.blocks[index] = _Growing(block, history.place, grows)
                history.order.append(history.blocks[index])
                return started
            case BlockEnd(index):
                ended = history.blocks[index]
                ended.end(history.place, delta)
                return _KINDS[type(ended.block)][2]
            case Start():
                history.start = delta
                return "start"
            case Finish():
                history.ending = (history.place, delta)
                return "done"
            case Fail():
                history.ending = (history.place, delta)
                return "error"
            case _:
                assert_never(delta)

    @property
    def message(self) -> AssistantMessage:
        """The message as it stands now."""
        return self._history.message(self._history.place)


def fold(deltas: Iterable[Delta]) -> AssistantMessage:
    """The message that the deltas make."""
    snapshot = Snapshot()
    for delta in deltas:
        snapshot.apply(delta)
    return snapshot.message


def unfold(message: AssistantMessage) -> Iterator[Delta]:
    """The deltas that make the message: one piece a block. `fold(unfold(m)) == m`."""
    yield Start(message.model, message.response_id)
    for index, block in enumerate(message.content):
        yield BlockStart(index, _empty(block))
        if block.text:
            yield BlockDelta(index, block.text)
        yield BlockEnd(index, None if isinstance(block, ToolCall) else block.signature)
    if message.error is not None or message.error_type is not None:
        yield Fail(
            message.error_type, message.error, message.stop_reason, message.stop, message.usage
        )
    elif message.stop_reason is not None or message.stop is not None or message.usage is not None:
        yield Finish(message.stop_reason, message.stop, message.usage)


def _empty(block: Block) -> Block:
    match block:
        case Text() | Thinking():
            return replace(block, text="", signature=None)
        case ToolCall():
            return replace(block, arguments={}, arguments_text="")
        case _:
            assert_never(block)
