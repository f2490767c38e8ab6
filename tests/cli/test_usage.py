import json

from llmbridge import Bridge, Script
from llmbridge.cli.demonstration import SESSIONS
from llmbridge.cli.usage import run_usage
from llmbridge.frames.dataset import export
from tests.test_cli import in_terminal, run


def test_a_table_for_a_pipe_ends_in_its_sum(capsys):
    code = run_usage(str(SESSIONS), "provider, day", {}, as_json=False)

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert lines == [
        ["provider", "day", "calls", "input", "cached", "written", "output", "cost", "$"],
        ["anthropic", "2026-11-02", "2", "299", "1,163", "1,163", "231", "0.0060"],
        ["openai", "2026-11-02", "3", "396", "1,280", "0", "365", "0.0007"],
        ["total", "5", "695", "2,443", "1,163", "596", "0.0067"],
    ]


def test_json_has_the_figures_of_a_database(tmp_path, capsys):
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    with Bridge(Script("It is noon."), store=url) as bridge:
        bridge.openai().responses.create(model="unheard-of", input="What time is it?")

    run_usage(url, "model,actor", {"since": "2020-01-01"}, as_json=True)

    told = json.loads(capsys.readouterr().out)
    (row,) = told["rows"]
    assert told == {"by": ["model", "actor"], "rows": [row], "total": told["total"]}
    assert (row["model"], row["actor"], row["calls"]) == ("unheard-of", None, 1)
    assert told["total"] == {name: row[name] for name in told["total"]}
    assert (row["cost_usd"], row["unpriced"]) == (None, 1)


def test_a_sum_that_lacks_a_price_says_so(tmp_path, capsys):
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    with Bridge(Script("It is noon."), store=url) as bridge:
        bridge.openai().responses.create(model="unheard-of", input="What time is it?")

    run_usage(url, "client", {}, as_json=False)

    *_, row, total, note = capsys.readouterr().out.splitlines()
    assert (row.split()[-1], total.split()[-1]) == ("-", "-")
    assert note == "1 of 1 calls have no known price: the cost is without them"


def test_no_calls_are_nothing_not_an_error(capsys):
    run_usage(str(SESSIONS), "model", {"since": "2999-01-01"}, as_json=True)

    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["total"]["calls"], told["total"]["cost_usd"]) == ([], 0, None)


def test_a_terminal_gets_a_table():
    code, screen = in_terminal("usage", "--store", str(SESSIONS))

    assert code == 0
    assert "\x1b[1m" in screen
    assert "claude-sonnet-5" in screen


def test_a_mistake_is_one_sentence_in_the_words_of_the_command():
    done = run("usage", "--store", str(SESSIONS), "--since", "monday")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "llmbridge: --since 'monday' is no time: give a datetime, a date, or ISO 8601 text such as"
        " '2026-11-20T08:00'\n"
    )


def test_filters_choose_the_calls_that_count():
    done = run(
        *("usage", "--store", str(SESSIONS), "--json", "--model", "gpt-*", "--provider", "openai"),
        *("--since", "2026-11-02", "--until", "2026-11-03"),
    )
    nobody = run("usage", "--store", str(SESSIONS), "--json", "--actor", "nobody")

    assert json.loads(done.stdout)["total"]["calls"] == 3
    assert json.loads(nobody.stdout)["rows"] == []


def test_a_folder_of_an_export_is_summed_up_as_what_it_was_made_of(tmp_path, capsys):
    export(SESSIONS, tmp_path)

    told: list[str] = []
    for each in (SESSIONS, tmp_path):
        run_usage(str(each), "model,day", {}, as_json=True)
        told.append(capsys.readouterr().out)

    assert json.loads(told[0]) == json.loads(told[1])


def test_no_store_is_one_sentence(tmp_path):
    done = run("usage", "--store", f"sqlite:///{tmp_path / 'no.db'}")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("llmbridge: there is no store at ")
