import os
import sys
from pathlib import Path

import pytest

from llmbridge.errors import CassetteError
from llmbridge.stores.whole_file import check_writable, mark_of, replace_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_place_that_takes_a_file_is_left_as_it_was(tmp_path):
    check_writable(tmp_path / "a" / "b" / "x.yaml")

    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(CassetteError) as told:
        check_writable(tmp_path / "file" / "a" / "x.yaml")

    assert told.value.message == (
        f"'{tmp_path}/file/a/x.yaml' cannot be written: '{tmp_path}/file' takes no file"
        " (Not a directory): give another path, or make the folder writable"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc: run it on Linux")
def test_a_file_system_that_takes_nothing_is_told():
    with pytest.raises(CassetteError, match="'/proc' takes no file"):
        check_writable(Path("/proc/x.yaml"))


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0,
    reason="needs a user who may not write everywhere: run it as another than root, on Linux or macOS",
)
def test_a_folder_that_is_read_only_is_told(tmp_path):
    tmp_path.chmod(0o555)

    with pytest.raises(CassetteError, match="Permission denied"):
        check_writable(tmp_path / "x.yaml")


def test_what_a_write_left_that_was_killed_is_removed_once_it_is_old(tmp_path, monkeypatch):
    path = tmp_path / "x.yaml"
    with monkeypatch.context() as killed:
        killed.setattr(os, "replace", lambda *paths: sys.exit())
        killed.setattr(os, "unlink", lambda path: None)
        for _ in range(2):
            with pytest.raises(SystemExit):
                replace_whole(path, b"{}", mark_of(path))
    old, young = (tmp_path / name for name in names(tmp_path))
    (tmp_path / ".y.yaml.tmp").touch()
    for file in (old, tmp_path / ".y.yaml.tmp"):
        os.utime(file, (1, 1))

    check_writable(path)

    assert names(tmp_path) == sorted([young.name, ".y.yaml.tmp"])
