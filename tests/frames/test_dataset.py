import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from pyarrow.parquet import ParquetFile

from llmbridge import frames
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.columns import FRAMES
from llmbridge.frames.dataset import export
from llmbridge.stores.sql import SqlStore
from tests.samples import NOON, asked, ended, keep, record

FIXTURES = (
    ("anthropic.messages", "thinking_tool_call.sse"),
    ("openai.chat", "text.sse"),
    ("anthropic.messages", "text.sse"),
)
RECORDS = [
    record(*fixture, id=str(number), started_at=NOON + timedelta(days=number // 2))
    for number, fixture in enumerate(FIXTURES)
]


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    store = SqlStore(url)
    for each in RECORDS:
        store.add(each)
    store.close()
    return url


def days_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", FRAMES)
def test_pandas_reads_what_the_frame_of_the_store_says(url, tmp_path, name):
    rows = export(url, tmp_path / "to")

    written = pd.read_parquet(tmp_path / "to" / name)
    frame = getattr(frames, name)(url)
    assert_frame_equal(written.drop(columns="day"), frame)
    assert rows[name] == len(frame)


def test_each_frame_has_a_folder_for_each_day_its_calls_began(url, tmp_path):
    export(url, tmp_path / "to")

    assert days_of(tmp_path / "to") == sorted(FRAMES)
    assert days_of(tmp_path / "to" / "events") == ["day=2026-11-20", "day=2026-11-21"]
    assert days_of(tmp_path / "to" / "tool_calls") == ["day=2026-11-20"]


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_without_rows_keeps_its_columns(tmp_path, name):
    export([], tmp_path)

    written = pd.read_parquet(tmp_path / name)
    assert_frame_equal(written.drop(columns="day"), getattr(frames, name)([]))


def test_what_has_no_start_has_a_place_too(tmp_path):
    export([record(*FIXTURES[0], started_at=None)], tmp_path)

    assert pd.read_parquet(tmp_path / "interceptions")["day"].tolist() == ["unknown"]


def test_days_of_any_year_are_in_the_order_of_their_names(tmp_path):
    early = record(*FIXTURES[0], started_at=NOON.replace(year=900))

    export([early], tmp_path)

    assert days_of(tmp_path / "interceptions") == ["day=0900-11-20"]
    assert frames.interceptions(tmp_path, since=NOON).empty


def test_what_comes_while_it_writes_is_left_for_the_next_time(tmp_path):
    class Growing:
        read = 0

        def __iter__(self):
            self.read += 1
            return iter(RECORDS[: self.read])

    rows = export(Growing(), tmp_path)

    assert (rows["interceptions"], rows["token_usage"]) == (1, 1)
    assert pd.read_parquet(tmp_path / "events")["interception_id"].unique().tolist() == ["0"]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine").touch()

    with pytest.raises(ConfigurationError, match=r"is not empty.*force=True"):
        export(RECORDS, tmp_path)

    assert days_of(tmp_path) == ["mine"]


def test_by_force_the_same_days_are_replaced_and_others_stay(tmp_path):
    export(RECORDS, tmp_path)

    export(RECORDS[:1], tmp_path, force=True)

    assert pd.read_parquet(tmp_path / "interceptions").index.tolist() == ["0", "2"]


def test_by_force_a_source_without_rows_replaces_nothing(tmp_path):
    export([record(*FIXTURES[0], started_at=None)], tmp_path)

    export([], tmp_path, force=True)

    assert len(pd.read_parquet(tmp_path / "tool_calls")) == 1


def test_a_folder_is_for_its_owner_alone(tmp_path):
    export([], tmp_path / "a")

    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_a_file_in_its_place_is_told(tmp_path):
    (tmp_path / "a").touch()

    with pytest.raises(ConfigurationError, match=r"a' cannot be written: File exists"):
        export([], tmp_path / "a")


def test_without_a_store_nothing_is_written(tmp_path):
    with pytest.raises(ConfigurationError, match="there is no store"):
        export(f"sqlite:///{tmp_path / 'no.db'}", tmp_path / "to")

    assert days_of(tmp_path) == []


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("force", [True, False])
def test_what_is_interrupted_changes_nothing(tmp_path, force):
    if force:
        export(RECORDS[:1], tmp_path / "to")
    before = files_of(tmp_path / "to")

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(RECORDS, tmp_path / "to", force=force, progress=interrupt)

    assert files_of(tmp_path / "to") == before
    assert len(export(RECORDS, tmp_path / "to", force=force)) == len(FRAMES)


@pytest.mark.skipif(
    sys.platform == "win32",
    reason="Windows cannot be asked whether a process lives: run it on Linux or macOS",
)
def test_what_a_killed_export_left_is_taken_away(tmp_path):
    pid = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (tmp_path / f".llmbridge-export-{pid}-x").mkdir()
    (tmp_path / f".llmbridge-export-{os.getpid()}-x").mkdir()

    export(RECORDS, tmp_path)

    assert days_of(tmp_path)[:2] == [f".llmbridge-export-{os.getpid()}-x", "events"]


def test_a_day_that_is_replaced_keeps_nothing_of_what_it_had(tmp_path):
    export(RECORDS, tmp_path)

    export([record(*FIXTURES[1], id="text only")], tmp_path, force=True)

    assert days_of(tmp_path / "tool_calls") == ["day=unknown"]
    assert frames.interceptions(tmp_path).index.tolist() == ["text only", "2"]


@pytest.mark.parametrize("source", ["database", "records"])
def test_since_is_from_the_day_on_that_it_is_in(url, tmp_path, source):
    rows = export(
        url if source == "database" else RECORDS, tmp_path / "to", since="2026-11-21T18:00"
    )

    assert rows["interceptions"] == 1
    assert days_of(tmp_path / "to" / "interceptions") == ["day=2026-11-21"]


def test_some_frames_may_be_left_out(url, tmp_path):
    rows = export(url, tmp_path / "to", only=["interceptions", "token_usage"])

    assert rows == {"interceptions": 3, "token_usage": 3}
    assert days_of(tmp_path / "to") == ["interceptions", "token_usage"]


def test_a_frame_that_is_none_is_told_with_those_there_are(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no frame 'calls': use some of interceptions"):
        export([], tmp_path, only=["calls"])
    with pytest.raises(ConfigurationError, match=r"only=\[\]: name some of interceptions"):
        export([], tmp_path, only=[])


def test_an_export_is_not_exported_again(tmp_path):
    export(RECORDS, tmp_path / "a")

    with pytest.raises(ConfigurationError, match=r"a' is an export already: copy the folder"):
        export(tmp_path / "a", tmp_path / "b")


async def test_calls_under_way_are_exported_as_they_are_now(tmp_path):
    store = SqlStore(f"sqlite:///{tmp_path / 'usage.db'}")
    await keep(store, ended(asked("a")), RECORDS[0])
    await keep(store, asked("b", 1), RECORDS[1], over=False)
    await keep(store, ended(asked("c", 2)), RECORDS[2])

    export(store, tmp_path / "to")

    for name in FRAMES:
        written, frame = (getattr(frames, name)(each) for each in (tmp_path / "to", store))
        by = ["interception_id", *(["index"] if name == "events" else [])]
        in_order = [
            each.reset_index(drop=name != "interceptions").sort_values(by, ignore_index=True)
            for each in (written, frame)
        ]
        assert_frame_equal(*in_order)
    store.close()


def test_many_rows_are_written_in_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("llmbridge.frames.dataset._GROUP_ROWS", 2)
    records = [record(*FIXTURES[0], id=str(number)) for number in range(1200)]

    rows = export(records, tmp_path, only=["interceptions"])

    file = ParquetFile(tmp_path / "interceptions" / "day=2026-11-20" / "part-0.parquet")
    assert (rows["interceptions"], file.num_row_groups) == (1200, 3)
