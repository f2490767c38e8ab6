import json

import pytest

from llmbridge import Cassette
from llmbridge.cli.counting import count, run_stats, stats_of
from llmbridge.cli.demonstration import SESSIONS
from llmbridge.cli.summary import quantile
from tests.cli import planted


def test_a_file_is_counted():
    stats = stats_of(count(SESSIONS / "anthropic.yaml"))

    assert stats["interactions"] == stats["streams"] == 2
    assert stats["dialects"] == {"anthropic.messages": 2}
    assert stats["models"] == {"claude-sonnet-5": 2}
    assert stats["tokens"] == 2856
    assert stats["ttft_s"] == {"p50": 0.64, "p95": 0.64}
    assert stats["duplicates"] == 0


def test_requests_that_are_the_same_to_a_replay_are_duplicates(tmp_path):
    Cassette(tmp_path / "a.yaml", [planted.recording()] * 3).save()

    assert stats_of(count(tmp_path / "a.yaml"))["duplicates"] == 2


def test_what_is_not_known_is_not_zero(tmp_path):
    stats = stats_of(count(planted.vcrpys(tmp_path / "a.yaml")))

    assert (stats["cost_usd"], stats["ttft_s"]) == (None, {"p50": None, "p95": None})


def test_json_has_files_and_their_sum(capsys):
    code = run_stats([str(SESSIONS)], as_json=True)

    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert sum(each["interactions"] for each in told["files"]) == told["total"]["interactions"] == 5
    assert told["largest"][0]["file"].endswith("openai_responses.yaml")
    assert told["errors"] == []


def test_a_table_for_a_pipe(capsys):
    run_stats([str(SESSIONS)], as_json=False)

    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["file", "interactions", "streams", "models"]
    assert rows[3].split()[:4] == ["3", "files", "5", "5"]


@pytest.mark.parametrize(("share", "value"), [(0.5, 3.0), (0.95, 5.0), (0.0, 1.0)])
def test_quantiles(share, value):
    assert quantile([5.0, 1.0, 3.0, 2.0, 4.0], share) == value
