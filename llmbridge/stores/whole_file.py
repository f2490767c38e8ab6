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
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name[:_NAME_BYTES]}.", suffix=".tmp"
        )
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
