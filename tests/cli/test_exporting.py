import json

import pandas as pd

from llmbridge.cli.demonstration import SESSIONS
from llmbridge.cli.exporting import run_export
from tests.test_cli import in_terminal, run


def test_the_rows_of_each_frame_are_told(tmp_path, capsys):
    code = run_export(str(SESSIONS), str(tmp_path), False, as_json=False)

    head, *lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert (code, head) == (0, ["frame", "rows"])
    assert {name: int(rows) for name, rows in lines} == {
        folder.name: len(pd.read_parquet(folder)) for folder in tmp_path.iterdir()
    }


def test_json_says_where_and_how_many(tmp_path, capsys):
    run_export(str(SESSIONS), str(tmp_path / "a"), False, as_json=True)

    told = json.loads(capsys.readouterr().out)
    assert (told["to"], told["rows"]["interceptions"]) == (str(tmp_path / "a"), 5)


def test_a_full_folder_is_one_sentence_in_the_words_of_the_command():
    done = run("export", "--store", str(SESSIONS), "--to", str(SESSIONS))

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"llmbridge: {str(SESSIONS)!r} is not empty: name another folder, or --force to replace its days\n"
    )


def test_some_days_and_some_frames_are_enough(tmp_path):
    done = run(
        *("export", "--store", str(SESSIONS), "--to", str(tmp_path / "a"), "--json"),
        *("--since", "2999-01-01", "--only", "prompts, thoughts"),
    )

    assert json.loads(done.stdout)["rows"] == {"prompts": 0, "thoughts": 0}


def test_on_a_terminal_a_bar_shows_how_far_it_is(tmp_path):
    code, screen = in_terminal("export", "--store", str(SESSIONS), "--to", str(tmp_path / "a"))

    assert code == 0
    assert "exporting" in screen


def test_in_a_pipe_there_is_no_bar(tmp_path):
    done = run("export", "--store", str(SESSIONS), "--to", str(tmp_path / "a"))

    assert (done.returncode, done.stderr) == (0, "")
