"""What differs between two JSON values, place by place, said in a few words."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from llmbridge.exchange.json_path import join
from llmbridge.wire.loose_json import is_list, is_object

_WIDTH = 60
_BEFORE = 20
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One place (a JSON path), and what stands there: `recorded` and `now`, cut to a readable length."""

    path: str
    recorded: str
    now: str

    def __str__(self) -> str:
        return f"{self.path}: recorded {self.recorded}, now {self.now}"


def differences(recorded: Any, now: Any, limit: int = 100) -> tuple[Difference, ...]:
    """The places where the values differ, in order, at most so many."""
    return tuple(islice(_walk(recorded, now), limit))


def in_words(found: Sequence[Difference], most: int = 5) -> str:
    """The first of them in one line."""
    said = "; ".join(str(each) for each in found[:most])
    more = len(found) - most
    return f"{said}; and {more} more" if more > 0 else said


def same_start(one: str | bytes, other: str | bytes) -> int:
    """How far two texts are alike from their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _walk(recorded: Any, now: Any) -> Iterator[Difference]:
    # A stack of our own: requests may be nested deeper than Python likes to call.
    waiting: list[tuple[str, Any, Any]] = [("$", recorded, now)]
    while waiting:
        path, old, new = waiting.pop()
        pairs: list[tuple[str | int, Any, Any]]
        if is_object(old) and is_object(new):
            keys = [*old, *(key for key in new if key not in old)]
            pairs = [(key, old.get(key, _ABSENT), new.get(key, _ABSENT)) for key in keys]
        elif is_list(old) and is_list(new):
            pairs = [(at, _item(old, at), _item(new, at)) for at in range(max(len(old), len(new)))]
        else:
            if type(old) is not type(new) or old != new:
                yield Difference(path, *_shown(old, new))
            continue
        waiting += [(join(path, key), a, b) for key, a, b in reversed(pairs)]


def _item(items: Sequence[Any], index: int) -> Any:
    return items[index] if index < len(items) else _ABSENT


def _shown(recorded: Any, now: Any) -> tuple[str, str]:
    start = 0
    if isinstance(recorded, str) and isinstance(now, str):
        start = max(0, same_start(recorded, now) - _BEFORE)
        if max(len(recorded), len(now)) <= _WIDTH:
            start = 0
    return _cut(recorded, start), _cut(now, start)


def _cut(value: Any, start: int) -> str:
    if value is _ABSENT:
        return "nothing"
    if isinstance(value, str):
        piece = value[start : start + _WIDTH]
        before = "..." if start else ""
        after = "..." if len(value) > start + _WIDTH else ""
        return json.dumps(before + piece + after, ensure_ascii=False)
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        text = "something nested deep"
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}..."
