"""Interceptions and records in a SQL database, durable from the start of each call."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection, Engine, Select, Table, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from llmbridge.errors import ConfigurationError, StoreUnavailable
from llmbridge.exchange.options import time_of
from llmbridge.exchange.printable import without_password
from llmbridge.exchange.record import Interception, Record
from llmbridge.exchange.spending import Spent
from llmbridge.stores import sql_digests
from llmbridge.stores.conditions import Progress
from llmbridge.stores.digester import Digester
from llmbridge.stores.filters import by_start, matching
from llmbridge.stores.postgres import PostgresDatabase
from llmbridge.stores.sql_digests import UNDIGESTED
from llmbridge.stores.sql_errors import readable, why
from llmbridge.stores.sql_migrations import Versioned, migrate
from llmbridge.stores.sql_prune import Changed, begun_before, delete
from llmbridge.stores.sql_rows import (
    INTERCEPTION_COLUMNS,
    RECORD_COLUMNS,
    interception_of,
    interception_row,
    record_of,
    record_row,
)
from llmbridge.stores.sql_schema import INTERCEPTIONS, RECORDS
from llmbridge.stores.sql_spent import spent_since
from llmbridge.stores.sql_writer import Job, SqlWriter
from llmbridge.stores.sqlite import SqliteFile

if TYPE_CHECKING:
    from llmbridge.stores.sql_reader import SqlReader

_PAGE = 1_000
_MAY_NOT = ("42501", "25006")
"""SQLSTATE of a role without the right to write, and of a server or session that only reads."""


class Database(Versioned, Changed, Protocol):
    """What a store needs to know of its database beside SQL."""

    name: str
    """Where it is, for people: no password."""
    secrets: frozenset[str]
    """Its passwords."""
    bridge: int
    """The number of this bridge among all that ever write there."""
    engine: Engine
    """Connections to read."""

    def again(self) -> "Database":
        """The same for another bridge."""
        ...

    def exists(self) -> bool:
        """True when a store was opened there before."""
        ...

    def open(self, prepare: Callable[[Connection], None]) -> None:
        """Run `prepare` in a transaction while no other opens it."""
        ...

    def is_here(self, connection: Connection, bridge: int) -> bool:
        """True while the process of the bridge of that number lives."""
        ...

    def insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """An insert that may say what happens when the row is there."""
        ...

    def write(self, work: Callable[[Connection], None]) -> None:
        """Run `work`, which may be run twice, in a transaction of this bridge."""
        ...

    def is_the_rows_fault(self, error: DBAPIError) -> bool:
        """True when trying again cannot help."""
        ...

    def close(self) -> None:
        """Let go of it; using it opens it again."""
        ...


class SqlStore:
    """All that passes, in the SQLite file of a URL such as `sqlite:///usage.db`; any SQL tool may read it meanwhile.

    The start of a call is on disk before the provider is asked, the rest soon, and surely after `flush`. What a bridge
    left open whose process has died is `interrupted` once the next one opens the database. With
    `safe_on_power_loss=False` a crash of the machine, not of the process, may lose the last moments.

    Raises:
        ConfigurationError: the URL is none of a database, or it cannot be opened.
    """

    shared = True

    def __init__(self, url: str, *, safe_on_power_loss: bool = True) -> None:
        self._settle_in(_database(url, safe_on_power_loss=safe_on_power_loss))
        try:
            self._open()
        except BaseException:
            self._database.close()
            raise

    async def begin(self, interception: Interception) -> None:
        """Return once the start is on disk."""
        await asyncio.wrap_future(self._own_writer().put_now(interception))
        self._digester.begin(interception)

    def add(self, record: Record) -> None:
        """Take a finished exchange."""
        self._own_writer().put(record)
        self._digester.add(record)

    def end(self, interception: Interception) -> None:
        """Take the interception as it ended."""
        self._own_writer().put(interception)
        self._digester.end(interception)

    @property
    def engine(self) -> Engine:
        """Connections to read with."""
        return self._database.engine

    @property
    def secrets(self) -> frozenset[str]:
        """The passwords of its URL, which must be in no record."""
        return self._database.secrets

    @property
    def pending(self) -> int:
        """Rows that wait to be written."""
        return self._own_writer().pending

    def flush(self) -> None:
        """Return when all that was taken is on disk.

        Raises:
            StoreUnavailable: it cannot be written now; it is kept, and tried again.
        """
        writer = self._own_writer()
        self._digester.wait()
        writer.flush()

    def close(self) -> None:
        """Flush, end the thread, and let go of the database; what is kept stays readable.

        Raises:
            StoreUnavailable: some of it cannot be written; says how much.
        """
        try:
            writer = self._own_writer()
            self._digester.finish()
            writer.finish()
        finally:
            self._database.close()

    def interceptions(self, **filters: object) -> list[Interception]:
        """Interceptions by start time, as far as they are written.

        Raises:
            ConfigurationError: no such filter.
            StoreUnavailable: the database cannot be read now.
        """
        matching(Interception, (), filters)
        query = _filtered(INTERCEPTIONS, INTERCEPTION_COLUMNS, filters)
        return by_start(matching(Interception, map(interception_of, self._rows(query)), filters))

    def records(self, **filters: object) -> list[Record]:
        """Records in the order they were made, as far as they are written.

        Raises:
            ConfigurationError: no such filter.
            StoreUnavailable: the database cannot be read now.
        """
        matching(Record, (), filters)
        query = _filtered(RECORDS, RECORD_COLUMNS, filters).order_by(RECORDS.c.seq)
        return matching(Record, map(record_of, self._rows(query)), filters)

    @property
    def digests(self) -> "SqlReader":
        """What the frames say of the calls that ended, ready to be read."""
        from llmbridge.stores.sql_reader import SqlReader  # noqa: PLC0415  # Arrow is loaded late

        return SqlReader(self._database)

    def spent(self, since: datetime) -> list[Spent]:
        """What the calls that began since then took, by all bridges that write here.

        Raises:
            StoreUnavailable: the database cannot be read, or what is kept not be written.
        """
        self.flush()
        with readable(self._database.name):
            return list(spent_since(self._database.engine, since))

    def prune(
        self,
        before: date | datetime | str,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> int:
        """Delete the interceptions that began before that and are over, with their records; how many they are.

        Without a zone it is UTC, a date is its midnight, text is ISO 8601.

        Raises:
            ConfigurationError: it is no time.
            StoreUnavailable: the database cannot be written; some may be deleted.
        """
        try:
            old = begun_before(self._database.engine, time_of("before", before))
            if not dry_run:
                delete(self._database, old, progress)
        except DBAPIError as error:
            raise self._unwritten(error) from error
        return len(old)

    def __iter__(self) -> Iterator[Record]:
        return map(record_of, self._rows(select(RECORDS).order_by(RECORDS.c.seq)))

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"SqlStore({self._database.name!r})"

    def _settle_in(self, database: Database) -> None:
        self._database = database
        self._writer = SqlWriter(self._write, f"llmbridge writes {database.name}")
        self._digester = Digester(self._digest, f"llmbridge reads for {database.name}")
        self._pid = os.getpid()
        interceptions, records = database.insert(INTERCEPTIONS), database.insert(RECORDS)
        fields = (*(name for name in INTERCEPTION_COLUMNS if name != "id"), "tool_runs")
        self._put_interceptions = interceptions.on_conflict_do_update(
            index_elements=["id"], set_={name: interceptions.excluded[name] for name in fields}
        )
        self._put_records = records.on_conflict_do_nothing(index_elements=["bridge", "number"])
        self._put_undigested = database.insert(UNDIGESTED).on_conflict_do_nothing()

    def _own_writer(self) -> SqlWriter:
        """The writer; after a fork another one, since what the first one has is its own process's affair."""
        if self._pid != os.getpid():
            # Kept, since letting go of connections could end the parent's.
            self._parent = self._database, self._writer
            self._settle_in(self._database.again())
        return self._writer

    def _rows(self, query: Select[Any]) -> Iterator[Mapping[str, Any]]:
        with readable(self._database.name), self._database.engine.connect() as connection:
            rows = connection.execution_options(yield_per=_PAGE).execute(query)
            names = list(rows.keys())
            for row in rows:
                yield dict(zip(names, row, strict=True))

    def _open(self) -> None:
        try:
            self._database.open(self._prepare)
        except (OSError, DBAPIError) as error:
            raise _unopened(self._database, error) from error

    def _prepare(self, connection: Connection) -> None:
        """Bring the schema up to date, and say of what dead bridges left open that it was interrupted."""
        migrate(connection, self._database, self._database.name)
        sql_digests.prepare(connection)
        bridge, under_way = INTERCEPTIONS.c.bridge, INTERCEPTIONS.c.end.is_(None)
        numbers = connection.scalars(select(bridge).where(under_way).distinct()).all()
        here = [n for n in numbers if n is not None and self._database.is_here(connection, n)]
        if len(here) == len(numbers):
            return
        dead = or_(bridge.is_(None), bridge.not_in(here))
        interrupted = INTERCEPTIONS.update().where(under_way, dead).values(end="interrupted")
        try:
            with connection.begin_nested():
                connection.execute(interrupted)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _MAY_NOT:
                raise
            # Who may only read finds them as they were left.

    def _digest(self, interception: Interception, records: Sequence[Record]) -> None:
        self._writer.put(sql_digests.digest(interception, records))

    def _write(self, jobs: Sequence[Job]) -> None:
        name = {"bridge": self._database.bridge}
        interceptions = [
            interception_row(job.item) | name for job in jobs if isinstance(job.item, Interception)
        ]
        records = [
            record_row(job.item) | name | {"number": job.number}
            for job in jobs
            if isinstance(job.item, Record)
        ]
        digests = [job.item for job in jobs if isinstance(job.item, sql_digests.Digest)]
        touched = {row["id"] for row in interceptions} | {row["interception_id"] for row in records}
        undigested = [{"interception_id": id} for id in sorted(touched)]

        rows = (
            (self._put_interceptions, interceptions),
            (self._put_records, records),
            (self._put_undigested, undigested),
        )

        def write(connection: Connection) -> None:
            for put, values in rows:
                if values:
                    connection.execute(put, values)
            if digests:
                sql_digests.write(connection, digests)

        try:
            self._database.write(write)
        except (OSError, DBAPIError) as error:
            if isinstance(error, DBAPIError) and self._database.is_the_rows_fault(error):
                raise
            # Full, locked, read-only, gone: it may be better the next time.
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError | DBAPIError) -> StoreUnavailable:
        return StoreUnavailable(f"{self._database.name!r} cannot be written: {why(error)}")


