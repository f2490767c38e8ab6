"""Frames of a data set, beside those of the store that it was written from."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from llmbridge import frames
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.columns import FRAMES
from llmbridge.frames import parquet
from llmbridge.frames.dataset import export
from llmbridge.stores.memory import MemoryStore
from llmbridge.stores.sql import SqlStore
from tests.samples import NOON, asked, ended, keep, record

DAY = 86_400
KINDS = (
    ("anthropic.messages", "thinking_tool_call.sse"),
    ("openai.chat", "text.sse"),
    ("openai.responses", "text.sse"),
)


async def fill(store: Any) -> None:
    """Twelve calls on four days, with what comes first, and what has only gaps, on one of them."""
    for number in range(12):
        dialect, name = KINDS[number % 3]
        call = asked(f"c{number}", number * DAY / 3, actor=None if number < 3 else f"a{number % 2}")
        await keep(store, ended(call), record(dialect, name))
    store.flush()


@pytest.fixture(scope="module")
def kept() -> MemoryStore:
    store = MemoryStore()
    anyio.run(fill, store)
    return store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a database, so that memory, SQLite and Parquet say the same."""
    path = tmp_path_factory.mktemp("parquet")
    store = SqlStore(f"sqlite:///{path / 'usage.db'}")
    anyio.run(fill, store)
    store.close()
    export(f"sqlite:///{path / 'usage.db'}", path / "usage")
    return path / "usage"


@pytest.mark.parametrize("name", FRAMES)
def test_a_whole_frame_is_that_of_memory(folder, kept, name):
    assert_frame_equal(getattr(frames, name)(folder), getattr(frames, name)(kept))


FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "since": st.sampled_from([NOON + timedelta(days=each) for each in (-1, 0, 1, 1.5, 9)]),
        "until": st.sampled_from([NOON + timedelta(days=each) for each in (-1, 0, 1, 1.5, 9)]),
        "interception_id": st.sampled_from(["c0", "c7", "none"]),
        "actor": st.sampled_from(["a0", "a1", None]),
        "provider": st.sampled_from(["anthropic", "openai", None]),
        "model": st.sampled_from(["claude-*", "gpt-4o*", "*", "mine"]),
        "streaming": st.sampled_from([True, False, None]),
        "status": st.sampled_from([200, 200.0, 500]),
    },
)


@given(filters=FILTERS, name=st.sampled_from(["interceptions", "token_usage", "events"]))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_filter_finds_in_the_data_set_what_it_finds_in_memory(folder, kept, filters, name):
    found = getattr(frames, name)(folder, **filters)

    assert_frame_equal(found, getattr(frames, name)(kept, **filters))


def test_days_that_cannot_have_it_are_not_opened(folder, monkeypatch):
    opened: list[str] = []
    files = parquet._files

    def note(path: Path) -> Any:
        opened.append(path.name)
        return files(path)

    monkeypatch.setattr(parquet, "_files", note)
    frames.interceptions(folder, since=NOON + timedelta(days=1), until=NOON + timedelta(days=2))

    assert opened == ["day=2026-11-21", "day=2026-11-22"]


def test_the_reader_of_parquet_is_told_what_is_wanted(folder, monkeypatch):
    told: set[str] = set()
    expression = parquet._expression

    def note(where: Any) -> Any:
        made = expression(where)
        told.add(str(made))
        return made

    monkeypatch.setattr(parquet, "_expression", note)
    frames.interceptions(folder, actor="a1", since=NOON + timedelta(days=3, hours=1))

    assert told == {'((actor == "a1") and (started_at >= 2026-11-23 13:00:00.000000Z))'}


@pytest.mark.parametrize("filters", [{}, {"actor": "alice"}], ids=["all", "some"])
def test_a_frame_that_no_call_has_a_row_of_is_empty(tmp_path, filters):
    export([record("openai.chat", "text.sse")], tmp_path)

    assert_frame_equal(frames.tool_calls(tmp_path, **filters), frames.tool_calls([]))


def test_a_frame_that_was_exported_alone_is_read_alone(tmp_path):
    records = [record("openai.chat", "text.sse")]
    export(records, tmp_path, only=["token_usage"])

    assert_frame_equal(frames.token_usage(tmp_path), frames.token_usage(records))
    with pytest.raises(ConfigurationError, match=r"there are no interceptions in .*export them"):
        frames.token_usage(tmp_path, actor="alice")


def test_columns_are_those_that_are_wanted(folder, kept):
    found = frames.token_usage(folder, columns=["model", "round"], actor="a1")

    assert_frame_equal(found, frames.token_usage(kept, columns=["model", "round"], actor="a1"))


def test_rows_without_a_column_are_as_many(folder, kept):
    found = frames.token_usage(folder, columns=[], actor="a1")

    assert found.shape == frames.token_usage(kept, columns=[], actor="a1").shape


@pytest.fixture(scope="class")
def cluster() -> Iterator[None]:
    """Two worker processes on this machine: whoever computes with Dask computes there.

    Its threads must not outlive the class: pytester empties `sys.modules` for a moment, where they import.
    """
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install -e '.[dev]'")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0
        ) as cluster,
        distributed.Client(cluster),
    ):
        yield


@pytest.mark.xdist_group("dask")
@pytest.mark.usefixtures("cluster")
class TestDask:
    @pytest.mark.parametrize("name", ["interceptions", "token_usage", "events"])
    def test_dask_finds_what_pandas_finds(self, folder, name):
        found = getattr(frames, name)(folder, engine="dask")

        assert found.npartitions == len(list((folder / name).iterdir()))
        assert_frame_equal(found._meta, getattr(frames, name)([]))
        whole = getattr(frames, name)(folder)
        assert_frame_equal(found.compute().reset_index(drop=True), whole.reset_index(drop=True))

    def test_dask_filters_as_pandas_does(self, folder):
        wanted: Any = {"model": "gpt-*", "actor": "a1", "since": NOON}

        found = frames.token_usage(folder, engine="dask", **wanted).compute()  # type: ignore[operator]  # of Dask

        assert_frame_equal(found.reset_index(drop=True), frames.token_usage(folder, **wanted))

    @pytest.mark.parametrize("by", [["model"], ["actor", "day", "client"]], ids=str)
    def test_dask_sums_up_as_pandas_does(self, folder, kept, by):
        found = frames.usage_by(folder, by, engine="dask").compute()  # type: ignore[operator]  # of Dask

        assert_frame_equal(found, frames.usage_by(kept, by))

    def test_the_frame_goes_on_in_dask(self, folder):
        calls: Any = frames.interceptions(folder, engine="dask", columns=["provider", "cost_usd"])

        found = calls.groupby("provider")["cost_usd"].sum().compute()

        whole = frames.interceptions(folder).groupby("provider")["cost_usd"].sum()
        assert found.sort_index().to_dict() == pytest.approx(whole.to_dict())

    def test_of_no_day_there_is_an_empty_frame(self, folder):
        found: Any = frames.interceptions(folder, engine="dask", until="2000-01-01")

        assert_frame_equal(found.compute(), frames.interceptions([]))


@pytest.mark.parametrize("engine", ["dask", "spark"])
def test_an_engine_that_does_not_fit_is_told(kept, engine):
    with pytest.raises(ConfigurationError, match=r"reads the folder of a data set|use pandas or"):
        frames.events(kept, engine=engine)


def test_a_frame_that_was_left_out_is_told(kept, tmp_path):
    export(kept, tmp_path, only=["interceptions", "token_usage"])

    with pytest.raises(ConfigurationError, match=r"there are no events in .*: export them, too"):
        frames.events(tmp_path)
