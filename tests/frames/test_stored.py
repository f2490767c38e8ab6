"""Frames of a store that digests, beside the same frames of memory."""

import gc
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from sqlalchemy import Engine, create_engine, event

from llmbridge import frames
from llmbridge.errors import ConfigurationError, StoreUnavailable
from llmbridge.exchange.columns import FRAMES
from llmbridge.exchange.record import Store
from llmbridge.stores import sql_arrow
from llmbridge.stores.arrow import KEY
from llmbridge.stores.followed import FollowedStore
from llmbridge.stores.memory import MemoryStore
from llmbridge.stores.sql import SqlStore
from tests.samples import NOON, asked, ended, keep, record, request

ANTHROPIC = ("anthropic.messages", "thinking_tool_call.sse")
CACHED = ("anthropic.messages", "cache_read.sse")
CHAT = ("openai.chat", "text.sse")
RESPONSES = ("openai.responses", "text.sse")
REFUSED = ("openai.chat", "error_400.json")
PROMPT = next(column for column in FRAMES["prompts"] if column.name == "prompt")
ODD = "\x00 \x1a0041 \ud83d\ude00 \udc80 it's 100% \\ é"


async def fill(store: Store) -> None:
    """Calls of every kind, with what is missing in the first one."""
    bare: dict[str, Any] = {"provider": None, "dialect": None, "model": None, "streaming": False}
    await keep(store, ended(asked("bare", **bare), status=None, end="interrupted"))
    tools = [record(*ANTHROPIC), record(*CACHED, round=1, replayed=True)]
    await keep(store, ended(asked("tools", 1, actor="alice", session_id="s1")), *tools)
    elsewhere = [record(*REFUSED), record(*RESPONSES, round=1)]
    await keep(store, ended(asked("elsewhere", 2, actor="bob", client="sdk")), *elsewhere)
    odd = ended(asked("odd", 3, actor=ODD, error=ODD, error_type="odd", fault="stall"), status=500)
    await keep(store, odd, record(*CHAT))
    await keep(store, asked("under way", 2.5), record(*CHAT), over=False)
    for number in range(9):
        call = asked(f"n{number}", 60 * number, request=request({}), actor=f"a{number % 3}")
        await keep(store, ended(call), record(*CHAT))
    for id in ("alone", "also alone"):
        store.add(record(*RESPONSES, id=id))
    store.flush()


def memory() -> MemoryStore:
    store = MemoryStore()
    anyio.run(fill, store)
    return store


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('stored') / 'usage.db'}"
    store = SqlStore(url)
    anyio.run(fill, store)
    # Its process lives, or what is under way would be interrupted.
    return url


@pytest.mark.parametrize("name", FRAMES)
def test_a_whole_frame_is_that_of_memory(url, name):
    assert_frame_equal(getattr(frames, name)(url), getattr(frames, name)(memory()))


@pytest.mark.parametrize("name", ["interceptions", "token_usage"])
def test_a_whole_frame_that_processes_read_is_that_of_memory(url, name, monkeypatch):
    monkeypatch.setattr(sql_arrow, "FEW", 3)

    assert_frame_equal(getattr(frames, name)(url), getattr(frames, name)(memory()))


def test_many_records_without_a_call_come_in_the_order_they_were_made(tmp_path):
    memory, store = MemoryStore(), SqlStore(f"sqlite:///{tmp_path / 'usage.db'}")
    for number in range(250, 0, -1):
        for each in (memory, store):
            each.add(record(*REFUSED, id=str(number)))
            if number == 200:
                each.flush()

    assert_frame_equal(frames.interceptions(store), frames.interceptions(memory))
    store.close()


def test_a_store_that_only_passes_on_is_read_as_what_it_passes_to(url):
    followed = FollowedStore(SqlStore(url), lambda *_: None)

    assert_frame_equal(frames.interceptions(followed), frames.interceptions(memory()))
    followed.close()


@pytest.mark.parametrize("columns", [["model", "interception_id"], ["round", "round"]])
def test_columns_are_those_that_are_wanted(url, columns):
    every = frames.token_usage(memory())

    found = frames.token_usage(url, columns=columns)

    assert_frame_equal(found, every[list(dict.fromkeys(columns))])


def test_the_index_is_there_whatever_columns_are_wanted(url):
    found = frames.interceptions(url, columns=["actor", "started_at"])

    assert_frame_equal(found, frames.interceptions(memory())[["actor", "started_at"]])


def test_a_column_that_is_none_is_told_with_those_there_are(url):
    with pytest.raises(ConfigurationError, match=r"no column 'modle': use some of .*model"):
        frames.interceptions(url, columns=["modle"])


