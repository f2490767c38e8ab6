"""Interceptions and records in an SQLite file, durable from the start of each call."""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Select, Table, create_engine, event, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
)
from sqlalchemy.pool import NullPool

from llmbridge.errors import ConfigurationError, StoreUnavailable
from llmbridge.exchange.record import Interception, Record
from llmbridge.stores.filters import matching
from llmbridge.stores.sql_prune import begun_before, delete
from llmbridge.stores.sql_rows import (
    INTERCEPTION_COLUMNS,
    RECORD_COLUMNS,
    interception_of,
    interception_row,
    record_of,
    record_row,
)
from llmbridge.stores.sql_schema import INTERCEPTIONS, RECORDS, migrate
from llmbridge.stores.sql_writer import SqlWriter
from llmbridge.stores.users import Users

_BUSY_MS = 10_000
_PAGE = 1_000


class SqlStore:
    """All that passes, in the SQLite file of a URL such as `sqlite:///usage.db`; any SQL tool may read it meanwhile.

    The start of a call is on disk before the provider is asked, the rest soon, and surely after `flush`. What a process
    that died left open is `interrupted` once the next one opens the file alone. With `safe_on_power_loss=False` a crash
    of the machine, not of the process, may lose the last moments.

    Raises:
        ConfigurationError: the URL is none of an SQLite file, or the file cannot be opened.
    """

    def __init__(self, url: str, *, safe_on_power_loss: bool = True) -> None:
        self.path = _path(url)
        self._url = url
        self._engine = _engine(self.path, "FULL" if safe_on_power_loss else "NORMAL")
        self._users = Users(self.path)
        self._writer = SqlWriter(self._write, f"llmbridge writes {self.path}")
        try:
            self._open()
        except BaseException:
            self._users.leave()
            raise

    async def begin(self, interception: Interception) -> None:
        """Return once the start is on disk."""
        self._users.enter()
        await asyncio.wrap_future(self._writer.put_now(interception))

    def add(self, record: Record) -> None:
        """Take a finished exchange."""
        self._writer.put(record)

    def end(self, interception: Interception) -> None:
        """Take the interception as it ended."""
        self._writer.put(interception)

    @property
    def pending(self) -> int:
        """Rows that wait to be written."""
        return self._writer.pending

    def flush(self) -> None:
        """Return when all that was taken is on disk.

        Raises:
            StoreUnavailable: it cannot be written now; it is kept, and tried again.
        """
        self._writer.flush()

    def close(self) -> None:
        """Flush, end the thread, and fold the log into the file; what is kept stays readable.

        Raises:
            StoreUnavailable: some of it cannot be written; says how much.
        """
        try:
            self._writer.finish()
            # Somebody who reads just now keeps the log; the next to close folds it in.
            with suppress(DatabaseError), self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            self._users.leave()

    def interceptions(self, **filters: object) -> list[Interception]:
        """Interceptions by start time, as far as they are written.

        Raises:
            ConfigurationError: no such filter.
        """
        matching(Interception, (), filters)
        query = _filtered(INTERCEPTIONS, INTERCEPTION_COLUMNS, filters)
        query = query.order_by(INTERCEPTIONS.c.started_at, INTERCEPTIONS.c.id)
        return matching(Interception, map(interception_of, self._rows(query)), filters)

    def records(self, **filters: object) -> list[Record]:
        """Records in the order they were made, as far as they are written.

        Raises:
            ConfigurationError: no such filter.
        """
        matching(Record, (), filters)
        query = _filtered(RECORDS, RECORD_COLUMNS, filters).order_by(RECORDS.c.seq)
        return matching(Record, map(record_of, self._rows(query)), filters)

    def prune(self, before: datetime, *, dry_run: bool = False) -> int:
        """Delete the interceptions that began before that and are over, with their records; how many they are.

        Raises:
            StoreUnavailable: the file cannot be written; some may be deleted.
        """
        try:
            old = begun_before(self._engine, before)
            if not dry_run:
                delete(self._engine, old)
        except DatabaseError as error:
            raise self._unwritten(error) from error
        return len(old)

    def __iter__(self) -> Iterator[Record]:
        return map(record_of, self._rows(select(RECORDS).order_by(RECORDS.c.seq)))

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"SqlStore({self._url!r})"

    def _rows(self, query: Select[Any]) -> Iterator[Mapping[str, Any]]:
        with self._engine.connect() as connection:
            rows = connection.execution_options(yield_per=_PAGE).execute(query)
            names = list(rows.keys())
            for row in rows:
                yield dict(zip(names, row, strict=True))

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Prompts are nobody else's affair.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            alone = self._users.enter()
            with self._engine.execution_options(immediate=True).begin() as connection:
                migrate(connection, self._url)
                if alone:
                    connection.execute(
                        INTERCEPTIONS.update()
                        .where(INTERCEPTIONS.c.end.is_(None))
                        .values(end="interrupted")
                    )
        except (OSError, DatabaseError) as error:
            why = error.strerror if isinstance(error, OSError) else error.orig
            raise ConfigurationError(f"store={self._url!r} cannot be opened: {why}") from error

    def _write(self, items: Sequence[Interception | Record]) -> None:
        interceptions = [interception_row(i) for i in items if isinstance(i, Interception)]
        records = [record_row(i) for i in items if isinstance(i, Record)]
        try:
            with self._engine.begin() as connection:
                if interceptions:
                    connection.execute(_UPSERT, interceptions)
                if records:
                    connection.execute(RECORDS.insert(), records)
        except (DataError, IntegrityError, InterfaceError, ProgrammingError):
            raise
        except DatabaseError as error:
            # Full, locked, read-only, gone: it may be better the next time.
            raise self._unwritten(error) from error

    def _unwritten(self, error: DatabaseError) -> StoreUnavailable:
        return StoreUnavailable(f"{str(self.path)!r} cannot be written: {error.orig}")


_INSERT = insert(INTERCEPTIONS)
_UPSERT = _INSERT.on_conflict_do_update(
    index_elements=["id"],
    set_={name: _INSERT.excluded[name] for name in INTERCEPTION_COLUMNS if name != "id"},
)


def existing(url: str) -> SqlStore:
    """The store of a URL, to read what is there; nothing is held open.

    Raises:
        ConfigurationError: there is none.
    """
    path = _path(url)
    if not path.exists():
        raise ConfigurationError(f"there is no store at {str(path)!r}")
    store = SqlStore(url)
    store.close()
    return store


def _path(url: str) -> Path:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = URL.create("none")
    if parsed.drivername != "sqlite" or parsed.database in (None, "", ":memory:") or parsed.query:
        shown = parsed.render_as_string() if parsed.drivername != "none" else url
        raise ConfigurationError(
            f"store={shown!r}: give the URL of an SQLite file, such as 'sqlite:///usage.db'"
        )
    return Path(str(parsed.database)).expanduser().absolute()


def _engine(path: Path, synchronous: str) -> Engine:
    """Connections that are opened by who uses them, and begin as they are told."""
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        # The driver begins transactions late; this lets SQLAlchemy say when.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout = {_BUSY_MS}",
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        immediate = connection.get_execution_options().get("immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _filtered(table: Table, columns: Sequence[str], filters: Mapping[str, object]) -> Select[Any]:
    """The rows that may match: a field that is no column is looked at afterwards."""
    query = select(table)
    for name, value in filters.items():
        if name in columns and (value is None or isinstance(value, str | int | datetime)):
            query = query.where(table.c[name] == value)
    return query
