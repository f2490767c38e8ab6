import os
from pathlib import Path
from typing import Any

import pytest

from llmbridge.stores.users import User


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "us[a]ge.db"


def test_a_user_is_here_from_its_coming_to_its_leaving(path):
    user, other = User(path, 7), User(path, 8)
    seen = [other.is_here(7)]

    user.enter()
    user.enter()
    seen.append(other.is_here(7))
    user.leave()
    user.leave()
    seen.append(other.is_here(7))

    assert seen == [False, True, False]
    assert list(path.parent.iterdir()) == []


def test_a_user_sees_itself(path):
    user = User(path, 7)
    user.enter()

    assert user.is_here(7)
    user.leave()


def test_what_the_dead_left_is_tidied_up_and_nothing_else(path):
    user = User(path, 7)
    user.enter()
    for name in ("us[a]ge.db.00ff.lock", f"{path.name}.{9:016x}.lock", "usage.db.1.lock"):
        (path.parent / name).touch()
    others = ["us[a]ge.db", "us[a]ge.db-wal", "us[a]ge.db.mine.lock"]
    for name in others:
        (path.parent / name).touch()

    user.tidy()

    left = {file.name for file in path.parent.iterdir()}
    assert left == {
        *others,
        "usage.db.1.lock",
        "us[a]ge.db.00ff.lock",
        f"us[a]ge.db.{7:016x}.lock",
    }
    user.leave()


@pytest.mark.skipif(
    os.name != "posix", reason="needs open files that can be removed: run it on Linux or macOS"
)
def test_a_lock_that_somebody_removed_in_between_is_taken_again(path, monkeypatch):
    user, other = User(path, 7), User(path, 8)
    opened = os.open

    def open_slowly(*args: Any) -> int:
        handle = opened(*args)
        monkeypatch.setattr(os, "open", opened)
        other.is_here(7)
        return handle

    monkeypatch.setattr(os, "open", open_slowly)

    user.enter()

    assert other.is_here(7)
    user.leave()


@pytest.mark.skipif(
    os.name != "posix", reason="needs the file locks of POSIX: run it on Linux or macOS"
)
def test_a_lock_that_cannot_be_had_is_told(path):
    import fcntl

    place = path.parent / f"{path.name}.{7:016x}.lock"
    with place.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        with pytest.raises(OSError, match="No locks available"):
            User(path, 7).enter()