NAMES = st.sampled_from(["alice", "bob", "a1", ODD, "s1", "sdk", "o'brien", "%", "nobody"])
TIMES = st.sampled_from([NOON + timedelta(seconds=each) for each in (-1, 0, 1, 2.5, 3, 60, 900)])
COUNTS = st.sampled_from([200, 500, 200.0, 500.5, True, None, 2**70])
FACTS = st.sampled_from([True, False, 1, 0, None])
MODELS = ["claude-*", "gpt-*", "*", "claude-latest", "GPT-*", "gpt-4o-mini", "g[p]t-?-mini", "["]
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "since": TIMES,
        "until": TIMES,
        "interception_id": st.sampled_from(["bare", "odd", "n3", "alone", "under way", "none"]),
        "session_id": NAMES,
        "actor": NAMES | st.none(),
        "client": NAMES | st.none(),
        "frontend": st.sampled_from(["asgi", "direct"]),
        "provider": st.sampled_from(["anthropic", "openai", "mine", None]),
        "dialect": st.sampled_from(["anthropic.messages", "openai.responses", "mine", None]),
        "model": st.sampled_from(MODELS),
        "streaming": FACTS,
        "status": COUNTS,
        "end": st.sampled_from(["completed", "interrupted"]),
        "replayed": FACTS,
    },
)


@pytest.fixture(scope="module")
def kept() -> MemoryStore:
    return memory()


@given(filters=FILTERS, name=st.sampled_from(["interceptions", "token_usage", "events"]))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_filter_finds_in_the_database_what_it_finds_in_memory(url, kept, filters, name):
    found = getattr(frames, name)(url, **filters)

    assert_frame_equal(found, getattr(frames, name)(kept, **filters))


def test_a_filter_holds_for_the_processes_that_read(url, kept, monkeypatch):
    monkeypatch.setattr(sql_arrow, "FEW", 0)

    found = frames.prompts(url, actor=ODD, model="gpt-*")

    assert_frame_equal(found, frames.prompts(kept, actor=ODD, model="gpt-*"))


@pytest.fixture
def sent() -> Iterator[list[str]]:
    """The queries that go to a database."""
    queries: list[str] = []

    def note(_connection, _cursor, statement, *_rest):
        queries.append(" ".join(statement.split()))

    event.listen(Engine, "before_cursor_execute", note)
    yield queries
    event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    ("filters", "asked"),
    [
        ({"since": NOON}, "WHERE summaries.begun_at >= ?"),
        ({"until": NOON}, "WHERE summaries.begun_at < ?"),
        ({"actor": "alice"}, "WHERE summaries.actor = ?"),
        ({"session_id": None}, "WHERE summaries.session_id IS NULL"),
        ({"model": "gpt-*"}, "WHERE summaries.models IN (?"),
        ({"model": "*"}, "WHERE summaries.models IS NOT NULL"),
        ({"provider": "openai"}, "WHERE summaries.providers IN (?"),
    ],
    ids=str,
)
def test_the_database_is_asked_for_no_more_than_is_wanted(url, sent, filters, asked):
    frames.interceptions(url, **filters)

    (rows,) = [query for query in sent if query.startswith("SELECT summaries.begun_at, ")]
    assert asked in rows


def test_the_database_is_asked_for_no_more_columns_than_are_wanted(url, sent):
    frames.interceptions(url, columns=["model"])

    key = "summaries.begun_at, summaries.interception_id, summaries.number"
    assert any(query.startswith(f"SELECT {key}, summaries.model FROM") for query in sent)


def test_what_the_reading_process_cannot_read_is_told(url, tmp_path):
    query = SqlStore(url).digests.query("prompts", ["prompt"], [])
    path = tmp_path / "none.db"
    path.write_bytes(b"no database at all")

    with pytest.raises(StoreUnavailable, match=r"none.db' cannot be read: .*not a database"):
        list(sql_arrow._many(create_engine(f"sqlite:///{path}"), query, [*KEY, PROMPT]))


def test_who_reads_on_no_more_leaves_no_process_behind(url, monkeypatch):
    monkeypatch.setattr(sql_arrow, "FEW", 0)
    batches = SqlStore(url).digests.batches("interceptions", ["model"], [])
    next(batches)

    batches.close()

    # One that still ran would warn.
    gc.collect()


@pytest.mark.xdist_group("postgres")
def test_postgresql_says_the_same(postgres, kept, monkeypatch):
    store = SqlStore(postgres.url)
    anyio.run(fill, store)
    asked_for: list[dict[str, Any]] = [{}, {"actor": ODD}, {"model": "gpt-*", "since": NOON}]

    for few in (100, 0):
        # One by one, and by ADBC.
        monkeypatch.setattr(sql_arrow, "FEW", few)
        for name in FRAMES:
            for filters in asked_for:
                found = getattr(frames, name)(store, **filters)
                assert_frame_equal(found, getattr(frames, name)(kept, **filters))
    store.close()
