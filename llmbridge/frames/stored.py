"""Frames of a SQL store: what it has digested comes as Arrow, and only the rest is decoded."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pandas import DataFrame

from llmbridge.exchange.columns import Column
from llmbridge.exchange.entry import Entry
from llmbridge.frames.pieces import rows_of
from llmbridge.frames.source import Digesting, Filters, wanted_by
from llmbridge.frames.table import of_arrow
from llmbridge.frames.wanted import conditions
from llmbridge.stores.arrow import pa
from llmbridge.stores.conditions import Condition, Progress

if TYPE_CHECKING:
    from llmbridge.stores.sql_reader import SqlReader

_CALL = ("interception_id", "begun_at")


def frame_of(
    name: str,
    store: Digesting,
    filters: Filters,
    columns: Sequence[Column],
    progress: Progress | None = None,
) -> DataFrame:
    """These columns of a frame, in the order of the store.

    Raises:
        ConfigurationError: there is no such filter, or a value that it cannot have.
        StoreUnavailable: the database cannot be read now.
    """
    wanted = wanted_by(filters)
    store.flush()
    digests = store.digests
    digests.catch_up(progress)
    # Before the digests are read: what is digested meanwhile is found twice, not never.
    rest = [entry for entry in digests.rest() if wanted(entry)]
    where = conditions(filters, digests.distinct)
    if name == "events":
        return of_arrow(columns, pa.concat_tables(_events(digests, where, rest, progress)))
    table = digests.read(name, [column.name for column in columns], where)
    if rest:
        known = set(table.column("interception_id").unique().to_pylist())
        table = _with(table, name, [entry for entry in rest if entry.id not in known])
    return of_arrow(columns, table)


def _with(table: Any, name: str, entries: Sequence[Entry]) -> Any:
    """The rows of the table and those of the entries, in the order of the store."""
    told = rows_of(name, [entry for entry in entries if entry.interception], table.schema)
    alone = rows_of(name, [entry for entry in entries if not entry.interception], table.schema)
    order = [(key, "ascending") for key in ("begun_at", "interception_id", "number")]
    in_order = pa.concat_tables([table, told]).sort_by(order) if len(told) else table
    return pa.concat_tables([in_order, alone])


def _events(
    digests: "SqlReader",
    where: Sequence[Condition],
    rest: Sequence[Entry],
    progress: Progress | None,
) -> Iterator[Any]:
    """The rows of a few calls at a time, whose bodies are read again, in the order of the store."""
    found = digests.read("interceptions", (), where)
    begun = dict(zip(*(found.column(key).to_pylist() for key in _CALL), strict=True))
    begun |= {entry.id: entry.started_at for entry in rest if entry.interception}
    ids = sorted(begun, key=lambda id: (begun[id], id))
    for entry in digests.entries(ids, progress):
        yield rows_of("events", [entry])
    alone = [entry for entry in rest if not entry.interception and entry.id not in begun]
    yield rows_of("events", alone)
