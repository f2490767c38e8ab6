import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import enumerate as threads

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from sqlalchemy.dialects.sqlite import dialect

from llmbridge import Bridge, Replay, Script, calls, frames
from llmbridge.errors import ConfigurationError, StoreUnavailable
from llmbridge.exchange.call import Caller, Headers, Request
from llmbridge.exchange.columns import FRAMES
from llmbridge.exchange.record import Interception, Record, Store
from llmbridge.stores.memory import MemoryStore
from llmbridge.stores.opening import existing_store, open_store
from llmbridge.stores.sql import SqlStore
from llmbridge.stores.sql_rows import interception_of, interception_row, record_of, record_row
from llmbridge.stores.sql_schema import AnyText
from llmbridge.stores.sql_writer import Job

SQLITE = dialect()
NOON = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)
ASK = Request(
    "POST",
    "http://localhost/v1/messages",
    Headers([("a", "1"), ("A", "\x00\ud800é")]),
    b"\x00\xff",
    Caller("asgi", "alice", "sdk", "s1", keyed=True),
)


def asked(id: str, second: int = 0, **more) -> Interception:
    return Interception(id, NOON + timedelta(seconds=second), ASK, **more)


def answered(id: str, body: bytes = b"hi", **more) -> Record:
    chunks = ((0.1, body), (0.1 + 0.2, b""), (1 / 3, b"\x00"))
    headers = Headers([("x", "y"), ("x", "z")])
    return Record(id, "anthropic", "anthropic.messages", ASK, 200, headers, chunks, **more)


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    store = MemoryStore() if request.param == "memory" else open_store(url_of(path))
    yield store
    store.close()


