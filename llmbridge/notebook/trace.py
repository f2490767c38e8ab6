"""One interception as the inspector shows it: what happened, event by event, and how it stands.

A row is one event of the wire: `[seconds, name, bytes, data, steps]`. A step is a delta in a few characters: `["d", 2,
"text"]` grows block 2. The browser folds steps as `canon.events` folds deltas, so it can show any moment by itself.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from llmbridge.canon.events import BlockDelta, BlockEnd, BlockStart, Delta, Fail, Finish, Start
from llmbridge.canon.messages import Block, Text, Thinking, ToolCall, Usage
from llmbridge.exchange.call import Headers, Request
from llmbridge.wire.sse import SSE

Step = list[Any]
Row = list[Any]

PROMPT_CHARS = 160

RAW_CHARS = 4_000
"""What is kept of the data of one event."""

RAW_BYTES = 8 * 1024 * 1024
"""What is kept of all data of one interception; its text is kept in any case."""

BODY_CHARS = 1024 * 1024

_OF_THE_ROUND = ("stop_reason", "stop", "error", "error_type")
_TOKENS = ("input", "cache_read", "cache_write", "output", "reasoning", "total")


@dataclass(slots=True)
class Open:
    """A block so far."""

    about: dict[str, Any]
    pieces: list[str] = field(default_factory=list[str])
    closed: bool = False

    @property
    def text(self) -> str:
        """What was said in it."""
        return "".join(self.pieces)


class Trace:
    """What is known of one interception. `facts` are words and numbers for the list, the header and the end."""

    def __init__(self, id: str, **facts: Any) -> None:
        self.id = id
        self.facts: dict[str, Any] = {"id": id, "status": "live", **facts}
        self.rows: list[Row] = []
        self.blocks: list[Open] = []
        self.asked: dict[str, Any] | None = None
        self.answered: dict[str, Any] | None = None
        self.bytes = 0
        self.version = 0
        self._raw_left = RAW_BYTES
        self._numbers: dict[int, int] = {}
        self._usage: dict[str, int] = {}
        self._cost: float | None = 0.0
        self._due: list[Step] = []
        self._rounds = 0

    def __repr__(self) -> str:
        return f"Trace({self.id}: {self.facts['status']}, {len(self.rows):,} events)"

    @property
    def live(self) -> bool:
        """True while more may come."""
        return bool(self.facts["status"] == "live")

    def know(self, **facts: Any) -> None:
        """Take what is known now; None says nothing."""
        self.facts.update({name: value for name, value in facts.items() if value is not None})
        self.version += 1

    def ask(self, request: Request | None) -> None:
        """Take the request, secrets already out."""
        if request is not None and self.asked is None:
            body = request.body.decode("utf-8", "replace")
            self.asked = {
                "method": request.method,
                "url": request.url,
                "headers": [list(pair) for pair in request.headers.pairs],
                "body": _cut(body, BODY_CHARS),
            }
            if len(body) > BODY_CHARS:
                self.know(cut=True)
            self.version += 1

    def answer(self, status: int, headers: Headers) -> None:
        """Take the head of the answer, secrets already out."""
        self.answered = {"status": status, "headers": [list(pair) for pair in headers.pairs]}
        self.know(http=status)

    def body(self, body: bytes) -> None:
        """Take an answer that was no stream, secrets already out."""
        if self.answered is not None:
            self.answered["body"] = _cut(body.decode("utf-8", "replace"), BODY_CHARS)
            self.bytes += len(body)
            self.version += 1

    def begin_round(self) -> None:
        """What follows is another exchange: its blocks are numbered from zero again, and it may do better."""
        self._numbers = {}
        if self._rounds:
            for name in _OF_THE_ROUND:
                self.facts.pop(name, None)
            self.know(rounds=self._rounds + 1)
            self._due.append(["r", self._rounds])
        self._rounds += 1

    def take(
        self,
        seconds: float,
        sse: SSE | None,
        data: str,
        deltas: Iterable[Delta],
        cost: float | None,
    ) -> None:
        """Take one event; `cost` is what the usage in it costs."""
        steps, self._due = [*self._due, *(self._step(delta, cost) for delta in deltas)], []
        size = len(data)
        kept = data if size <= RAW_CHARS else f"{data[:RAW_CHARS]}… ({size - RAW_CHARS:,} more)"
        self._raw_left -= len(kept)
        # Not the end of input itself, which is no event.
        if sse is None and not data and not steps:
            return
        name = "" if sse is None else sse.event
        raw = kept if self._raw_left >= 0 else None
        at_s = round(max(seconds, 0.0), 4)
        if "first_s" not in self.facts and any(step[0] == "d" for step in steps):
            self.know(first_s=at_s)
        self.rows.append([at_s, name, size, raw, steps])
        self.bytes += size + sum(len(str(step)) for step in steps) + 200

    def _step(self, delta: Delta, cost: float | None) -> Step:
        match delta:
            case BlockDelta(index, text):
                number = self._numbers[index]
                self.blocks[number].pieces.append(text)
                return ["d", number, text]
            case BlockStart(index, block):
                number = self._numbers[index] = len(self.blocks)
                about = _about(block)
                self.blocks.append(Open(about))
                return ["b", number, about]
            case BlockEnd(index):
                number = self._numbers[index]
                self.blocks[number].closed = True
                self.version += 1
                return ["e", number]
            case Start(model, response_id):
                self.know(answering=model, response_id=response_id)
                return ["s", {"answering": model, "response_id": response_id}]
            case Finish() | Fail():
                return ["f", self._finish(delta, cost)]
            case _:
                assert_never(delta)

    def _finish(self, delta: Finish | Fail, cost: float | None) -> dict[str, Any]:
        told: dict[str, Any] = {"stop_reason": delta.stop_reason, "stop": delta.stop}
        if delta.model is not None:
            told["answering"] = delta.model
        if delta.usage is not None:
            self._count(delta.usage, cost)
            told["usage"] = dict(self._usage)
            told["cost"] = self._cost
        if isinstance(delta, Fail):
            told["error_type"], told["error"] = delta.error_type, delta.error
        self.know(**told)
        if delta.usage is not None:
            told["raw_usage"] = dict(delta.usage.raw)
        return {name: value for name, value in told.items() if value is not None}

    def _count(self, usage: Usage, cost: float | None) -> None:
        """Add a round's tokens; a part of the bill is not the bill."""
        for name in _TOKENS:
            count = getattr(usage, f"{name}_tokens")
            if count is not None:
                self._usage[name] = self._usage.get(name, 0) + count
        self._cost = None if self._cost is None or cost is None else self._cost + cost

    # As it goes to the browser

    def summary(self) -> dict[str, Any]:
        """What the list and the header need."""
        return {**self.facts, "n": len(self.rows)}

    def so_far(self) -> dict[str, Any]:
        """How it stands, without how it came to that."""
        blocks = [[block.about, block.text, block.closed] for block in self.blocks]
        return {**self.summary(), "blocks": blocks}

    def thin(self) -> dict[str, Any]:
        """All events, without what was sent for them."""
        rows = [[*row[:3], None, row[4]] for row in self.rows]
        return {**self.summary(), "rows": rows}

    def whole(self) -> dict[str, Any]:
        """Everything."""
        return {
            **self.summary(),
            "rows": self.rows,
            "request": self.asked,
            "response": self.answered,
        }


def to_json(value: object) -> str:
    """JSON of ASCII, which carries a lone surrogate too."""
    return json.dumps(value, separators=(",", ":"), default=str)


def rows_json_size(rows: Sequence[Row]) -> int:
    """About how many characters these take."""
    return sum(len(row[3] or "") + 40 + sum(map(_step_json_size, row[4])) for row in rows)


def _step_json_size(step: Step) -> int:
    return 40 + (len(step[2]) if step[0] == "d" else 0)


def _about(block: Block) -> dict[str, Any]:
    match block:
        case Text(refusal=refusal):
            return {"kind": "refusal" if refusal else "text"}
        case Thinking(redacted=redacted):
            return {"kind": "thinking", "redacted": True} if redacted else {"kind": "thinking"}
        case ToolCall():
            about: dict[str, Any] = {"kind": "tool", "name": block.name, "id": block.id}
            if block.server:
                about["server"] = True
            if block.custom:
                about["custom"] = True
            return about
        case _:
            assert_never(block)


def _cut(text: str, limit: int) -> str:
    more = len(text) - limit
    return text if more <= 0 else f"{text[:limit]}… ({more:,} more characters)"
