"""Who has a file open: the first to come alone may tidy up after those who died."""

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class Users:
    """A lock on `FILE.lock`, shared by all who use the file; the system lets go of it when a process dies."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}.lock")
        self._handle: int | None = None

    def enter(self) -> bool:
        """Become a user; True when there was no other. Twice is fine."""
        if self._handle is not None:
            return False
        handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        self._handle = handle
        if sys.platform == "win32":
            return True
        alone = _locked(handle)
        fcntl.flock(handle, fcntl.LOCK_SH)
        return alone

    def leave(self) -> None:
        """Be no user any more. Twice is fine."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


if sys.platform != "win32":

    def _locked(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
