"""A cassette under way: written beside its place, put there when the test has passed, set aside when it has not."""

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from filecmp import cmp
from glob import escape
from itertools import chain, count
from pathlib import Path

from llmbridge.exchange.record import Record
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.whole_file import mark_of


class Recording:
    """The file that a recording test writes: a copy of what is there, or none yet where all is `afresh`."""

    def __init__(self, path: Path, *, afresh: bool) -> None:
        self.path = path
        self.draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        self.failed = path.with_name(f"{path.name}.failed")
        self._set_aside_the_dead()
        self._seen = mark_of(path)
        if self._seen is not None and not afresh:
            shutil.copyfile(path, self.draft)

    def _set_aside_the_dead(self) -> None:
        """What a run recorded that was killed: its answers were paid for, so nobody replaces or removes them."""
        for draft in self.path.parent.glob(f".{escape(self.path.stem)}.*{self.path.suffix}"):
            process = draft.stem.rpartition(".")[2]
            # In a container each run has the same number.
            if draft == self.draft or (process.isdecimal() and not _runs(int(process))):
                # Another worker may have come first.
                with suppress(FileNotFoundError):
                    self._set_aside(draft, process)

    def _set_aside(self, draft: Path, process: str) -> None:
        if self.path.exists() and cmp(draft, self.path, shallow=False):
            draft.unlink()  # It was copied, and nothing recorded.
            return
        ends = chain([process], (f"{process}-{number}" for number in count(2)))
        places = (self.path.with_name(f"{self.path.name}.{end}.failed") for end in ends)
        os.replace(draft, next(place for place in places if not place.exists()))

    def settle(self, passed: bool, recorded: Sequence[Record]) -> Path | None:
        """Where the recording is now; None where nothing was recorded.

        Raises:
            CassetteError: somebody else writes the same cassette, and what they wrote cannot be added to.
        """
        if not recorded:
            self.draft.unlink(missing_ok=True)
            return None
        if not passed:
            os.replace(self.draft, self.failed)
            return self.failed
        if mark_of(self.path) == self._seen:
            os.replace(self.draft, self.path)
        else:
            # A test in another worker has recorded into it meanwhile.
            self._add(recorded)
        self.failed.unlink(missing_ok=True)
        return self.path

    def _add(self, recorded: Sequence[Record]) -> None:
        cassette = Cassette.open(self.path)
        for record in recorded:
            cassette.add(record)
        cassette.close()
        self.draft.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """False when there is no process of this number; True where that cannot be told."""
    if sys.platform == "win32":
        # There is no harmless signal there: any would end the process.
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
