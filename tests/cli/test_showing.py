import json
from dataclasses import replace

import pytest

from llmbridge import Cassette
from llmbridge.cli.demonstration import SESSIONS
from llmbridge.cli.showing import run_show, show
from llmbridge.errors import CassetteError
from tests.cli import planted

ANTHROPIC = SESSIONS / "anthropic.yaml"


def test_each_interaction_is_told_in_short():
    first, second = show(ANTHROPIC)

    assert first["interaction"] == 0
    assert first["model"] == "claude-sonnet-5"
    assert first["prompt"].startswith("I am about to sail")
    assert [block["type"] for block in first["content"]] == ["thinking", "text", "tool_call"]
    assert first["content"][2]["arguments"] == {"city": "Lisbon", "unit": "celsius"}
    assert (first["status"], first["end"], first["stop_reason"]) == (200, "completed", "tool_use")
    assert (first["output_tokens"], first["ttft_s"], first["chunks"]) == (127, 0.64, 37)
    assert first["cost_usd"] > 0
    assert second["prompt"] == "tool returned: 19 C, wind NW 9 km/h, no rain"
    assert "request" not in second


def test_one_interaction_is_told_whole():
    (told,) = show(ANTHROPIC, 1)

    assert told["request"]["body"]["model"] == "claude-sonnet-5"
    assert ["content-type", "application/json"] in told["request"]["headers"]
    assert told["response"]["body"] is None
    events = told["response"]["events"]
    assert (events[0]["event"], events[0]["time_s"]) == ("message_start", 0.41)
    assert len(events) == told["events"]


@pytest.mark.parametrize("number", [2, -1])
def test_an_interaction_that_is_not_there_is_an_error(number):
    with pytest.raises(CassetteError, match="it has 2, numbered from 0"):
        show(ANTHROPIC, number)


def test_lines_for_a_pipe(capsys):
    code = run_show([str(ANTHROPIC)], None, as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0] == str(ANTHROPIC)
    assert lines[1] == ("#0 POST https://api.anthropic.com/v1/messages anthropic / claude-sonnet-5")
    assert '  tool get_weather: {"city": "Lisbon", "unit": "celsius"}' in lines
    assert lines[6].startswith("  200 completed, tool_use, 1,231+127 tokens, $")
    assert lines[6].endswith("first byte 0.640 s, last 1.699 s, 37 chunks, 40 events, 5,918 bytes")


def test_lines_of_a_whole_interaction(capsys):
    run_show([str(ANTHROPIC)], 0, as_json=False)

    out = capsys.readouterr().out
    assert '    "max_tokens": 2048,\n' in out
    assert "    0.640 s  message_start  {" in out
    assert '  get_weather {\n    "city": "Lisbon",\n' in out


def test_what_a_cassette_says_is_neither_markup_nor_control(tmp_path, capsys):
    record = planted.recording()
    hostile = planted.said("[red]x[/red] \x1b[2J \u202e :smile:")
    start = record.chunks[0][1].partition(b"\n\n")[0] + b"\n\n"
    Cassette(tmp_path / "a.yaml", [replace(record, chunks=((0.1, start + hostile),))]).save()

    run_show([str(tmp_path)], None, as_json=False)

    assert "  text: [red]x[/red] \ufffd[2J \ufffd :smile:\n" in capsys.readouterr().out


def test_an_answer_nobody_decodes_is_shown_by_its_figures(tmp_path, capsys):
    planted.clean(tmp_path / "a.yaml")

    code = run_show([str(tmp_path)], None, as_json=False)

    assert code == 0
    assert "1 chunks, 0 events, 2 bytes" in capsys.readouterr().out


def test_a_file_that_cannot_be_read_does_not_hide_the_others(tmp_path, capsys):
    planted.clean(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("- 1", "utf-8")

    code = run_show([str(tmp_path)], None, as_json=True)

    told = json.loads(capsys.readouterr().out)
    assert code == 2
    assert [len(each["interactions"]) for each in told["files"]] == [1]
    assert [each["file"] for each in told["errors"]] == [str(tmp_path / "b.yaml")]
