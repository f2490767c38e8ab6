import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmbridge import frames
from llmbridge.errors import CassetteError, ConfigurationError
from llmbridge.exchange.columns import FRAMES
from llmbridge.exchange.record import Interception
from llmbridge.frames import Frames
from llmbridge.frames.dataset import export
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.memory import MemoryStore
from llmbridge.stores.opening import open_store
from tests.samples import NOON, Shelf, asked, record, request

TEXT = ("anthropic.messages", "text.sse")


def ids(source, **filters):
    return list(frames.interceptions(source, **filters).index)


def test_a_store_is_flushed_before_it_is_read():
    shelf = Shelf()

    frames.interceptions(shelf)

    assert shelf.flushed == 1


def test_records_without_an_interception_come_after_the_interceptions():
    told = Interception("i2", NOON, request({}))

    assert ids(Shelf([told], [record(*TEXT), record(*TEXT, id="i2")])) == ["i2", "i1"]


@pytest.mark.parametrize("name", FRAMES)
def test_frames_of_a_source_are_those_of_the_module(name):
    source = [record("anthropic.messages", "thinking_tool_call.sse")]

    bound = getattr(Frames(source), name)(provider="anthropic")

    assert bound.equals(getattr(frames, name)(source))


def test_time_bounds_take_what_starts_from_since_until_just_before_until():
    records = [record(*TEXT, id=str(h), started_at=NOON + timedelta(hours=h)) for h in range(4)]

    assert ids(records, since="2026-11-20T13:00", until=NOON + timedelta(hours=3)) == ["1", "2"]


def test_time_bounds_have_zones():
    records = [record(*TEXT)]
    east = timezone(timedelta(hours=2))

    assert ids(records, since=datetime(2026, 11, 20, 14, tzinfo=east)) == ["i1"]
    assert ids(records, until="2026-11-20T14:00+02:00") == []


def test_what_has_no_start_is_in_no_bounds():
    records = [record(*TEXT, started_at=None)]

    assert ids(records) == ["i1"]
    assert ids(records, since=datetime.min.replace(tzinfo=UTC)) == []


@pytest.mark.parametrize(
    "filters",
    [
        {"interception_id": "i1"},
        {"session_id": "s1"},
        {"actor": "alice"},
        {"client": "Claude Code"},
        {"frontend": "asgi"},
        {"provider": "anthropic"},
        {"dialect": "anthropic.messages"},
        {"model": "claude-latest"},
        {"model": "claude-sonnet-5"},
        {"status": 200},
        {"end": "completed"},
        {"streaming": True},
        {"replayed": False},
        {"provider": "anthropic", "actor": "alice"},
    ],
    ids=str,
)
def test_a_filter_keeps_what_has_its_value(filters):
    who: Any = {"actor": "alice", "client": "Claude Code", "session_id": "s1"}
    told = asked("i1", **who, provider=None, dialect=None)
    other = Interception("i2", NOON, request({}), model="other", replayed=True)
    shelf = Shelf(
        [told, other],
        [record(*TEXT), record("openai.chat", "error_400.json", id="i2")],
    )

    assert ids(shelf, **filters) == ["i1"]


def test_a_filter_chooses_whole_interceptions():
    rounds = [record(*TEXT), record("openai.chat", "text.sse", round=1)]

    assert len(frames.token_usage(rounds, provider="openai")) == 2


def test_an_unknown_filter_is_refused_with_the_known_ones():
    with pytest.raises(
        ConfigurationError, match=r"no filter 'modle': use one of since, until, .*model"
    ):
        frames.events([], modle="x")  # type: ignore[call-arg]  # what a user mistypes


@pytest.mark.parametrize("value", ["yesterday", 5, None, pd.NaT, "0001-01-01T00:00+05:00"])
def test_a_bound_that_is_no_time_is_refused(value):
    with pytest.raises(ConfigurationError, match=re.escape(f"since={value!r} is no time")):
        frames.events([], since=value)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("actor", ["alice", "bob"], "give text; for several, read the frame and choose with"),
        ("actor", 1, "give text"),
        ("model", None, "give text"),
        ("status", "429", "give a number"),
        ("streaming", "yes", "give True or False"),
    ],
)
@pytest.mark.parametrize("kind", ["memory", "database", "data set"])
def test_a_value_that_a_filter_cannot_have_is_refused(name, value, wanted, kind, tmp_path):
    source: Any = MemoryStore()
    if kind == "database":
        source = f"sqlite:///{tmp_path / 'usage.db'}"
        open_store(source).close()
    elif kind == "data set":
        source = tmp_path / "set"
        export([], source)

    with pytest.raises(ConfigurationError, match=re.escape(f"{name}={value!r}: {wanted}")):
        frames.interceptions(source, **{name: value})


def test_a_date_bounds_as_its_midnight():
    shelf = Shelf([Interception("i1", NOON, request({}))], [])

    assert ids(shelf, since=NOON.date()) == ["i1"]
    assert ids(shelf, until=NOON.date()) == []


def test_a_cell_of_a_frame_is_a_value():
    row = {"status": np.int64(200), "replayed": np.bool_(False)}

    assert ids([record(*TEXT)], **row) == ["i1"]


def test_one_name_is_taken_for_a_list_of_one():
    kept = [record(*TEXT)]

    assert list(frames.interceptions(kept, columns="model").columns) == ["model"]
    assert frames.usage_by(kept, "provider").columns[0] == "provider"


def test_a_glob_without_a_file_is_refused(tmp_path):
    with pytest.raises(CassetteError, match="no file matches"):
        frames.events(tmp_path / "*.yaml")


@pytest.fixture
def folder(tmp_path):
    for name in ("a/session.yaml", "b/session.json"):
        path = tmp_path / name
        path.parent.mkdir()
        Cassette(path, [record(*TEXT), record("openai.chat", "text.sse")]).save()
    return tmp_path


EVERY = ["a/session.yaml#0", "a/session.yaml#1", "b/session.json#0", "b/session.json#1"]


def test_a_cassette_is_read_from_its_path(folder):
    assert ids(folder / "a" / "session.yaml") == ["session.yaml#0", "session.yaml#1"]


@pytest.mark.parametrize("glob", ["*/session.*", "**/session.*", "*"])
def test_a_glob_gives_what_the_whole_folder_gives(folder, glob):
    assert ids(str(folder / glob)) == ids(folder) == EVERY


def test_filters_hold_for_cassettes(folder):
    assert ids(folder, provider="openai") == EVERY[1::2]


def test_a_cassette_at_hand_is_a_source(folder):
    cassette = Cassette.load(folder)

    assert frames.events(cassette).equals(frames.events(folder))


def test_several_paths_are_one_source(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        Cassette(tmp_path / name, [record(*TEXT)]).save()

    found = ids([tmp_path / "a.yaml", str(tmp_path / "b.yaml")])

    assert found == ["a.yaml#0", "b.yaml#0"]


@pytest.mark.parametrize("source", [7, [7], object()])
def test_what_is_no_source_is_named(source):
    with pytest.raises(ConfigurationError, match=r"is no source of frames|neither a record"):
        ids(source)


@pytest.mark.parametrize(("pattern", "found"), [("claude-*", ["i1"]), ("gpt-*", [])])
def test_a_model_may_be_a_pattern(pattern, found):
    assert ids([record(*TEXT)], model=pattern) == found


def test_an_end_that_no_call_comes_to_is_refused():
    with pytest.raises(ConfigurationError, match="no call ends as 'complete'"):
        ids([record(*TEXT)], end="complete")
