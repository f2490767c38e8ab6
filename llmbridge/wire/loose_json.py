"""Reading JSON that others wrote: what is not of the kind that was asked for is not there."""

import re
from typing import Any, TypeGuard

_HUMP = re.compile(r"_([a-z])")
_COUNTLESS = 2**40
"""No answer takes so many tokens, and millions of answers that take fewer can be summed up in 64 bits."""


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """True for a JSON object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """True for a JSON array."""
    return isinstance(value, list)


def objects(value: object) -> list[dict[str, Any]]:
    """The objects in an array; of anything else, none."""
    return [item for item in value if is_object(item)] if is_list(value) else []


def text(value: object) -> str:
    """The string; empty for anything else."""
    return value if isinstance(value, str) else ""


def count(value: object) -> int | None:
    """The number of tokens or the like; None for anything else, and for one that nobody can have counted."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value < _COUNTLESS else None


def counts_in(value: dict[str, Any]) -> dict[str, int]:
    """The numbers in an object."""
    found = {name: count(inner) for name, inner in value.items()}
    return {name: number for name, number in found.items() if number is not None}


def camel(name: str) -> str:
    """`tool_call_id` as `toolCallId`."""
    return _HUMP.sub(lambda match: match[1].upper(), name)


def in_camel(value: object) -> dict[str, Any]:
    """The object with its own keys in camel case; of anything else, nothing."""
    return {camel(name): inner for name, inner in value.items()} if is_object(value) else {}
