"""What a recording run leaves that was killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmbridge.pytest_plugin.recording import Recording
from tests.stores.recordings import STREAMED

pytestmark = pytest.mark.skipif(
    sys.platform == "win32",
    reason="Windows cannot be asked whether a process lives: run it on POSIX",
)


def dead_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def kept(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_draft_of_a_killed_run_is_set_aside(tmp_path: Path) -> None:
    process = dead_process()
    (tmp_path / f".test[a].{process}.yaml").write_text("paid for")

    Recording(tmp_path / "test[a].yaml", afresh=False)

    assert kept(tmp_path) == {f"test[a].yaml.{process}.failed": "paid for"}


@pytest.mark.parametrize("passed", [True, False])
def test_what_was_set_aside_outlives_the_runs_that_follow(tmp_path: Path, passed: bool) -> None:
    process = dead_process()
    (tmp_path / f".test.{process}.yaml").write_text("paid for")
    (tmp_path / "test.yaml.failed").write_text("failed before")
    recording = Recording(tmp_path / "test.yaml", afresh=False)
    recording.draft.write_text("new")

    recording.settle(passed, [STREAMED])

    assert kept(tmp_path) == {
        f"test.yaml.{process}.failed": "paid for",
        "test.yaml" if passed else "test.yaml.failed": "new",
    }


def test_two_killed_runs_of_one_number_are_both_kept(tmp_path: Path) -> None:
    for said in ("one", "two", "three"):
        # As in a container, where a run has the number of the one before.
        (tmp_path / f".test.{os.getpid()}.yaml").write_text(said)
        Recording(tmp_path / "test.yaml", afresh=False)

    assert kept(tmp_path) == {
        f"test.yaml.{os.getpid()}.failed": "one",
        f"test.yaml.{os.getpid()}-2.failed": "two",
        f"test.yaml.{os.getpid()}-3.failed": "three",
    }


def test_a_run_that_was_killed_before_it_recorded_leaves_nothing(tmp_path: Path) -> None:
    for name in ("test.yaml", f".test.{dead_process()}.yaml"):
        (tmp_path / name).write_text("recorded long ago")

    Recording(tmp_path / "test.yaml", afresh=True)

    assert kept(tmp_path) == {"test.yaml": "recorded long ago"}


def test_the_draft_of_a_run_under_way_is_left_alone(tmp_path: Path) -> None:
    draft = tmp_path / f".test.{os.getppid()}.yaml"
    draft.write_text("under way")

    Recording(tmp_path / "test.yaml", afresh=False)

    assert list(tmp_path.iterdir()) == [draft]


@pytest.mark.parametrize("name", [".test.yaml", ".test.notes.yaml", ".test2.1.yaml"])
def test_files_of_others_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")

    Recording(tmp_path / "test.yaml", afresh=False)

    assert [path.name for path in tmp_path.iterdir()] == [name]
