"""What the frames say of calls that ended, as tables of their own: a reader, in SQL or of frames, decodes no answer.

A digest can be made again from the interception and its records at any time, and no table here is ever migrated: where
the columns or their meaning have changed, all are emptied. `undigested` names the calls that a reader has to decode.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zlib import crc32

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Float,
    MetaData,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    inspect,
    select,
)
from sqlalchemy.types import TypeEngine

from llmbridge.exchange.columns import FRAMES, fitted
from llmbridge.exchange.columns import Column as Meant
from llmbridge.exchange.entry import Entry
from llmbridge.exchange.record import Interception, Record
from llmbridge.exchange.rows import ROWS, Row
from llmbridge.stores.sql_schema import INTERCEPTIONS, RECORDS, AnyText, UtcTime

_MEANING = 1
"""Raised when a cell shall be read anew from what was kept, though the columns are the same."""

_FRAMES = tuple(name for name in FRAMES if name != "events")
_NAMES = {"interceptions": "summaries"}
"""The table of a frame has its name; that of the interceptions is taken."""

_VERSION = f"{_MEANING}-{crc32(repr([FRAMES[name] for name in _FRAMES]).encode()):08x}"

DIGESTS = MetaData()


class KeyText(AnyText):
    """Text that is sorted by its characters' numbers everywhere."""

    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """PostgreSQL would sort as people do."""
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(Text(collation=collation))


def _type(column: Meant) -> TypeEngine[Any]:
    match column.dtype:
        case "str":
            return AnyText()
        case "Int64":
            return BigInteger()
        case "boolean":
            return Boolean()
        case "datetime64[us, UTC]":
            return UtcTime()
        case _:
            return Float(53)


def _table(frame: str) -> Table:
    """The frame's columns behind a key in the order of the frame: SQLite keeps the rows themselves in that order."""
    columns = [column for column in FRAMES[frame] if column.name != "interception_id"]
    rest = [Column(column.name, _type(column)) for column in columns]
    return Table(
        _NAMES.get(frame, frame),
        DIGESTS,
        Column("begun_at", UtcTime, primary_key=True),
        Column("interception_id", KeyText, primary_key=True),
        Column("number", BigInteger, primary_key=True, autoincrement=False),
        *rest,
        sqlite_with_rowid=False,
    )


TABLES: Mapping[str, Table] = {frame: _table(frame) for frame in _FRAMES}
"""The table of each frame but that of the events. `begun_at` is the start of the call, `number` counts its rows."""

UNDIGESTED = Table("undigested", DIGESTS, Column("interception_id", AnyText, primary_key=True))
"""The calls that are under way, and those whose digest nobody has written yet."""

_STATE = Table("digests", DIGESTS, Column("version", AnyText, primary_key=True))


@dataclass(frozen=True, slots=True)
class Digest:
    """The rows of one call in the table of each frame."""

    interception_id: str
    begun_at: datetime
    records: int
    """How many it was made from."""
    rows: Mapping[str, Sequence[Mapping[str, object]]]


def digest(interception: Interception, records: Sequence[Record]) -> Digest:
    """What the frames say of an interception and all its records."""
    in_order = sorted(records, key=lambda record: record.round)
    entry = Entry(interception.id, interception, tuple(in_order))
    key = {"begun_at": entry.started_at, "interception_id": interception.id}
    rows = {
        frame: [
            _cells(FRAMES[frame], row) | key | {"number": number}
            for number, row in enumerate(ROWS[frame]([entry]))
        ]
        for frame in _FRAMES
    }
    return Digest(interception.id, interception.started_at, len(records), rows)


def _cells(columns: Sequence[Meant], row: Row) -> dict[str, object]:
    named = zip(columns, row, strict=True)
    return {column.name: fitted(column, value) for column, value in named}


def prepare(connection: Connection) -> None:
    """Make the tables, or make them anew where they are another version's; what is there then waits for its digest."""
    if inspect(connection).has_table(_STATE.name):
        if connection.scalars(select(_STATE.c.version)).all() == [_VERSION]:
            return
        DIGESTS.drop_all(connection)
    DIGESTS.create_all(connection)
    connection.execute(_STATE.insert().values(version=_VERSION))
    every = select(INTERCEPTIONS.c.id).union(select(RECORDS.c.interception_id))
    connection.execute(UNDIGESTED.insert().from_select(["interception_id"], every))


def write(connection: Connection, digests: Sequence[Digest]) -> None:
    """Put the digests in the place of those that are there. A call that has got another record meanwhile still waits."""
    ids = [each.interception_id for each in digests]
    # Held until they are written: who deletes the calls, holds them from the start, too.
    query = select(INTERCEPTIONS.c.id).where(INTERCEPTIONS.c.id.in_(ids))
    known = set(connection.scalars(query.with_for_update(read=True, key_share=True)))
    counts = select(RECORDS.c.interception_id, func.count()).where(
        RECORDS.c.interception_id.in_(ids)
    )
    found = connection.execute(counts.group_by(RECORDS.c.interception_id)).all()
    records = {row[0]: row[1] for row in found}
    # Somebody may have deleted it.
    there = [each for each in digests if each.interception_id in known]
    _delete(connection, [(each.begun_at, each.interception_id) for each in there])
    for frame, table in TABLES.items():
        rows = [row for each in there for row in each.rows[frame]]
        if rows:
            connection.execute(table.insert(), rows)
    done = [
        each.interception_id
        for each in there
        if records.get(each.interception_id, 0) == each.records
    ]
    connection.execute(delete(UNDIGESTED).where(UNDIGESTED.c.interception_id.in_(done)))


def forget(connection: Connection, ids: Sequence[str]) -> None:
    """Take out what there is of these calls, which are still among the interceptions."""
    ended = select(INTERCEPTIONS.c.started_at, INTERCEPTIONS.c.id).where(
        INTERCEPTIONS.c.id.in_(ids)
    )
    held = connection.execute(ended.with_for_update())
    _delete(connection, [(start, id) for start, id in held])
    connection.execute(delete(UNDIGESTED).where(UNDIGESTED.c.interception_id.in_(ids)))


def _delete(connection: Connection, begun: Sequence[tuple[datetime, str]]) -> None:
    # One by one: SQLite looks a pair up in no index when there are several.
    keys = [{"begun": start, "id": id} for start, id in begun]
    for table in TABLES.values() if keys else ():
        its = and_(
            table.c.begun_at == bindparam("begun"), table.c.interception_id == bindparam("id")
        )
        connection.execute(delete(table).where(its), keys)
