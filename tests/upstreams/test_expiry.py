from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from llmbridge.bridge import Bridge
from llmbridge.errors import CassetteError, ConfigurationError
from llmbridge.exchange.call import Headers
from llmbridge.exchange.record import Record
from llmbridge.stores.cassette import Cassette
from llmbridge.upstreams.expiry import RecordingsExpired
from llmbridge.upstreams.replay import Replay
from llmbridge.upstreams.script import Script

MAY = datetime(2026, 5, 1, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)


def record(started_at: datetime | None) -> Record:
    return Record("i", "openai", "openai.chat", None, 200, Headers(), (), started_at)


def replay(*dates: datetime | None, **options: Any) -> Replay:
    return Replay([record(date) for date in dates], clock=lambda: JUNE, **options)


def test_old_recordings_bring_a_warning() -> None:
    with pytest.warns(RecordingsExpired, match=r"1 of the recordings .* the oldest of 2026-05-01"):
        replay(MAY, JUNE, max_age=timedelta(days=30))


def make(path: Path) -> None:
    Replay(path, max_age=timedelta(days=1))


def load(path: Path) -> None:
    Replay([], max_age=timedelta(days=1)).load(path)


def stand_in(path: Path) -> None:
    with (
        Bridge(Script(), environ={}) as bridge,
        bridge.cassette(path, max_age=timedelta(days=1)),
    ):
        pass


@pytest.mark.parametrize("use", [make, load, stand_in])
def test_the_warning_points_to_the_line_that_asked(use: FunctionType, tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    Cassette(path, [record(MAY)]).save()

    with pytest.warns(RecordingsExpired) as caught:
        use(path)

    lines = {line for *_, line in use.__code__.co_lines()}
    assert [(each.filename, each.lineno in lines) for each in caught] == [(__file__, True)]


def test_old_recordings_are_an_error_when_asked() -> None:
    with pytest.raises(CassetteError, match="record them anew with mode='rewrite'"):
        replay(MAY, max_age=timedelta(days=30), on_expired="fail")


def test_old_recordings_are_told_with_their_cassette(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    Cassette(path, [record(MAY)]).save()

    with pytest.raises(CassetteError, match=r"the oldest of 2026-05-01, in .*old\.yaml: record"):
        Replay(path, max_age=timedelta(days=1), on_expired="fail", clock=lambda: JUNE)


def test_a_closed_bridge_takes_no_cassette(tmp_path: Path) -> None:
    bridge = Bridge(environ={})
    bridge.close()

    with (
        pytest.raises(ConfigurationError, match="the bridge is closed: make a new one"),
        bridge.cassette(tmp_path / "cell.yaml"),
    ):
        pass


def test_a_cassette_that_is_loaded_later_is_looked_at_too() -> None:
    subject = replay(JUNE, max_age=timedelta(days=30), on_expired="fail")

    with pytest.raises(CassetteError, match="older than max_age=30 days"):
        subject.load([record(MAY)])


@pytest.mark.parametrize("date", [MAY, MAY.replace(tzinfo=None), None], ids=["utc", "bare", "none"])
def test_recordings_young_enough_or_without_a_date_are_fine(date: datetime | None) -> None:
    assert len(list(replay(date, max_age=timedelta(days=31), on_expired="fail").store)) == 1


def test_an_age_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"max_age='30d': give a timedelta"):
        replay(JUNE, max_age="30d")


def test_an_unknown_consequence_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="on_expired='ask': give one of warn, fail"):
        replay(JUNE, on_expired="ask")
