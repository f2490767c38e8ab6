"""What callers give as options: each of the kind it must be, or told clearly.

A value of the wrong kind is named by its type alone where it may hold a secret.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from typing import Any, TypeGuard, TypeVar

from llmbridge.errors import ConfigurationError

T = TypeVar("T")


def all_of(name: str, given: object, kind: type[T]) -> tuple[T, ...]:
    """The values, each of this kind.

    Raises:
        ConfigurationError: they are no list, or one is something else.
    """
    wanted = f"give a list, {name}=[{kind.__name__}(...)]"
    if not _is_list(given):
        raise ConfigurationError(f"{name} is of type {type(given).__name__}: {wanted}")
    found: list[T] = []
    for index, each in enumerate(given):
        if not isinstance(each, kind):
            raise ConfigurationError(f"{name}[{index}] is of type {type(each).__name__}: {wanted}")
        found.append(each)
    return tuple(found)


def check_list(name: str, given: object) -> None:
    """See that there are values to go through.

    Raises:
        ConfigurationError: it is one value, or text.
    """
    if not _is_list(given):
        kind = type(given).__name__
        raise ConfigurationError(f"{name} is of type {kind}: give a list, {name}=[...]")


def check_kind(name: str, given: object, kind: type) -> None:
    """See that a value that may be left out is of this kind.

    Raises:
        ConfigurationError: it is something else.
    """
    if given is not None and not isinstance(given, kind):
        raise ConfigurationError(f"{name}={given!r}: give {kind.__name__}(...), or None")


def check_count(name: str, given: object, least: int) -> None:
    """See that it is a whole number, and not less than this.

    Raises:
        ConfigurationError: it is none.
    """
    if not isinstance(given, int) or given < least:
        raise ConfigurationError(f"{name}={given!r}: give a whole number, {least} or more")


def check_bound(name: str, given: object) -> None:
    """See that it is a number more than 0, and not without end.

    Raises:
        ConfigurationError: it is none.
    """
    if not _is_number(given, more_than_zero=True) or given == float("inf"):
        raise ConfigurationError(f"{name}={given!r} is no bound: give a number more than 0")


def check_number(name: str, given: object, wanted: str, *, more_than_zero: bool = False) -> None:
    """See that it is a number, 0 or more; `wanted` says what to give.

    Raises:
        ConfigurationError: it is none.
    """
    if not _is_number(given, more_than_zero=more_than_zero):
        raise ConfigurationError(f"{name}={given!r}: {wanted}")


def time_of(name: str, value: object) -> datetime:
    """A bound as a time in UTC; a date is its midnight.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        bound = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(bound, date) and not isinstance(bound, datetime):
            bound = datetime.combine(bound, time())
        if isinstance(bound, datetime):
            return (bound if bound.tzinfo else bound.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        # No ISO 8601, pandas' NaT, or outside the years that Python knows once it is in UTC.
        pass
    raise ConfigurationError(
        f"{name}={value!r} is no time: give a datetime, a date, or ISO 8601 text such as '2026-11-20T08:00'"
    )


def _is_number(given: Any, *, more_than_zero: bool) -> bool:
    try:
        return bool(given > 0 if more_than_zero else given >= 0)
    except TypeError:
        return False


def _is_list(given: object) -> TypeGuard[Iterable[object]]:
    return isinstance(given, Iterable) and not isinstance(given, str | dict)
