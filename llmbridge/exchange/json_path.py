"""Places in JSON: `$.messages[*].name`, `$..id`.

Source: RFC 9535, without filters and slices.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmbridge.errors import ConfigurationError
from llmbridge.wire.loose_json import is_list, is_object

_STEP = re.compile(
    r"(?:(?P<deep>\.\.)|\.)?"
    r"(?:(?<=\.)(?P<name>[^\W\d][\w-]*|\*)"
    r"|\[(?:(?P<index>-?\d+)|(?P<star>\*)|'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\")\])"
)
_PLAIN = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class _Step:
    """One step down; None stands for every name or index."""

    key: str | int | None
    deep: bool


class JsonPath:
    """A path to places that may be there.

    Raises:
        ConfigurationError: it is no such path.
    """

    __slots__ = ("_steps", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._steps = tuple(_steps(text))

    def __repr__(self) -> str:
        return f"JsonPath({self.text!r})"

    def remove(self, value: Any) -> None:
        """Take out what stands there, in place."""
        *way, last = self._steps
        holders = [value]
        for step in way:
            holders = [
                holder[key] for above in holders for holder, key in list(_found(above, step))
            ]
        for above in holders:
            # From the back, so that the indexes before stay what they are.
            for holder, key in reversed(list(_found(above, last))):
                del holder[key]


def join(path: str, key: str | int) -> str:
    """The path one step further down."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if _PLAIN.fullmatch(key) else f"{path}[{key!r}]"


def _steps(text: str) -> Iterator[_Step]:
    place = 1
    while text.startswith("$") and (step := _STEP.match(text, place)):
        place = step.end()
        index, name = step["index"], step["name"] or step["single"] or step["double"]
        every = step["star"] or step["name"] == "*"
        key = None if every else int(index) if index else name or ""
        yield _Step(key, step["deep"] is not None)
    if place != len(text) or place == 1:
        raise ConfigurationError(
            f"ignore={text!r} is no path: write for example $.messages[*].name or $..id"
        )


def _found(value: Any, step: _Step) -> Iterator[tuple[Any, Any]]:
    """Each holder with the key of what the step leads to."""
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        if is_object(holder):
            if step.key is None:
                yield from ((holder, key) for key in holder)
            elif isinstance(step.key, str) and step.key in holder:
                yield holder, step.key
            children = list(holder.values())
        elif is_list(holder):
            if step.key is None:
                yield from ((holder, index) for index in range(len(holder)))
            elif isinstance(step.key, int) and -len(holder) <= step.key < len(holder):
                yield holder, step.key
            children = holder
        else:
            continue
        if step.deep:
            waiting += children
