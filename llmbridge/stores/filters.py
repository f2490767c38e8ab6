"""Keyword filters over kept values: a name is a field, and the value it must have."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.entry import utc
from llmbridge.exchange.record import Interception

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Kept = TypeVar("Kept", bound="DataclassInstance")


def matching(kind: type[Kept], kept: Iterable[Kept], filters: Mapping[str, object]) -> list[Kept]:
    """Those whose fields have the values that the filters name.

    Raises:
        ConfigurationError: `kind` has no such field.
    """
    names = [field.name for field in fields(kind)]
    for name in filters:
        if name not in names:
            raise ConfigurationError(f"there is no filter {name!r}: use one of {', '.join(names)}")
    return [
        each
        for each in kept
        if all(getattr(each, name) == value for name, value in filters.items())
    ]


def by_start(interceptions: Iterable[Interception]) -> list[Interception]:
    """The same, the earliest first; of one moment by their ids, as frames have them."""
    return sorted(interceptions, key=lambda each: (utc(each.started_at), each.id))
