import os
import subprocess
import sys
from datetime import timedelta
from threading import enumerate as threads

import anyio
import pytest
from pandas.testing import assert_frame_equal

from llmbridge import Bridge, Replay, Script, calls, frames
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.call import Request
from llmbridge.exchange.columns import FRAMES
from llmbridge.stores.memory import MemoryStore
from llmbridge.stores.opening import existing_store
from llmbridge.stores.sql import SqlStore
from llmbridge.stores.sql_writer import Job
from tests.stores.kept import NOON, answered, ask_the_time, asked


def test_another_process_finds_what_was_kept(database):
    first = SqlStore(database.url)
    first.add(answered("a"))
    first.end(asked("a", end="completed"))
    first.close()

    second = existing_store(database.url)

    assert (second.interceptions(), list(second)) == (
        [asked("a", end="completed")],
        [answered("a")],
    )


async def test_what_a_dead_process_left_open_is_interrupted_at_the_next_start(database):
    first = SqlStore(database.url)
    await first.begin(asked("a"))
    while_open = existing_store(database.url).interceptions()
    first.close()

    assert while_open == [asked("a")]
    assert existing_store(database.url).interceptions() == [asked("a", end="interrupted")]


async def test_what_a_dead_bridge_left_open_is_interrupted_while_another_is_at_work(database):
    at_work, dead = SqlStore(database.url), SqlStore(database.url)
    await at_work.begin(asked("here", 1))
    await dead.begin(asked("gone"))
    dead.close()

    found = existing_store(database.url).interceptions()

    assert found == [asked("gone", end="interrupted"), asked("here", 1)]
    at_work.close()


async def test_an_end_counts_also_when_it_comes_after_others_gave_the_bridge_up(database):
    store = SqlStore(database.url)
    await store.begin(asked("a"))
    store.close()
    existing_store(database.url).close()

    store.end(asked("a", end="completed"))
    store.flush()

    assert store.interceptions() == [asked("a", end="completed")]
    store.close()


async def test_what_is_written_again_is_there_once(database):
    store = SqlStore(database.url)
    jobs = [Job(asked("a", end="completed"), 1), Job(answered("a"), 2), Job(answered("a"), 3)]

    for _ in range(2):
        store._write(jobs)  # as after a commit of which nobody knows whether it was done

    assert store.interceptions() == [asked("a", end="completed")]
    assert store.records() == [answered("a"), answered("a")]
    store.close()


FORKED = """
import asyncio, os, sys
from llmbridge.stores.sql import SqlStore
from tests.stores.kept import answered, asked

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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork: run it on Linux or macOS")
def test_a_forked_process_writes_for_itself(database):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, database.url]
    subprocess.run(command, check=True, timeout=50)

    kept = existing_store(database.url)

    ids = {"parent", "parent later", "child later"}
    assert {each.id for each in kept.interceptions()} == ids
    assert sorted(each.interception_id for each in kept) == sorted(ids)


async def test_a_client_that_leaves_while_its_start_is_written_is_on_record(database):
    bridge = Bridge(Script("Hi"), store=database.url)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await bridge.handle(Request("POST", "http://localhost/v1/messages", body=b"{}"))
    bridge.flush()

    assert [each.end for each in bridge.interceptions] == ["client_gone"]
    bridge.close()


@pytest.mark.feature("anthropic-proxy", 6)
@pytest.mark.feature("gateway", 12)
def test_a_row_is_there_before_the_provider_is_asked_and_complete_afterwards(database):
    columns = 'SELECT model, status, "end" FROM interceptions'
    seen: list[object] = []

    def provider(_ask: object) -> str:
        seen.extend([database.sql(columns), database.sql("SELECT count(*) FROM records")])
        return "It is noon."

    with Bridge(Script(provider), store=database.url) as bridge:
        ask_the_time(bridge)
    seen.extend(
        [database.sql(columns), database.sql("SELECT status, length(body) > 9 FROM records")]
    )

    assert seen == [
        [("claude-x", None, None)],
        [(0,)],
        [("claude-x", 200, "completed")],
        [(200, 1)],
    ]


def test_a_bridge_writes_it_and_a_replay_and_frames_read_it(database):
    with Bridge(Script("It is noon."), store=database.url) as bridge:
        message = bridge.anthropic().messages.create(
            model="claude-x", max_tokens=9, messages=[{"role": "user", "content": "time?"}]
        )
    with Bridge(Replay(database.url)) as again:
        replayed = again.anthropic().messages.create(
            model="claude-x", max_tokens=9, messages=[{"role": "user", "content": "time?"}]
        )
    usage = frames.interceptions(database.url, model="claude-x")

    assert replayed == message
    assert usage["end"].tolist() == ["completed"]


def test_a_list_of_one_database_replays_as_the_database(database):
    with Bridge(Script("It is noon."), store=database.url) as bridge:
        asked = ask_the_time(bridge)

    with Bridge(Replay([database.url])) as again:
        assert ask_the_time(again) == asked


@pytest.mark.parametrize("name", FRAMES)
def test_frames_of_a_database_are_those_of_memory(database, name):
    memory, sqlite = MemoryStore(), SqlStore(database.url)
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
        for source in (database.url, memory)
    )

    for one, other in zip(found, same, strict=True):
        assert_frame_equal(one, other)


async def test_pruning_takes_what_is_old_and_over_with_its_records(database):
    store = SqlStore(database.url)
    for id, second in (("old", 0), ("under way", 1), ("new", 60)):
        await store.begin(asked(id, second))
        store.add(answered(id, started_at=NOON + timedelta(seconds=second)))
    store.add(answered("alone", started_at=NOON))
    store.add(answered("late", started_at=NOON + timedelta(seconds=60)))
    for id, second in (("old", 0), ("new", 60)):
        store.end(asked(id, second, end="completed"))
    store.flush()

    with pytest.raises(ConfigurationError, match="before='lately' is no time"):
        store.prune("lately")
    assert store.prune(NOON.date()) == 0
    counted = store.prune((NOON + timedelta(seconds=60)).isoformat(), dry_run=True)
    pruned = store.prune(NOON + timedelta(seconds=60))

    assert (counted, pruned) == (2, 2)
    assert [each.id for each in store.interceptions()] == ["under way", "new"]
    assert [each.interception_id for each in store] == ["under way", "new", "late"]
    store.close()


def test_more_than_a_page_is_pruned_while_others_write(database):
    store, other = SqlStore(database.url), SqlStore(database.url)
    for number in range(1201):
        store.end(asked(str(number), end="completed"))
    store.flush()

    other.add(answered("new"))
    pruned = store.prune(NOON + timedelta(days=1))
    other.close()

    assert (pruned, store.interceptions(), store.records()) == (1201, [], [answered("new")])
    store.close()


def test_closing_leaves_no_thread(database):
    before = set(threads())
    store = SqlStore(database.url)
    store.add(answered("a"))

    store.close()

    assert set(threads()) <= before
