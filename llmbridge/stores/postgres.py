"""A SQL store's database in PostgreSQL, through psycopg (extra `postgres`).

A bridge writes through one connection, whose session holds an advisory lock under the bridge's number: the server lets
go of it when the process, its machine or the way there dies, and so everybody sees who lives.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from secrets import randbits
from threading import Lock
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError
from sqlalchemy.pool import NullPool

from llmbridge.errors import ConfigurationError
from llmbridge.stores.sql_schema import METADATA

_DEFAULTS = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "llmbridge",
}
"""Where the URL says nothing. A server that does not answer any more must not hold up calls for long."""

_SESSION = {
    # As long as SQLite waits for a locked file.
    "lock_timeout": "10s",
    # A bridge whose machine has died is given up after a minute, not after the two hours of most systems.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
"""Settings of a session, where the URL's `options` say nothing of them."""

_OPENING = int.from_bytes(b"llmbridg")
"""The advisory lock of who makes or migrates the schema."""

_ROWS_FAULTS = ("22", "23", "54")
"""SQLSTATE classes: a value that cannot be, a broken constraint, a row that is too large."""


class PostgresDatabase:
    """Any number of bridges of any number of machines write to it."""

    def __init__(self, url: URL, *, safe_on_power_loss: bool) -> None:
        self.name = _shown(url)
        self.secrets = _secrets(url)
        self.bridge = randbits(63)
        self._url = url
        self._safe = safe_on_power_loss
        self.engine = _engine(url, self.name, safe_on_power_loss=safe_on_power_loss)
        # One thread writes; another may close.
        self._turn = Lock()
        self._held: Connection | None = None

    def again(self) -> "PostgresDatabase":
        """The same database for another bridge."""
        return PostgresDatabase(self._url, safe_on_power_loss=self._safe)

    def exists(self) -> bool:
        """True when there is something to read."""
        with self.engine.connect() as connection:
            return inspect(connection).has_table("llmbridge_schema")

    def open(self, prepare: Callable[[Connection], None]) -> None:
        """Prepare it while no other bridge does."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_OPENING,))
            prepare(connection)

    def version(self, connection: Connection) -> int:
        """The schema's, 0 where there is none."""
        found = inspect(connection)
        if found.has_table("llmbridge_schema"):
            query = "SELECT max(version) FROM llmbridge_schema"
            return int(connection.exec_driver_sql(query).scalar_one())
        taken = [name for name in METADATA.tables if found.has_table(name)]
        if taken:
            raise ConfigurationError(
                f"store={self.name!r} has a table {taken[0]!r} of another program: name a database of its own"
            )
        return 0

    def keep_version(self, connection: Connection, version: int) -> None:
        """Note it, with the time."""
        connection.exec_driver_sql(
            "CREATE TABLE IF NOT EXISTS llmbridge_schema"
            " (version INTEGER PRIMARY KEY, since TIMESTAMPTZ NOT NULL DEFAULT now())"
        )
        connection.exec_driver_sql("INSERT INTO llmbridge_schema VALUES (%s)", (version,))

    def is_here(self, connection: Connection, bridge: int) -> bool:
        """True while the session of that bridge lasts."""
        query = "SELECT pg_try_advisory_xact_lock(%s)"
        return not connection.exec_driver_sql(query, (bridge,)).scalar_one()

    def insert(self, table: Table) -> Insert:
        """An insert that may say what happens when the row is there."""
        return insert(table)

    def write(self, work: Callable[[Connection], None]) -> None:
        """Do it in a transaction, as a bridge that everybody sees to live; again on a new connection if this one is lost."""
        with self._turn:
            try:
                self._in_transaction(work)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                self._in_transaction(work)

    @contextmanager
    def changing(self) -> Generator[Connection]:
        """A transaction that reads and then writes."""
        with self.engine.begin() as connection:
            yield connection

    def forget_deleted(self) -> None:
        """The server vacuums when it finds time."""

    def is_the_rows_fault(self, error: DBAPIError) -> bool:
        """True when it will never be written, False when the server is full, read-only, locked, changed or gone."""
        state: str | None = getattr(error.orig, "sqlstate", None)
        if state is None:
            # What psycopg itself refuses has none; neither has a lost connection.
            return isinstance(error, DataError | ProgrammingError)
        return state.startswith(_ROWS_FAULTS)

    def close(self) -> None:
        """End the session, and with it the lock."""
        with self._turn:
            self._let_go()

    def _in_transaction(self, work: Callable[[Connection], None]) -> None:
        connection = self._connection()
        try:
            with connection.begin():
                work(connection)
        except DBAPIError as error:
            if error.connection_invalidated:
                self._let_go()
            raise

    def _connection(self) -> Connection:
        if self._held is None:
            connection = self.engine.connect()
            try:
                # Shared: after a loss the server may think for a while that the old session lasts.
                query = "SELECT pg_advisory_lock_shared(%s)"
                connection.exec_driver_sql(query, (self.bridge,))
                connection.commit()
            except BaseException:
                connection.close()
                raise
            self._held = connection
        return self._held

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            with suppress(DBAPIError):
                held.close()


def _engine(url: URL, name: str, *, safe_on_power_loss: bool) -> Engine:
    """Connections that are opened by who uses them."""
    defaults = {key: value for key, value in _DEFAULTS.items() if key not in url.query}
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            hide_parameters=True,
            connect_args=defaults,
        )
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"store={name!r} needs the package {error.name}: pip install 'llmbridge[postgres]'"
        ) from error
    session = _SESSION if safe_on_power_loss else _SESSION | {"synchronous_commit": "off"}
    options = str(url.query.get("options", ""))
    ours = [f"SET {key} = '{value}'" for key, value in session.items() if key not in options]

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        for statement in ours:
            connection.execute(statement)
        connection.commit()

    return engine


def _shown(url: URL) -> str:
    """The URL without its passwords, wherever they stand."""
    hidden = {key: "***" for key in url.query if "password" in key}
    return url.update_query_dict(hidden).render_as_string()


def _secrets(url: URL) -> frozenset[str]:
    said = [str(value) for key, value in url.query.items() if "password" in key]
    return frozenset([*said, url.password] if url.password else said)
