import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmbridge import frames
from llmbridge.cli.pruning import run_prune
from llmbridge.errors import ConfigurationError
from llmbridge.stores.sql import SqlStore
from tests.samples import record
from tests.test_cli import run

TEXT = ("anthropic.messages", "text.sse")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Calls of the last minute of a day, and of the first of the next."""
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    store = SqlStore(url)
    for id, at in (("18", "2026-11-18T23:59"), ("19", "2026-11-19T00:00")):
        store.add(record(*TEXT, id=id, started_at=datetime.fromisoformat(f"{at}+00:00")))
    store.close()
    return url


def noon() -> datetime:
    return datetime(2026, 11, 20, 12, tzinfo=UTC)


def kept(url: str) -> list[str]:
    return frames.interceptions(url).index.tolist()


def test_days_go_whole(url, capsys):
    code = run_prune(url, "1d", False, as_json=False, clock=noon)

    assert (code, kept(url)) == (0, ["19"])
    assert capsys.readouterr().out == "deleted 1 calls that began before 2026-11-19\n"


def test_a_dry_run_only_counts(url, capsys):
    run_prune(url, "0d", True, as_json=True, clock=noon)

    told = json.loads(capsys.readouterr().out)
    assert told == {"dry_run": True, "before": "2026-11-20T00:00:00+00:00", "calls": 2}
    assert kept(url) == ["18", "19"]


@pytest.mark.parametrize("days", ["30", "-1d", "1.5d", "d", "99999d9", "٣d"])
def test_what_is_no_number_of_days_deletes_nothing(url, days):
    with pytest.raises(ConfigurationError, match=r"give a number of days, such as 30d"):
        run_prune(url, days, False, as_json=False, clock=noon)

    assert kept(url) == ["18", "19"]


def test_more_days_than_there_were_delete_nothing(url, capsys):
    run_prune(url, "99999d", False, as_json=False, clock=noon)

    assert kept(url) == ["18", "19"]


def test_a_cassette_is_no_database():
    done = run("prune", "--store", "session.yaml", "--older-than", "30d")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "llmbridge: --store 'session.yaml': give the URL of an SQLite file, such as 'sqlite:///usage.db',"
        " or of PostgreSQL, such as 'postgresql://user@host/database'\n"
    )
