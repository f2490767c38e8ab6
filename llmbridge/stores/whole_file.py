"""Files that are read whole and replaced whole, so that nobody ever sees half of one."""

import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from llmbridge.errors import CassetteError

Mark = tuple[int, int, int]
"""Tells one state of a file from another."""

_PATIENCE_S = 10.0
_TEMPORARY = ".llmbridge.tmp"
_LEFT_AFTER_S = 600.0
"""A write takes seconds; a file that is older than this is of a process that was killed, here or on another machine."""
_NAME_BYTES = 60
"""So much of a name goes into that of the temporary file: a name may be as long as the system allows."""


def mark_of(path: Path) -> Mark | None:
    """The state of the file; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def read_whole(path: Path, limit_bytes: int) -> bytes:
    """The bytes of a file, at most one more than the limit.

    Raises:
        CassetteError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(limit_bytes + 1)
    except OSError as error:
        raise CassetteError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def check_writable(path: Path) -> None:
    """Try whether a file can be put there, in the folder that is there now; what killed processes left is removed.

    Raises:
        CassetteError: it cannot.
    """
    folder = path
    try:
        path = path.resolve()
        folder = next(parent for parent in path.parents if parent.exists())
        # To ask for permission is not enough: a file system may be read-only, and root may do all.
        handle, temporary = _temporary(folder, path.name)
        now = os.fstat(handle).st_mtime
        os.close(handle)
        os.unlink(temporary)
    except OSError as error:
        raise CassetteError(
            f"{str(path)!r} cannot be written: {str(folder)!r} takes no file ({error.strerror}):"
            " give another path, or make the folder writable"
        ) from error
    _remove_leftovers(folder, now - _LEFT_AFTER_S)


def _temporary(folder: Path, name: str) -> tuple[int, str]:
    return tempfile.mkstemp(dir=folder, prefix=f".{name[:_NAME_BYTES]}.", suffix=_TEMPORARY)


def _remove_leftovers(folder: Path, old: float) -> None:
    """Remove what no process can be writing any more, by the clock of the file system."""
    for file in folder.glob(f".*{_TEMPORARY}"):
        with suppress(OSError):
            if file.stat().st_mtime < old:
                file.unlink()


def replace_whole(path: Path, data: bytes, seen: Mark | None) -> Mark | None:
    """Put the bytes there, readable by the owner alone, and tell the new state.

    None, and nothing put there, when the file is there in another state than the one `seen`.

    Raises:
        CassetteError: it cannot be written.
    """
    try:
        # A link is written through, not replaced.
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = _temporary(path.parent, path.name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with _locked(path.parent):
                if mark_of(path) not in (None, seen):
                    return None
                os.replace(temporary, path)
                return mark_of(path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
    except OSError as error:
        raise CassetteError(f"{str(path)!r} cannot be written: {error.strerror}") from error


if sys.platform == "win32":

    @contextmanager
    def _locked(folder: Path) -> Generator[None]:
        """Alone among those who replace files in this folder: the lock file goes when its handle does, also in a crash."""
        handle = _alone(folder / ".llmbridge.lock", monotonic() + _PATIENCE_S)
        try:
            yield
        finally:
            os.close(handle)

    def _alone(path: Path, until: float) -> int:
        while True:
            try:
                return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_TEMPORARY)
            except (FileExistsError, PermissionError):
                if monotonic() > until:
                    raise
                sleep(0.001)

else:
    import fcntl

    @contextmanager
    def _locked(folder: Path) -> Generator[None]:
        """Alone among those who replace files in this folder; afterwards the new name is on disk."""
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
            os.fsync(handle)
        finally:
            os.close(handle)
