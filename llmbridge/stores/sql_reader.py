"""What a SQL store has digested, as Arrow tables; and the calls that it has not."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, Select, Table, and_, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ColumnElement

from llmbridge.errors import StoreUnavailable
from llmbridge.exchange.columns import FRAMES, Column
from llmbridge.exchange.entry import Entry, utc
from llmbridge.exchange.record import Interception, Record
from llmbridge.stores import sql_arrow, sql_digests
from llmbridge.stores.arrow import KEY
from llmbridge.stores.conditions import Condition, Progress
from llmbridge.stores.filters import by_start
from llmbridge.stores.sql_digests import TABLES, UNDIGESTED
from llmbridge.stores.sql_errors import readable
from llmbridge.stores.sql_prune import Changed
from llmbridge.stores.sql_rows import interception_of, record_of
from llmbridge.stores.sql_schema import INTERCEPTIONS, RECORDS

_PAGE = 100
"""So many calls are decoded at a time: their bodies are in memory, and nobody else writes while their digests are."""


class Digested(Changed, Protocol):
    """The database of a store, to read and to write digests."""

    name: str
    engine: Engine


class SqlReader:
    """The digests of a store.

    Raises:
        StoreUnavailable: the database cannot be read now.
    """

    def __init__(self, database: Digested) -> None:
        self._database = database

    def catch_up(self, progress: Progress | None = None) -> None:
        """Digest the calls that ended and were not; where the database cannot be written, they stay as they are."""
        ended = select(UNDIGESTED.c.interception_id).join(
            INTERCEPTIONS, INTERCEPTIONS.c.id == UNDIGESTED.c.interception_id
        )
        ids = self._ids(ended.where(INTERCEPTIONS.c.end.is_not(None)))
        try:
            for done, calls in enumerate(self._pages(ids)):
                digests = [
                    sql_digests.digest(interception, records)
                    for interception, records in calls
                    if interception is not None
                ]
                with self._database.changing() as connection:
                    sql_digests.write(connection, digests)
                if progress:
                    progress(min((done + 1) * _PAGE, len(ids)), len(ids))
        except (DBAPIError, StoreUnavailable):
            # Full, locked, read-only: who reads decodes them.
            return

    def rest(self) -> list[Entry]:
        """The calls that have no digest: under way, or records without an interception. Those with one come first."""
        id, its = UNDIGESTED.c.interception_id, RECORDS.c.interception_id
        waiting = select(id).outerjoin(RECORDS, its == id).group_by(id)
        found = list(self.entries(self._ids(waiting.order_by(func.min(RECORDS.c.seq)))))
        told = [(each.interception, each) for each in found if each.interception]
        told.sort(key=lambda pair: (utc(pair[0].started_at), pair[0].id))
        return [*(each for _, each in told), *(each for each in found if not each.interception)]

    def entries(self, ids: Sequence[str], progress: Progress | None = None) -> Iterator[Entry]:
        """The calls of these ids, a page in memory at a time; those with an interception in its order."""
        for done, calls in enumerate(self._pages(ids)):
            for interception, records in calls:
                id = interception.id if interception else records[0].interception_id
                yield Entry(id, interception, tuple(sorted(records, key=lambda each: each.round)))
            if progress:
                progress(min((done + 1) * _PAGE, len(ids)), len(ids))

    def read(self, frame: str, names: Iterable[str], conditions: Sequence[Condition]) -> Any:
        """The key and these columns of a frame, as an Arrow table."""
        columns, table = self._columns(frame, names), TABLES[frame]
        query = self.query(frame, names, conditions)
        with readable(self._database.name):
            return sql_arrow.read(self._database.engine, query, columns, table.c.begun_at)

    def batches(
        self, frame: str, names: Iterable[str], conditions: Sequence[Condition]
    ) -> Generator[Any]:
        """The same, as record batches, as they come."""
        query = self.query(frame, names, conditions)
        with readable(self._database.name):
            yield from sql_arrow.batches(self._database.engine, query, self._columns(frame, names))

    def query(
        self, frame: str, names: Iterable[str], conditions: Sequence[Condition]
    ) -> Select[Any]:
        """What is asked of the database for it."""
        table = TABLES[frame]
        columns = [table.c[column.name] for column in self._columns(frame, names)]
        key = (table.c.begun_at, table.c.interception_id, table.c.number)
        return _where(select(*columns), table, conditions).order_by(*key)

    def distinct(self, column: str, conditions: Sequence[Condition]) -> Sequence[Any]:
        """The values of a column of the interceptions."""
        table = TABLES["interceptions"]
        query = _where(select(table.c[column]).distinct(), table, conditions)
        with self._connected() as connection:
            return connection.scalars(query).all()

    def count(self, conditions: Sequence[Condition]) -> int:
        """How many interceptions there are."""
        table = TABLES["interceptions"]
        query = _where(select(func.count()).select_from(table), table, conditions)
        with self._connected() as connection:
            return int(connection.execute(query).scalar_one())

    def last_start(self) -> datetime | None:
        """When the last call that is digested began."""
        query = select(func.max(TABLES["interceptions"].c.begun_at))
        with self._connected() as connection:
            found: datetime | None = connection.execute(query).scalar_one()
            return found

    @staticmethod
    def _columns(frame: str, names: Iterable[str]) -> list[Column]:
        of: Mapping[str, Column] = {column.name: column for column in FRAMES[frame]}
        return [*KEY, *(of[name] for name in names if name != "interception_id")]

    @contextmanager
    def _connected(self) -> Generator[Connection]:
        with readable(self._database.name), self._database.engine.connect() as connection:
            yield connection

    def _ids(self, query: Select[Any]) -> Sequence[str]:
        with self._connected() as connection:
            return connection.scalars(query).all()

    def _pages(
        self, ids: Sequence[str]
    ) -> Iterator[list[tuple[Interception | None, list[Record]]]]:
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            told = select(INTERCEPTIONS).where(INTERCEPTIONS.c.id.in_(page))
            kept = select(RECORDS).where(RECORDS.c.interception_id.in_(page))
            records: dict[str, list[Record]] = {}
            with self._connected() as connection:
                rows = connection.execute(told).mappings().all()
                for row in connection.execute(kept.order_by(RECORDS.c.seq)).mappings():
                    records.setdefault(row["interception_id"], []).append(record_of(dict(row)))
            calls: list[tuple[Interception | None, list[Record]]] = [
                (interception, records.pop(interception.id, []))
                for interception in by_start(interception_of(dict(row)) for row in rows)
            ]
            yield [*calls, *((None, alone) for alone in records.values())]


def _where(query: Select[Any], table: Table, conditions: Sequence[Condition]) -> Select[Any]:
    """Conditions on the key are the table's own; all others are those of the interceptions."""
    own, told = {column.name for column in KEY}, TABLES["interceptions"]
    if table is not told and any(each.column not in own for each in conditions):
        same = and_(
            table.c.begun_at == told.c.begun_at, table.c.interception_id == told.c.interception_id
        )
        query = query.join(told, same)
    return query.where(
        *(
            _holds(each, (table if each.column in own else told).c[each.column])
            for each in conditions
        )
    )


def _holds(condition: Condition, column: ColumnElement[Any]) -> ColumnElement[bool]:
    value = condition.value
    match condition.must:
        case "start":
            return column.__ge__(value)
        case "end":
            return column.__lt__(value)
        case "be":
            return column.is_(None) if value is None else column.__eq__(value)
        case "be_known":
            return column.is_not(None)
        case "be_one_of":
            return column.in_(value)
