"""A SQL store's database in an SQLite file."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import randbits
from threading import Lock
from time import monotonic, sleep
from typing import Any
from weakref import ref

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.pool import NullPool

from llmbridge.errors import ConfigurationError
from llmbridge.stores.users import User

_BUSY_MS = 10_000


class SqliteFile:
    """Any number of bridges of one machine write to it, one at a time; it is made, for its owner alone, when opened."""

    def __init__(self, path: Path, *, safe_on_power_loss: bool) -> None:
        self.path = path
        self.name = f"sqlite:///{path}"
        self.secrets = frozenset[str]()
        self.bridge = randbits(63)
        self.engine = _engine(path, "FULL" if safe_on_power_loss else "NORMAL")
        # Who reads first and then writes, while another has written, is refused without a wait.
        self._writing = self.engine.execution_options(begin="BEGIN IMMEDIATE")
        self._safe = safe_on_power_loss
        self._user = User(path, self.bridge)
        # One thread writes; another may close.
        self._turn = Lock()
        self._held: Connection | None = None
        self._told_of_forks = False

    def again(self) -> "SqliteFile":
        """The same file for another bridge."""
        return SqliteFile(self.path, safe_on_power_loss=self._safe)

    def exists(self) -> bool:
        """True when there is something to read."""
        return self.path.exists()

    def open(self, prepare: Callable[[Connection], None]) -> None:
        """Make the file where there is none, and prepare it while nobody else writes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Prompts are nobody else's affair.
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        with self.changing() as connection:
            prepare(connection)
        # Now that it is ours: the file remembers it.
        self._use_log()
        self._user.tidy()

    def version(self, connection: Connection) -> int:
        """The schema's, 0 of an empty file."""
        found = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
        tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema").scalar_one()
        if not found and tables:
            raise ConfigurationError(
                f"store={self.name!r} is another program's database: name a file of its own"
            )
        return found

    def keep_version(self, connection: Connection, version: int) -> None:
        """Note it in the file's head."""
        connection.exec_driver_sql(f"PRAGMA user_version = {version:d}")

    def is_here(self, connection: Connection, bridge: int) -> bool:
        """True while the process of that bridge lives."""
        return self._user.is_here(bridge)

    def insert(self, table: Table) -> Insert:
        """An insert that may say what happens when the row is there."""
        return insert(table)

    def write(self, work: Callable[[Connection], None]) -> None:
        """Do it in a transaction, as a bridge that everybody sees to live."""
        with self._turn:
            self._user.enter()
            if self._held is None:
                # Held, since the last one to close a file has to fold the log into it.
                self._held = self._writing.connect()
                self._close_before_forks()
            try:
                with self._held.begin():
                    work(self._held)
            except OperationalError:
                self._let_go()
                raise

    @contextmanager
    def changing(self) -> Generator[Connection]:
        """A transaction that reads and then writes; what it deletes is overwritten with zeros."""
        with self._writing.begin() as connection:
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
            yield connection

    def forget_deleted(self) -> None:
        """Take it out of the log, too."""
        self._checkpoint("TRUNCATE")

    def is_the_rows_fault(self, error: DBAPIError) -> bool:
        """True when it will never be written, False when the file is full, locked, read-only or gone."""
        return isinstance(error, DataError | IntegrityError | InterfaceError | ProgrammingError)

    def close(self) -> None:
        """Fold the log into the file, and be nobody who writes."""
        with self._turn:
            try:
                self._checkpoint("PASSIVE")
            finally:
                self._let_go()
                self._user.leave()

    def _close_before_forks(self) -> None:
        """A child of a process with an open file takes the parent's locks for its own, and what it writes is lost."""
        if self._told_of_forks or not hasattr(os, "register_at_fork"):
            return
        self._told_of_forks = True
        # Nobody can take these back, so they hold nothing.
        me: ref[SqliteFile] = ref(self)
        os.register_at_fork(
            before=lambda: _call(me, SqliteFile._pause),
            after_in_parent=lambda: _call(me, SqliteFile._go_on),
            after_in_child=lambda: _call(me, SqliteFile._go_on),
        )

    def _pause(self) -> None:
        self._turn.acquire()
        self._let_go()

    def _go_on(self) -> None:
        self._turn.release()

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def _use_log(self) -> None:
        """Readers and a writer at the same time."""
        give_up_s = monotonic() + _BUSY_MS / 1000
        while True:
            try:
                with self.engine.execution_options(begin="").connect() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                return
            except OperationalError as error:
                # SQLite does not wait when two do this at once.
                if "locked" not in str(error.orig) or monotonic() > give_up_s:
                    raise
                sleep(0.01)

    def _checkpoint(self, mode: str) -> None:
        # Somebody who reads just now keeps the log; the next to close folds it in.
        with suppress(DatabaseError), self.engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA wal_checkpoint({mode})")


def _call(me: "ref[SqliteFile]", do: Callable[[SqliteFile], None]) -> None:
    if (file := me()) is not None:
        do(file)


def _engine(path: Path, synchronous: str) -> Engine:
    """Connections that are opened by who uses them, and begin as they are told."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        # The driver begins transactions late; this lets SQLAlchemy say when.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout = {_BUSY_MS}",
            f"synchronous = {synchronous}",
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        if statement := connection.get_execution_options().get("begin", "BEGIN"):
            connection.exec_driver_sql(statement)

    return engine
