"""What a recording run leaves that was killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmbridge.pytest_plugin.recording import Recording

pytestmark = pytest.mark.skipif(
    sys.platform == "win32",
    reason="Windows cannot be asked whether a process lives: run it on POSIX",
)


def dead_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_the_draft_of_a_killed_run_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / f".test[a].{dead_process()}.yaml").write_text("paid for")

    Recording(tmp_path / "test[a].yaml", afresh=False)

    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"test[a].yaml.failed": "paid for"}


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
