import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

import anyio
import pytest
from sqlalchemy import event

from llmbridge import Bridge, Script
from llmbridge.errors import ConfigurationError, StoreUnavailable
from llmbridge.stores.opening import existing_store, open_store
from llmbridge.stores.sql import SqlStore
from tests.stores.conftest import sql, url_of
from tests.stores.kept import NOON, answered, ask_the_time, asked


@pytest.mark.skipif(
    os.name != "posix", reason="needs the file modes of POSIX: run it on Linux or macOS"
)
def test_nobody_else_may_read_the_file(path):
    SqlStore(url_of(path)).close()

    assert path.stat().st_mode & 0o777 == 0o600


def test_the_file_is_whole_and_synced_as_promised(path):
    store = SqlStore(url_of(path))
    with store._database.engine.connect() as connection:  # the promise is the connection's own
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        ]
    store.close()

    assert pragmas == ["wal", 2, 10_000, 1]


def test_another_programs_database_is_left_alone(path):
    sql(path, "CREATE TABLE t (x)")
    before = path.read_bytes()

    with pytest.raises(ConfigurationError, match="another program's database"):
        SqlStore(url_of(path))

    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_told(path):
    path.write_bytes(b"no database" * 1000)

    with pytest.raises(ConfigurationError, match="cannot be opened: file is not a database"):
        SqlStore(url_of(path))


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://u:secret@h/d",
        "mysql://u:se/cr:et@h:no-port/d",
        "mysql://h/d?user=u&password=secret",
        "x://",
    ],
)
def test_what_is_no_sqlite_file_is_told_without_its_password(url):
    with pytest.raises(ConfigurationError, match=r"sqlite:///usage\.db") as told:
        open_store(url)

    assert "secret" not in str(told.value)
    assert "cr:et" not in str(told.value)


def test_a_store_that_is_not_there_is_not_made_by_reading(path):
    with pytest.raises(ConfigurationError, match="there is no store"):
        existing_store(url_of(path))

    assert not path.exists()


def test_a_name_that_no_file_can_have_is_told(path):
    with pytest.raises(ConfigurationError, match="cannot be opened: File name too long"):
        existing_store(url_of(path.with_name("a" * 300)))


async def test_a_locked_file_refuses_calls_and_loses_nothing(path):
    store = SqlStore(url_of(path))
    # A lock is waited for 10 s: too long for a test.
    _prepare(store, lambda: "PRAGMA busy_timeout = 20")
    await store.begin(asked("a"))
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        store.add(answered("a"))
        with pytest.raises(StoreUnavailable, match=r"1 rows wait in memory.*database is locked"):
            store.flush()
        with pytest.raises(StoreUnavailable, match="database is locked"):
            await store.begin(asked("b"))
        assert store.pending == 1
        other.rollback()

    store.flush()

    assert (store.records(), store.interceptions()) == ([answered("a")], [asked("a")])
    store.close()


def test_rows_that_cannot_be_written_at_the_end_are_told_of_as_lost(path):
    store = SqlStore(url_of(path))
    _prepare(store, lambda: "PRAGMA query_only = ON")
    store.add(answered("a"))

    with pytest.raises(StoreUnavailable, match=r"^1 rows are lost: .*readonly database"):
        store.close()


async def test_a_full_disk_refuses_calls_and_loses_nothing(path):
    store = SqlStore(url_of(path))
    limit = {"pages": 40}
    _prepare(store, lambda: f"PRAGMA max_page_count = {limit['pages']}")
    await store.begin(asked("a"))
    store.add(answered("a", b"x" * 1_000_000))

    with pytest.raises(StoreUnavailable, match=r"1 rows wait in memory.*disk is full"):
        store.flush()
    limit["pages"] = 1_000_000
    store.flush()

    assert store.records() == [answered("a", b"x" * 1_000_000)]
    store.close()


async def test_a_file_that_can_only_be_read_refuses_calls_and_loses_nothing(path):
    store = SqlStore(url_of(path))
    only_reads = {"now": "ON"}
    _prepare(store, lambda: f"PRAGMA query_only = {only_reads['now']}")
    store.add(answered("a"))

    with pytest.raises(StoreUnavailable, match=r"1 rows wait in memory.*readonly database"):
        store.flush()
    with pytest.raises(StoreUnavailable, match="readonly database"):
        await store.begin(asked("a"))
    only_reads["now"] = "OFF"
    store.flush()

    assert (store.records(), store.interceptions()) == ([answered("a")], [])
    store.close()


async def test_a_start_behind_many_rows_that_cannot_be_written_is_refused(path):
    store = SqlStore(url_of(path))
    limit = {"pages": 40}
    _prepare(store, lambda: f"PRAGMA max_page_count = {limit['pages']}")
    for number in range(150):
        store.add(answered(str(number), b"x" * 10_000))

    with anyio.fail_after(10), pytest.raises(StoreUnavailable, match="disk is full"):
        await store.begin(asked("a"))
    limit["pages"] = 1_000_000
    store.close()

    assert (len(store.records()), store.interceptions()) == (150, [])


@pytest.mark.feature("aibridge", 13)
@pytest.mark.feature("gateway", 19)
def test_a_call_that_has_begun_does_not_wait_for_the_disk(path):
    with closing(sqlite3.connect(path, check_same_thread=False)) as other:

        def provider(_ask: object) -> str:
            other.execute("BEGIN IMMEDIATE")
            return "It is noon."

        with Bridge(Script(provider), store=url_of(path)) as bridge:
            answer = ask_the_time(bridge)
            kept = sql(path, 'SELECT "end" FROM interceptions')
            other.rollback()

    assert (answer, kept) == ("It is noon.", [(None,)])
    assert sql(path, 'SELECT "end" FROM interceptions') == [("completed",)]


async def test_what_is_pruned_is_in_no_byte_of_the_file(path):
    secret = b"what only we two know" * 1000
    store = SqlStore(url_of(path))
    for number in range(3):
        await store.begin(asked(str(number)))
        store.add(answered(str(number), secret))
        store.end(asked(str(number), end="completed"))
    store.flush()

    assert store.prune(NOON + timedelta(days=1)) == 3
    store.close()

    assert [file.name for file in path.parent.iterdir() if secret[:21] in file.read_bytes()] == []


def test_pruning_a_file_that_is_locked_is_told(path):
    store = SqlStore(url_of(path))
    store.end(asked("a", end="completed"))
    store.flush()
    _prepare(store, lambda: "PRAGMA busy_timeout = 20")
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreUnavailable, match="cannot be written: database is locked"):
            store.prune(NOON + timedelta(days=1))

    store.close()


def _prepare(store: SqlStore, statement: Callable[[], str]) -> None:
    """What every later connection of the store says first."""

    @event.listens_for(store._database.engine, "connect")
    def prepare(connection, _record):
        connection.execute(statement())
