"""A cassette under way: written beside its place, put there when the test has passed, set aside when it has not."""

import os
import shutil
from pathlib import Path


class Recording:
    """The file that a recording test writes: a copy of what is there, or none yet where all is `afresh`."""

    def __init__(self, path: Path, *, afresh: bool) -> None:
        self.path = path
        self.draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        self.failed = path.with_name(f"{path.name}.failed")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.draft.unlink(missing_ok=True)
        if path.exists() and not afresh:
            shutil.copyfile(path, self.draft)
        self._before = self._bytes()

    def settle(self, passed: bool) -> Path | None:
        """Where the recording is now; None where nothing was recorded."""
        if self._bytes() == self._before:
            self.draft.unlink(missing_ok=True)
            return None
        place = self.path if passed else self.failed
        os.replace(self.draft, place)
        if passed:
            self.failed.unlink(missing_ok=True)
        return place

    def _bytes(self) -> bytes | None:
        return self.draft.read_bytes() if self.draft.exists() else None