def sql(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def ask_the_time(bridge: Bridge) -> str:
    message = bridge.anthropic().messages.create(
        model="claude-x", max_tokens=9, messages=[{"role": "user", "content": "time?"}]
    )
    (block,) = message.content
    assert block.type == "text"
    return block.text


async def test_a_start_is_there_as_soon_as_begin_returns(store):
    await store.begin(asked("a"))

    assert store.interceptions() == [asked("a")]


async def test_an_end_replaces_the_start(store):
    ended = asked(
        "a",
        ended_at=NOON + timedelta(seconds=2),
        status=200,
        end="completed",
        actor="bob",
        error="\x00\udc80\x1a0041",
        fault="f",
        replayed=True,
    )
    await store.begin(asked("a"))

    store.end(ended)
    store.flush()

    assert store.interceptions() == [ended]


async def test_records_come_back_whole_in_the_order_they_were_made(store):
    made = [
        answered(
            "b",
            b"x" * 100_000,
            started_at=NOON,
            head_s=0.1,
            duration_s=1.5,
            model="m",
            key_hint="sk-a...0001",
        ),
        replace(answered("a", round=1, error="e", redacted=("r",), timed=False), request=None),
        *(answered(str(number)) for number in range(250)),
    ]

    for record in made:
        store.add(record)
    store.flush()

    assert (store.records(), list(store)) == (made, made)
    assert [record.chunks for record in store] == [record.chunks for record in made]


async def test_interceptions_come_by_start_time(store):
    for id, second in (("late", 9), ("early", 1), ("middle", 5)):
        await store.begin(asked(id, second))

    assert [each.id for each in store.interceptions()] == ["early", "middle", "late"]


async def test_a_filter_names_a_field_and_its_value(store):
    made = [answered("a"), answered("b", model="m", started_at=NOON), answered("b", round=1)]
    for record in made:
        store.add(record)
    store.flush()

    assert store.records(interception_id="b", round=1) == [made[2]]
    assert store.records(started_at=NOON, model="m") == [made[1]]
    assert store.records(request=ASK, model=None) == [made[0], made[2]]


@pytest.mark.parametrize("kind", ["records", "interceptions"])
def test_an_unknown_filter_is_told_with_those_there_are(store, kind):
    with pytest.raises(ConfigurationError, match=r"no filter 'modle': use one of .*model"):
        getattr(store, kind)(modle="x")


def test_another_process_finds_what_was_kept(path):
    first = SqlStore(url_of(path))
    first.add(answered("a"))
    first.end(asked("a", end="completed"))
    first.close()

    second = existing_store(url_of(path))

    assert (second.interceptions(), list(second)) == (
        [asked("a", end="completed")],
        [answered("a")],
    )


async def test_what_a_dead_process_left_open_is_interrupted_at_the_next_start(path):
    first = SqlStore(url_of(path))
    await first.begin(asked("a"))
    while_open = existing_store(url_of(path)).interceptions()
    first.close()

    assert while_open == [asked("a")]
    assert existing_store(url_of(path)).interceptions() == [asked("a", end="interrupted")]


async def test_what_a_dead_bridge_left_open_is_interrupted_while_another_is_at_work(path):
    at_work, dead = SqlStore(url_of(path)), SqlStore(url_of(path))
    await at_work.begin(asked("here", 1))
    await dead.begin(asked("gone"))
    dead.close()

    found = existing_store(url_of(path)).interceptions()

    assert found == [asked("gone", end="interrupted"), asked("here", 1)]
    at_work.close()


async def test_an_end_counts_also_when_it_comes_after_others_gave_the_bridge_up(path):
    store = SqlStore(url_of(path))
    await store.begin(asked("a"))
    store.close()
    existing_store(url_of(path)).close()

    store.end(asked("a", end="completed"))
    store.flush()

    assert store.interceptions() == [asked("a", end="completed")]
    store.close()


async def test_what_is_written_again_is_there_once(path):
    store = SqlStore(url_of(path))
    jobs = [Job(asked("a", end="completed"), 1), Job(answered("a"), 2), Job(answered("a"), 3)]

    for _ in range(2):
        store._write(jobs)  # as after a commit of which nobody knows whether it was done

    assert store.interceptions() == [asked("a", end="completed")]
    assert store.records() == [answered("a"), answered("a")]
    store.close()


FORKED = """
import asyncio, os, sys
from llmbridge.stores.sql import SqlStore
from tests.stores.test_sql import answered, asked

store = SqlStore(sys.argv[1])
asyncio.run(store.begin(asked("parent")))
store.add(answered("parent"))
store.flush()
child = os.fork()
name = "parent" if child else "child"
asyncio.run(store.begin(asked(name + " later", 1)))
store.add(answered(name + " later"))
store.close()
if child:
    sys.exit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_writes_for_itself(path):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, url_of(path)]
    subprocess.run(command, check=True, timeout=50)

    kept = existing_store(url_of(path))

    ids = {"parent", "parent later", "child later"}
    assert {each.id for each in kept.interceptions()} == ids
    assert sorted(each.interception_id for each in kept) == sorted(ids)


@pytest.mark.skipif(os.name != "posix", reason="the file's mode is a thing of POSIX")
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


def test_a_newer_schema_is_refused(path):
    SqlStore(url_of(path)).close()
    sql(path, "PRAGMA user_version = 99")

    with pytest.raises(ConfigurationError, match=r"has schema 99.*update llmbridge"):
        SqlStore(url_of(path))


def test_another_programs_database_is_left_alone(path):
    sql(path, "CREATE TABLE t (x)")

    with pytest.raises(ConfigurationError, match="another program's database"):
        SqlStore(url_of(path))


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


async def test_a_locked_file_refuses_calls_and_loses_nothing(path):
    store = SqlStore(url_of(path))
    await store.begin(asked("a"))
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        # A lock is waited for 10 s: too long for a test.
        _prepare(store, lambda: "PRAGMA busy_timeout = 20")
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


async def test_a_full_disk_refuses_calls_and_loses_nothing(path):
    store = SqlStore(url_of(path))
    await store.begin(asked("a"))
    limit = {"pages": 40}
    _prepare(store, lambda: f"PRAGMA max_page_count = {limit['pages']}")
    store.add(answered("a", b"x" * 1_000_000))

    with pytest.raises(StoreUnavailable, match=r"1 rows wait in memory.*disk is full"):
        store.flush()
    limit["pages"] = 1_000_000
    store.flush()

    assert store.records() == [answered("a", b"x" * 1_000_000)]
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


async def test_a_client_that_leaves_while_its_start_is_written_is_on_record(path):
    bridge = Bridge(Script("Hi"), store=url_of(path))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await bridge.handle(Request("POST", "http://localhost/v1/messages", body=b"{}"))
    bridge.flush()

    assert [each.end for each in bridge.interceptions] == ["client_gone"]
    bridge.close()


@pytest.mark.feature("anthropic-proxy", 6)
def test_a_row_is_there_before_the_provider_is_asked_and_complete_afterwards(path):
    columns = 'SELECT model, status, "end" FROM interceptions'
    seen: list[object] = []

    def provider(_ask: object) -> str:
        seen.extend([sql(path, columns), sql(path, "SELECT count(*) FROM records")])
        return "It is noon."

    with Bridge(Script(provider), store=url_of(path)) as bridge:
        ask_the_time(bridge)
    seen.extend(
        [sql(path, columns), sql(path, "SELECT status, instr(body, 'noon') > 0 FROM records")]
    )

    assert seen == [
        [("claude-x", None, None)],
        [(0,)],
        [("claude-x", 200, "completed")],
        [(200, 1)],
    ]


@pytest.mark.feature("aibridge", 13)
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


def test_a_bridge_writes_it_and_a_replay_and_frames_read_it(path):
    with Bridge(Script("It is noon."), store=url_of(path)) as bridge:
        message = bridge.anthropic().messages.create(
            model="claude-x", max_tokens=9, messages=[{"role": "user", "content": "time?"}]
        )
    with Bridge(Replay(url_of(path))) as again:
        replayed = again.anthropic().messages.create(
            model="claude-x", max_tokens=9, messages=[{"role": "user", "content": "time?"}]
        )
    usage = frames.interceptions(url_of(path), model="claude-x")

    assert replayed == message
    assert usage["end"].tolist() == ["completed"]


def test_a_list_of_one_database_replays_as_the_database(path):
    with Bridge(Script("It is noon."), store=url_of(path)) as bridge:
        asked = ask_the_time(bridge)

    with Bridge(Replay([url_of(path)])) as again:
        assert ask_the_time(again) == asked


@pytest.mark.parametrize("name", FRAMES)
def test_frames_of_a_database_are_those_of_memory(path, name):
    memory, sqlite = MemoryStore(), SqlStore(url_of(path))
    with Bridge(Script("It is noon.", calls("clock", at="noon")), store=memory) as bridge:
        for _ in range(2):
            bridge.anthropic().messages.create(
                model="claude-x", max_tokens=9, messages=[{"role": "user", "content": "time?"}]
            )
    for record in memory:
        sqlite.add(record)
    for interception in memory.interceptions():
        sqlite.end(interception)
    sqlite.close()

    found, same = (
        [getattr(frames, name)(source, **filters) for filters in ({}, {"model": "claude-*"})]
        for source in (url_of(path), memory)
    )

    for one, other in zip(found, same, strict=True):
        assert_frame_equal(one, other)


async def test_pruning_takes_what_is_old_and_over_with_its_records(path):
    store = SqlStore(url_of(path))
    for id, second in (("old", 0), ("under way", 1), ("new", 60)):
        await store.begin(asked(id, second))
        store.add(answered(id, started_at=NOON + timedelta(seconds=second)))
    store.add(answered("alone", started_at=NOON))
    store.add(answered("late", started_at=NOON + timedelta(seconds=60)))
    for id, second in (("old", 0), ("new", 60)):
        store.end(asked(id, second, end="completed"))
    store.flush()

    counted = store.prune(NOON + timedelta(seconds=60), dry_run=True)
    pruned = store.prune(NOON + timedelta(seconds=60))

    assert (counted, pruned) == (2, 2)
    assert [each.id for each in store.interceptions()] == ["under way", "new"]
    assert [each.interception_id for each in store] == ["under way", "new", "late"]
    store.close()


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


def test_more_than_a_page_is_pruned_while_others_write(path):
    store, other = SqlStore(url_of(path)), SqlStore(url_of(path))
    for number in range(1201):
        store.end(asked(str(number), end="completed"))
    store.flush()

    other.add(answered("new"))
    pruned = store.prune(NOON + timedelta(days=1))
    other.close()

    assert (pruned, store.interceptions(), store.records()) == (1201, [], [answered("new")])
    store.close()


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


def test_closing_leaves_no_thread(path):
    before = threads()
    store = SqlStore(url_of(path))
    store.add(answered("a"))

    store.close()

    assert threads() == before


KILLED = """
import asyncio, sys
from llmbridge.stores.sql import SqlStore
from tests.stores.test_sql import asked, answered

async def main():
    store = SqlStore(sys.argv[1])
    for number in range(100_000):
        id = f"{sys.argv[2]}-{number}"
        await store.begin(asked(id))
        print(id, flush=True)
        store.add(answered(id))
        store.end(asked(id, end="completed"))

asyncio.run(main())
"""


@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
def test_what_was_acknowledged_survives_kill_9(path):
    acknowledged: set[str] = set()
    for run in range(3):
        command = [sys.executable, "-c", KILLED, url_of(path), str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(40 + 31 * run):
                acknowledged.add(process.stdout.readline().strip())
            process.send_signal(signal.SIGKILL)
            acknowledged.update(line.strip() for line in process.stdout if line.endswith("\n"))

    kept = existing_store(url_of(path)).interceptions()

    assert sql(path, "PRAGMA integrity_check") == [("ok",)]
    assert acknowledged <= {each.id for each in kept}
    assert {each.end for each in kept} <= {"completed", "interrupted"}


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_any_text_comes_back_from_what_a_database_can_keep(text):
    column = AnyText()

    kept = column.process_bind_param(text, SQLITE)

    assert kept is not None
    assert "\0" not in kept.encode().decode()
    assert column.process_result_value(kept, SQLITE) == text


@given(st.lists(st.tuples(st.floats(0, 1e6), st.binary(max_size=9))), st.text())
def test_a_record_comes_back_from_its_row(chunks, error):
    record = replace(answered("a"), chunks=tuple(chunks), error=error)

    back = record_of(record_row(record))

    assert (back, back.chunks) == (record, record.chunks)


def test_an_interception_comes_back_from_its_row():
    assert interception_of(interception_row(asked("a", end="truncated"))) == asked(
        "a", end="truncated"
    )


def _prepare(store: SqlStore, statement: Callable[[], str]) -> None:
    """What every later connection of the store says first."""
    from sqlalchemy import event

    @event.listens_for(store._database.engine, "connect")
    def prepare(connection, _record):
        connection.execute(statement())
