"""`llmbridge cassette` as a user runs it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from llmbridge.cli.demonstration import SESSIONS
from tests.cli import planted
from tests.cli.planted import SECRETS, VARIABLE
from tests.test_cli import in_terminal

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("lint", "scrub", "show", "convert", "diff", "stats")


def run(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llmbridge", "cassette", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **VARIABLE, "PYTHONPATH": str(ROOT)},
        cwd=cwd,
        timeout=30,
        check=False,
    )


def test_lint_finds_scrub_mends_and_lint_is_content(tmp_path):
    planted.vcrpys(tmp_path / "cassettes" / "a.yaml")
    planted.clean(tmp_path / "cassettes" / "b.json")

    found = run("lint", "cassettes", cwd=tmp_path)
    mended = run("scrub", "cassettes/*", cwd=tmp_path)
    again = run("scrub", "cassettes", cwd=tmp_path)
    content = run("lint", "cassettes", cwd=tmp_path)

    codes = [done.returncode for done in (found, mended, again, content)]
    assert codes == [1, 0, 0, 0]
    assert len(re.findall(r"^cassettes/a\.yaml: interactions\[0\] ", found.stdout, re.M)) == len(
        SECRETS
    )
    assert found.stdout == mended.stdout.replace(
        f"{len(SECRETS)} secrets replaced in 2 files",
        f"{len(SECRETS)} secrets in 2 files: take them out with llmbridge cassette scrub",
    )
    assert again.stdout == "0 secrets replaced in 2 files\n"
    assert content.stdout == "no secrets in 2 files\n"


def test_lint_vouches_for_no_file_that_it_could_not_read(tmp_path):
    planted.clean(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("[", "utf-8")

    done = run("lint", tmp_path)

    assert (done.returncode, done.stdout) == (2, "no secrets in 1 files\n")


@pytest.mark.parametrize("command", ["lint", "scrub", "show", "convert", "stats"])
def test_bad_input_is_exit_code_2_and_a_sentence(command, tmp_path):
    (tmp_path / "a.yaml").write_text("[", "utf-8")

    missing = run(command, tmp_path / "b.yaml")
    torn = run(command, tmp_path / "a.yaml", "--json")

    assert (missing.returncode, torn.returncode) == (2, 2)
    assert re.fullmatch(r"llmbridge: there is no cassette at .*b\.yaml.*\n", missing.stderr)
    assert [each["file"] for each in json.loads(torn.stdout)["errors"]] == [
        str(tmp_path / "a.yaml")
    ]


def test_a_terminal_gets_colours_and_a_pipe_none(tmp_path):
    planted.ours(tmp_path / "a.yaml")

    code, screen = in_terminal("cassette", "lint", str(tmp_path))
    piped = run("lint", tmp_path)

    assert (code, piped.returncode) == (1, 1)
    assert "\x1b[1;31m" in screen
    assert "\x1b" not in piped.stdout


@pytest.mark.parametrize("command", ["show", "stats"])
def test_a_terminal_of_80_columns_is_enough(command):
    code, screen = in_terminal("cassette", command, str(SESSIONS))

    assert code == 0
    assert "\x1b[1" in screen


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_options_and_gives_examples(command):
    done = run(command, "--help")

    assert done.returncode == 0
    assert len(re.findall(rf"^    llmbridge cassette {command} ", done.stdout, re.MULTILINE)) > 1
    assert re.search(r"^  --json +\w", done.stdout, re.MULTILINE)


def test_the_hook_for_pre_commit_runs_a_command_that_is_there(tmp_path):
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    planted.vcrpys(tmp_path / "cassettes" / "a.yaml")
    program, *words = hook["entry"].split()

    done = run(*words[1:], tmp_path / "cassettes" / "a.yaml")

    assert (program, words[0]) == ("llmbridge", "cassette")
    assert re.search(hook["files"], "tests/cassettes/test_x/test_y.yaml")
    assert done.returncode == 1
