import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pandas.testing import assert_frame_equal
from sqlalchemy import Engine, event

from llmbridge import frames
from llmbridge.stores.memory import MemoryStore
from llmbridge.stores.sql import SqlStore
from llmbridge.stores.sql_digests import TABLES
from tests.samples import NOON, asked, ended, keep, record
from tests.stores.conftest import url_of

TEXT = record("anthropic.messages", "text.sse")
TOOLS = record("anthropic.messages", "thinking_tool_call.sse")


def undigested(database) -> list[str]:
    return [id for (id,) in database.sql("SELECT interception_id FROM undigested")]


async def memory(*calls) -> MemoryStore:
    store = MemoryStore()
    for call, *records in calls:
        await keep(store, call, *records, over=call.end is not None)
    return store


async def test_sql_has_the_tokens_and_the_cost_of_what_is_flushed(database):
    store = SqlStore(database.url)
    await keep(store, ended(asked("a", actor="alice")), TEXT)
    store.flush()

    query = "SELECT s.actor, u.output_tokens, u.cost_usd FROM token_usage u JOIN summaries s"
    found = database.sql(f"{query} USING (begun_at, interception_id)")

    (usage,) = frames.token_usage([TEXT]).itertuples()
    assert found == [("alice", usage.output_tokens, usage.cost_usd)]
    assert undigested(database) == []
    store.close()


async def test_what_is_under_way_is_not_digested_and_yet_read(database):
    store = SqlStore(database.url)
    await keep(store, asked("a"), TEXT, over=False)

    found = frames.interceptions(store)

    assert undigested(database) == ["a"]
    assert_frame_equal(found, frames.interceptions(await memory((asked("a"), TEXT))))
    store.close()


async def test_a_record_that_comes_late_is_counted_too(database):
    store, call, late = SqlStore(database.url), ended(asked("a")), replace(TEXT, round=1)
    await keep(store, call, TOOLS)
    store.flush()

    store.add(replace(late, interception_id="a"))
    store.flush()

    waiting = undigested(database)
    found = frames.interceptions(store)
    assert (waiting, undigested(database)) == (["a"], [])
    assert_frame_equal(found, frames.interceptions(await memory((call, TOOLS, late))))
    store.close()


@pytest.mark.parametrize("before", ["no digests", "other digests"])
async def test_what_another_version_has_kept_is_digested_when_it_is_read(
    database, monkeypatch, before
):
    store = SqlStore(database.url)
    await keep(store, ended(asked("a")), TOOLS)
    store.close()
    if before == "no digests":
        for table in (*TABLES.values(), "undigested", "digests"):
            database.sql(f"DROP TABLE {table}")
    else:
        monkeypatch.setattr("llmbridge.stores.sql_digests._VERSION", "another")

    told: list[tuple[int, int]] = []
    found = frames.tool_calls(database.url, progress=lambda *done: told.append(done))

    assert_frame_equal(found, frames.tool_calls(await memory((ended(asked("a")), TOOLS))))
    assert (told, undigested(database)) == ([(1, 1)], [])


async def test_pruning_takes_the_digests_too(database):
    store = SqlStore(database.url)
    await keep(store, ended(asked("old")), TOOLS)
    await keep(store, ended(asked("new", 60)), TOOLS)
    store.flush()

    store.prune(NOON + timedelta(seconds=30))

    for table in TABLES.values():
        ids = database.sql(f"SELECT DISTINCT interception_id FROM {table}")
        assert ids in ([("new",)], [])
    assert database.sql("SELECT interception_id FROM summaries") == [("new",)]
    store.close()


async def test_an_answer_that_nobody_can_digest_is_left_to_the_reader(
    database, monkeypatch, caplog
):
    def fail(*_):
        raise RuntimeError("a bug")

    store = SqlStore(database.url)
    with monkeypatch.context() as broken:
        broken.setattr("llmbridge.stores.sql_digests.digest", fail)
        await keep(store, ended(asked("a")), TEXT)
        store.flush()

    assert "interception 'a' stays undigested" in caplog.text
    assert (undigested(database), len(frames.token_usage(store))) == (["a"], 1)
    store.close()


async def test_what_another_bridge_writes_meanwhile_holds_up_no_digest(path, caplog):
    store, call = SqlStore(url_of(path)), ended(asked("a"))
    await keep(store, call, TEXT)
    store.flush()
    refused: list[str] = []

    def write_meanwhile(_connection, _cursor, statement, *_rest):
        if statement.startswith("SELECT interceptions.id"):
            with closing(sqlite3.connect(path, timeout=0)) as other:
                try:
                    other.execute("UPDATE interceptions SET client = 'another'")
                    other.commit()
                except sqlite3.OperationalError as error:
                    refused.append(str(error))

    event.listen(store.engine, "after_cursor_execute", write_meanwhile)
    store._digest(call, [replace(TEXT, interception_id="a")])
    store.flush()

    assert (refused, caplog.text) == (["database is locked"], "")
    store.close()


async def test_no_write_looks_through_the_calls_that_are_there(path):
    """Written before a million calls are there, or after: it takes as long."""
    statements: list[str] = []

    def note(_connection, _cursor, statement, *_rest):
        statements.append(statement)

    store = SqlStore(url_of(path))
    event.listen(Engine, "before_cursor_execute", note)
    await keep(store, ended(asked("a")), TOOLS)
    store.flush()
    event.remove(Engine, "before_cursor_execute", note)
    store.close()

    plans = [
        detail
        for statement in statements
        if statement.startswith(("DELETE", "SELECT"))
        for *_, detail in explained(path, statement)
    ]
    assert plans
    assert [plan for plan in plans if plan.startswith("SCAN") and "CONSTANT" not in plan] == []


def explained(path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        values = ["" for _ in range(statement.count("?"))]
        return connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
