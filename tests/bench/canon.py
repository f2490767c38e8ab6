"""What it costs to know a reply while it grows: snapshots, and the arguments of tool calls."""

import copy
import json
from collections.abc import Sequence
from functools import partial

import jiter

from llmbridge.canon.events import BlockDelta, BlockStart, Delta, Event, Snapshot, Start
from llmbridge.canon.messages import Text
from llmbridge.canon.partial_json import PartialJSON
from tests.bench.sessions import pieces
from tests.bench.table import Plan, Table
from tests.bench.timing import Costs, Work


def snapshot(plan: Plan) -> Table:
    """One event with the message so far; all of them are kept, as a widget keeps them."""
    costs = Costs(plan)
    for count in (200, 2_000, 20_000):
        texts = pieces(count)
        deltas: list[Delta] = [
            Start(),
            BlockStart(0, Text("")),
            *(BlockDelta(0, text) for text in texts),
        ]
        ways: dict[str, Work] = {
            "text += piece": partial(add_up, texts),
            "deepcopy": partial(copy_each, texts),
            "llmbridge": partial(keep, deltas),
        }
        if count <= 2_000:
            # Quadratic, since every text that is read must be joined.
            ways["llmbridge, each one read"] = partial(keep_and_read, deltas)
        costs.measure(f"{count:,} deltas", count, ways)
    return Table("Snapshots, CPU us/delta", costs.figures, baseline="text += piece")


def add_up(texts: Sequence[str]) -> str:
    whole = ""
    for text in texts:
        whole += text
    return whole


def keep(deltas: Sequence[Delta]) -> list[Event]:
    grown = Snapshot()
    return [grown.apply(delta) for delta in deltas]


def keep_and_read(deltas: Sequence[Delta]) -> None:
    for event in keep(deltas)[2:]:
        _ = event.partial.content[0].text


def copy_each(texts: Sequence[str]) -> Sequence[object]:
    block = {"type": "text", "text": ""}
    message = {"role": "assistant", "content": [block], "usage": {"output_tokens": 1}}
    seen = []
    for text in texts:
        block["text"] += text
        seen.append(copy.deepcopy(message))
    return seen


def arguments(plan: Plan) -> Table:
    """Tool arguments that come ten bytes at a time, their value wanted every time."""
    costs = Costs(plan)
    for size in (1_000, 10_000, 100_000, 1_000_000):
        text = tool_arguments(size)
        parts = [text[i : i + 10] for i in range(0, size, 10)]
        ways: dict[str, Work] = {
            "json.loads once": partial(json.loads, text),
            "llmbridge": partial(grow, parts),
        }
        if size <= 10_000:
            # Quadratic, since it starts again at every piece: minutes for 1 MB.
            ways["jiter each time"] = partial(parse_each, parts)
        costs.measure(f"{size // 1000:,} kB", size / 1000, ways)
    note = "us/kB, so at 1 MB also: ms in all"
    return Table("Tool arguments, CPU us/kB", costs.figures, baseline="json.loads once", note=note)


def tool_arguments(size: int) -> str:
    """JSON of exactly that many bytes: edits of a file, and what is missing in a last string."""
    edit = {
        "path": "src/app.py",
        "line": 12,
        "old": 'print("a")\n',
        "new": 'print("b")\n',
        "all": False,
    }
    count = (size - 50) // len(json.dumps(edit) + ", ")
    text = json.dumps({"edits": [edit] * count, "rest": ""})
    return text[:-2] + "x" * (size - len(text)) + text[-2:]


def grow(parts: Sequence[str]) -> object:
    parser, value = PartialJSON(), None
    for part in parts:
        value = parser.feed(part).value
    return value


def parse_each(parts: Sequence[str]) -> object:
    text, value = b"", None
    for part in parts:
        text += part.encode()
        value = jiter.from_json(text, partial_mode="trailing-strings")
    return value
