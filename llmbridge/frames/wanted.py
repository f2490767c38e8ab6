"""Filters as conditions on the columns of the interceptions, which a database or a Parquet reader can check itself."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.columns import FRAMES
from llmbridge.exchange.options import time_of
from llmbridge.stores.conditions import Condition

Distinct = Callable[[str, Sequence[Condition]], Iterable[str | None]]
"""The values that a column has where all conditions hold."""

_TYPES = {column.name: column.dtype for column in FRAMES["interceptions"]}
_LISTS = {"provider": "providers", "dialect": "dialects", "model": "models"}
_WORDS = {"str": "text", "Int64": "a number", "boolean": "True or False"}
_NEVER = ()
_COUNTS = range(-(2**63), 2**63)


def conditions(filters: Mapping[str, object], distinct: Distinct) -> list[Condition]:
    """The same as these filters, which were checked, of interceptions that are in `distinct`'s reach."""
    plain = [_condition(name, value) for name, value in filters.items() if name not in _LISTS]
    lists = [
        _among(_LISTS[name], name, value, distinct(_LISTS[name], plain))
        for name, value in filters.items()
        if name in _LISTS
    ]
    return [*plain, *lists]


def check_value(name: str, value: object) -> None:
    """See that the filter can have this value.

    Raises:
        ConfigurationError: it is of a kind that nothing would be found for.
    """
    kind = _TYPES.get(name)
    match kind, value:
        case "str", str():
            fits = True
        case "Int64", int() | float():
            fits = True
        case "boolean", bool() | int() | float():
            fits = value in (0, 1)
        case _:
            fits = kind is None or (value is None and name != "model")
    if kind is not None and not fits:
        told = f"{name}={value!r}: give {_WORDS[kind]}"
        if isinstance(value, Collection) and not isinstance(value, str):
            told += f"; for several, read the frame and choose with frame[{name!r}].isin(...)"
        raise ConfigurationError(told)


def _condition(name: str, value: object) -> Condition:
    if name in ("since", "until"):
        return Condition("begun_at", "start" if name == "since" else "end", time_of(name, value))
    if value is None or name == "interception_id":
        return Condition(name, "be", value)
    match _TYPES[name], value:
        case "str", str():
            return Condition(name, "be", value)
        # As Python compares: 1 is 1.0 is True, and never "1".
        case "boolean", bool() | int() | float() if value in (0, 1):
            return Condition(name, "be", bool(value))
        case "Int64", bool() | int() if int(value) in _COUNTS:
            return Condition(name, "be", int(value))
        case "Int64", float() if value.is_integer() and int(value) in _COUNTS:
            return Condition(name, "be", int(value))
        case _:
            return Condition(name, "be_one_of", _NEVER)


def _among(column: str, name: str, value: object, found: Iterable[str | None]) -> Condition:
    if value is None and name != "model":
        return Condition(column, "be", None)
    lists = [text for text in found if text is not None]
    if name == "model":
        wanted = [
            text
            for text in lists
            if any(fnmatchcase(model, str(value)) for model in json.loads(text))
        ]
    else:
        wanted = [text for text in lists if value in json.loads(text)]
    if wanted and len(wanted) == len(lists):
        # There may be many.
        return Condition(column, "be_known", None)
    return Condition(column, "be_one_of", tuple(wanted))
