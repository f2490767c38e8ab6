"""Who has a file open: every bridge holds the lock of a small file beside it, until it leaves or its process dies."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_TRIES = 1000


class User:
    """The lock `FILE.NUMBER.lock` of the bridge of that number."""

    def __init__(self, path: Path, number: int) -> None:
        self._path = path
        self._own = _place(path, number)
        self._handle: int | None = None

    def enter(self) -> None:
        """Hold the lock. Twice is fine.

        Raises:
            OSError: there are no locks on this drive.
        """
        if self._handle is not None:
            return
        for _ in range(_TRIES):
            handle = os.open(self._own, os.O_CREAT | os.O_RDWR, 0o600)
            if _locked(handle) and _is_there(self._own, handle):
                self._handle = handle
                return
            # Who looked in between has it, or took it for a dead one's and removed the file.
            os.close(handle)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), str(self._own))

    def leave(self) -> None:
        """Let go of it. Twice is fine."""
        handle, self._handle = self._handle, None
        if handle is not None:
            _remove(self._own, handle)

    def is_here(self, number: int) -> bool:
        """True while the process of the bridge of that number holds its lock."""
        place = _place(self._path, number)
        try:
            handle = os.open(place, os.O_RDWR)
        except FileNotFoundError:
            return False
        if _locked(handle):
            _remove(place, handle)
            return False
        os.close(handle)
        return True

    def tidy(self) -> None:
        """Remove what dead ones have left."""
        for file in self._path.parent.glob(f"{_escaped(self._path.name)}.*.lock"):
            number = file.name.removeprefix(f"{self._path.name}.").removesuffix(".lock")
            with suppress(ValueError):
                self.is_here(int(number, 16))


def _place(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number:016x}.lock")


def _escaped(name: str) -> str:
    """A name as a glob that matches it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _is_there(place: Path, handle: int) -> bool:
    try:
        return os.path.samestat(place.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _remove(place: Path, handle: int) -> None:
    """Take away a file that we hold the lock of, and then the lock."""
    if sys.platform == "win32":
        os.close(handle)  # Nobody can remove an open file there.
    with suppress(OSError):
        place.unlink()
    if sys.platform != "win32":
        os.close(handle)


if sys.platform == "win32":

    def _locked(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:

    def _locked(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