def existing(url: str) -> SqlStore:
    """The store of a URL, to read what is there; nothing is held open.

    Raises:
        ConfigurationError: there is none.
    """
    database = _database(url, safe_on_power_loss=True)
    try:
        exists = database.exists()
    except (OSError, DBAPIError) as error:
        raise _unopened(database, error) from error
    if not exists:
        raise ConfigurationError(f"there is no store at {database.name!r}")
    store = SqlStore(url)
    store.close()
    return store


def _database(url: str, *, safe_on_power_loss: bool) -> Database:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = URL.create("none")
    path = parsed.database
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return PostgresDatabase(parsed, safe_on_power_loss=safe_on_power_loss)
    if parsed.drivername == "sqlite" and path not in (None, "", ":memory:") and not parsed.query:
        file = Path(str(path)).expanduser().absolute()
        return SqliteFile(file, safe_on_power_loss=safe_on_power_loss)
    raise ConfigurationError(
        f"store={without_password(url)!r}: give the URL of an SQLite file, such as 'sqlite:///usage.db',"
        " or of PostgreSQL, such as 'postgresql://user@host/database'"
    )


def _unopened(database: Database, error: OSError | DBAPIError) -> ConfigurationError:
    return ConfigurationError(f"store={database.name!r} cannot be opened: {why(error)}")


def _filtered(table: Table, columns: Sequence[str], filters: Mapping[str, object]) -> Select[Any]:
    """The rows that may match: a field that is no column is looked at afterwards."""
    query = select(table)
    for name, value in filters.items():
        if name in columns and (value is None or isinstance(value, str | int | datetime)):
            query = query.where(table.c[name] == value)
    return query
