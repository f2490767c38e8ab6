"""The file of a cassette while it grows: always whole, and never at the expense of somebody else's."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from llmbridge.errors import CassetteError
from llmbridge.exchange.record import Record
from llmbridge.stores.cassette_path import check_suffix
from llmbridge.stores.cassette_write import Form, form_of, plain_yaml
from llmbridge.stores.safe_load import LIMIT_BYTES
from llmbridge.stores.whole_file import Mark, mark_of, replace_whole

_log = logging.getLogger(__name__)


class CassetteFile:
    """Takes all records of a cassette each time, puts the new ones into words, and replaces the file."""

    def __init__(self, path: Path, *, ascii: bool = False) -> None:
        self.path = path
        self._form = form_of(path, ascii=ascii)
        self._seen = mark_of(path)
        self._entries: list[str] = []
        self._size_bytes = 0
        self._taken = 0
        self._refused: list[Record] = []
        self._ousted = False
        self._aside = _Aside(path)
        self._said: list[str] = []

    def write(self, records: Sequence[Record]) -> None:
        """Put them there. What cannot go there goes into a file beside it, and `complain` tells.

        Such are records that the format cannot hold, and all of them where somebody else wrote the file meanwhile.

        Raises:
            CassetteError: nothing can be written now; the next time may be better.
        """
        check_suffix(self.path)
        self._say(self._take(records))
        if not self._ousted and (self._entries or not self._refused):
            self._ousted = not self._replace()
            if self._ousted:
                self._say([self._changed()])
        self._say(self._aside.write(records if self._ousted else self._refused))

    def save(self, records: Sequence[Record]) -> None:
        """Put them there, all or nothing.

        Raises:
            CassetteError: they cannot be written, or somebody else has changed the file.
        """
        check_suffix(self.path)
        if reasons := self._take(records):
            raise CassetteError("; ".join(reasons))
        if not self._replace():
            raise CassetteError(self._changed())

    def complain(self) -> None:
        """Tell what did not go into the file since this was asked last.

        Raises:
            CassetteError: there was such.
        """
        said, self._said = self._said, []
        if said:
            raise CassetteError("; ".join(said))

    def _take(self, records: Sequence[Record]) -> list[str]:
        """Put the new ones into words; why some cannot be."""
        reasons: list[str] = []
        for record in records[self._taken :]:
            try:
                self._add(self._form.entry(record))
            except CassetteError as error:
                self._refused.append(record)
                reasons.append(f"{str(self.path)!r} lacks {record!r}: {error}")
            self._taken += 1
        return reasons

    def _add(self, entry: str) -> None:
        size_bytes = len(entry.encode())
        if self._size_bytes + size_bytes > LIMIT_BYTES:
            raise CassetteError(
                f"the file would be larger than the {LIMIT_BYTES >> 20} MiB that are read back:"
                " record into more files"
            )
        self._entries.append(entry)
        self._size_bytes += size_bytes

    def _replace(self) -> bool:
        mark = replace_whole(self.path, self._form.join(self._entries).encode(), self._seen)
        self._seen = mark or self._seen
        return mark is not None

    def _changed(self) -> str:
        return (
            f"{str(self.path)!r} was changed by somebody else while it was recorded: give each"
            " process its own file, or record again"
        )

    def _say(self, messages: Sequence[str]) -> None:
        for message in messages:
            _log.error("%s", message)
        self._said += messages


_ASIDE = re.compile(r"(.+)\.\d+(-\d+)?\.yaml")


def is_aside(path: Path) -> bool:
    """True for a file that holds what could not go into the one beside it."""
    found = _ASIDE.fullmatch(path.name)
    return found is not None and any(
        path.with_name(found[1] + suffix).exists() for suffix in (".yaml", ".yml", ".json")
    )


class _Aside:
    """NAME.PID.yaml, for what cannot go into NAME.yaml; there is none while there is nothing."""

    def __init__(self, path: Path) -> None:
        self._of = path
        self._path: Path | None = None
        self._seen: Mark | None = None
        self._entries: list[str] = []
        self._taken = 0

    def write(self, records: Sequence[Record]) -> list[str]:
        """Put them there; what there is to say about it."""
        if self._taken == len(records):
            return []
        self._entries = [text for record in records if (text := _worded(plain_yaml(), record))]
        self._taken = len(records)
        return [self._put()] if self._entries else []

    def _put(self) -> str:
        data = plain_yaml().join(self._entries).encode()
        for path in self._places():
            seen = self._seen if path == self._path else None
            if (path == self._path or mark_of(path) is None) and (
                mark := replace_whole(path, data, seen)
            ):
                self._path, self._seen = path, mark
                break
        return f"what was recorded meanwhile is kept in {str(self._path)!r}: move it, or delete it"

    def _places(self) -> Iterator[Path]:
        if self._path is not None:
            yield self._path
        for number in count(1):
            more = "" if number == 1 else f"-{number}"
            yield self._of.with_name(f"{self._of.stem}.{os.getpid()}{more}.yaml")


def _worded(form: Form, record: Record) -> str | None:
    try:
        return form.entry(record)
    except CassetteError:
        return None
