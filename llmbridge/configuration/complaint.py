"""What is wrong with a file of settings, in the words of who wrote it: the key, what stands there, what should."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from llmbridge.exchange.printable import one_line
from llmbridge.stores.safe_load import is_array, is_object

_WHERE = re.compile(r" - at (`key` in )?`\$(.*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[\.\.\.\]")

_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*?)`")
_WRONG = re.compile(r"Expected `(.*?)`, got `(.*?)`|Invalid enum value ")

_SECRET = frozenset(("api_key", "env", "headers", "key", "keys", "token"))

_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "empty",
    "object": "keys with values",
    "str": "text",
}
_KINDS: dict[type, str] = {
    bool: "bool",
    dict: "object",
    float: "float",
    int: "int",
    list: "array",
    str: "str",
    type(None): "null",
}


def complaint(
    message: str, tree: dict[str, Any], keys: Sequence[str], choices: Mapping[str, Sequence[str]]
) -> str:
    """What msgspec says of a tree; `keys` may stand at that place, and `choices` are the words for some keys."""
    found = _WHERE.search(message)
    said = message[: found.start()] if found else message
    key = found[2].removeprefix(".") if found else ""
    if found and found[1]:
        return f"{key or 'the file'} has a key that is no text: write it in quotes"
    if unknown := _UNKNOWN.match(said):
        full = f"{key}.{unknown[1]}" if key else unknown[1]
        near = get_close_matches(unknown[1], keys, 1)
        return f"there is no key {full!r}: " + (
            f"do you mean {near[0]!r}?" if near else f"there are {', '.join(keys)}"
        )
    if missing := _MISSING.match(said):
        return f"{key or 'the file'} has no {missing[1]}: give one"
    if wrong := _WRONG.match(said):
        steps = list(_STEP.finditer(found[2] if found else ""))
        place, value = _at(tree, steps, wrong[2])
        words = choices.get(place.rpartition(".")[2])
        wanted = f"one of {', '.join(words)}" if words else _wanted(wrong[1] or "", wrong[2] or "")
        return f"{place or 'the file'} is {_shown(place, value)}: give {wanted}"
    return f"{key or 'the file'}: {said[:1].lower()}{said[1:]}"


def _at(tree: Any, steps: Sequence[re.Match[str]], kind: str | None) -> tuple[str, Any]:
    """The place and its value. Keys that users choose are not named by msgspec: the first of that kind it is."""
    places = list(_places("", tree, steps))
    return next((each for each in places if _kind_of(each[1]) == kind), places[0])


def _places(place: str, value: Any, steps: Sequence[re.Match[str]]) -> Iterator[tuple[str, Any]]:
    if not steps:
        yield place, value
    elif steps[0][1] and is_object(value):
        yield from _places(f"{place}.{steps[0][1]}".lstrip("."), value[steps[0][1]], steps[1:])
    elif steps[0][2] and is_array(value):
        yield from _places(f"{place}[{steps[0][2]}]", value[int(steps[0][2])], steps[1:])
    elif is_object(value):
        for name, inner in value.items():
            yield from _places(f"{place}.{name}", inner, steps[1:])


def _kind_of(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _shown(place: str, value: Any) -> str:
    """The value, but for one that is long or may be secret: of that the kind."""
    kind = _kind_of(value)
    if kind in ("array", "null", "object") or not _SECRET.isdisjoint(re.split(r"[.\[]", place)):
        return _WORDS.get(kind, kind)
    text = repr(value) if kind == "str" else json.dumps(value, default=str)
    return one_line(text, limit=80)


def _wanted(kinds: str, got: str) -> str:
    words = [_WORDS.get(kind, kind) for kind in kinds.split(" | ") if kind != "null"]
    quotes = ", in quotes" if words == ["text"] and got in ("bool", "float", "int") else ""
    return " or ".join(words) + quotes
