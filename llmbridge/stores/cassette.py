"""Recordings in a file that vcrpy reads too."""

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any, Self

from llmbridge.canon.markup import facts, panel
from llmbridge.errors import CassetteError
from llmbridge.exchange.printable import without_password
from llmbridge.exchange.record import Interception, Record, play
from llmbridge.exchange.tables import records_table
from llmbridge.stores.cassette_file import CassetteFile, is_aside
from llmbridge.stores.cassette_path import check_suffix
from llmbridge.stores.cassette_read import read
from llmbridge.stores.cassette_writer import Writer
from llmbridge.stores.filters import by_start, matching
from llmbridge.stores.safe_load import LIMIT_BYTES
from llmbridge.stores.whole_file import read_whole

_log = logging.getLogger(__name__)

SUFFIXES = (".yaml", ".yml", ".json", ".sse", ".chunks.txt")


class Cassette:
    """Records of one file, or of all files below a folder; a thread writes what is added.

    `Cassette(path)` goes on with what is there, `Cassette(path, records)` begins anew with these, and `load` needs
    something to be there. Interceptions are kept in memory only. With `ascii` the file holds escapes in place of other
    characters, for vcrpy on a Windows machine with an old code page.

    Raises:
        CassetteError: what is there cannot be read; or nothing is there, and recordings go into no file of this name.
    """

    at_once = True

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        records: Iterable[Record] | None = None,
        *,
        ascii: bool = False,
    ) -> None:
        self.path = None if path is None else Path(path)
        self.ascii = ascii
        there = records is None and self.path is not None and self.path.exists()
        if self.path is not None and not there:
            check_suffix(self.path)
        self._records = _recorded(self.path) if there and self.path else list(records or ())
        self._interceptions: dict[str, Interception] = {}
        self._written = len(self._records) if there else 0
        self._lock = Lock()
        self._writing = Lock()
        self._file = None if self.path is None else CassetteFile(self.path, ascii=ascii)
        one_file = self.path is not None and not self.path.is_dir()
        self._writer = Writer(self._write_soon, f"llmbridge writes {path}") if one_file else None

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, ascii: bool = False) -> Self:
        """The recordings of a file, or of every .yaml, .yml, .json, .sse and .chunks.txt below a folder, in sorted order.

        What a process kept aside as NAME.PID.yaml, beside NAME.yaml, is passed over there.

        Raises:
            CassetteError: there are none, or one cannot be read; names the file and the place in it.
        """
        if not Path(path).exists():
            raise CassetteError(
                f"there is no cassette at {without_password(str(path))!r}: give a file, or a folder of them"
            )
        return cls(path, ascii=ascii)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, ascii: bool = False) -> Self:
        """The same, or an empty cassette to be written there when nothing is.

        Raises:
            CassetteError: what is there cannot be read.
        """
        return cls(path, ascii=ascii)

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write all records now, here or elsewhere: JSON when the path ends in .json, else YAML.

        Raises:
            CassetteError: the file cannot be written, or somebody else has changed it.
        """
        if path is not None and Path(path) != self.path:
            Cassette(path, self._all(), ascii=self.ascii).save()
            return
        with self._writing:
            records = self._all()
            self._file_to_write().save(records)
            self._written = len(records)

    def play(self) -> Any:
        """A widget that steps through its records, event by event, at any speed.

        Raises:
            ConfigurationError: anywidget is not installed.
        """
        return play(self)

    async def begin(self, interception: Interception) -> None:
        """Keep the start of an interception in memory."""
        self.end(interception)

    def add(self, record: Record) -> None:
        """Take a finished exchange. It is in the file soon, and surely after `flush`."""
        with self._lock:
            self._records.append(record)
        if self._writer is not None:
            self._writer.wake()

    def end(self, interception: Interception) -> None:
        """Keep the interception as it ended, in memory."""
        with self._lock:
            self._interceptions[interception.id] = interception

    def flush(self) -> None:
        """Return when all that was added is on disk.

        Raises:
            CassetteError: it cannot be written, or some of it went into another file, which the message names:
                what this file cannot hold, or all, where somebody else wrote the file meanwhile.
        """
        self._write()
        if self._file is not None:
            self._file.complain()

    def close(self) -> None:
        """Flush and end the thread that writes."""
        if self._writer is not None:
            self._writer.finish()
        self.flush()

    def interceptions(self, **filters: object) -> list[Interception]:
        """What this process asked, by start time; a file keeps only records.

        Raises:
            ConfigurationError: no such filter.
        """
        with self._lock:
            found = list(self._interceptions.values())
        return by_start(matching(Interception, found, filters))

    def records(self, **filters: object) -> list[Record]:
        """Records in the order of the file, then as they were added.

        Raises:
            ConfigurationError: no such filter.
        """
        return matching(Record, self._all(), filters)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._all())

    def __getitem__(self, place: int) -> Record:
        return self._all()[place]

    def __len__(self) -> int:
        return len(self._records)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        path = "" if self.path is None else f"{str(self.path)!r}, "
        return f"Cassette({path}{len(self._records)} records)"

    def _repr_html_(self) -> str:
        records = self._all()
        where = "in memory" if self.path is None else self.path
        rules = sorted({rule for record in records for rule in record.redacted})
        told = facts(records=f"{len(records):,}", redacted=", ".join(rules) or None)
        return panel(f"Cassette {where}", told, records_table(records))

    def _all(self) -> list[Record]:
        with self._lock:
            return list(self._records)

    def _write_soon(self) -> None:
        """What the thread does; `flush` tries again what fails, and raises."""
        try:
            self._write()
        except CassetteError as error:
            _log.warning("%s", error)

    def _write(self) -> None:
        with self._writing:
            records = self._all()
            if self._written < len(records):
                self._file_to_write().write(records)
                self._written = len(records)

    def _file_to_write(self) -> CassetteFile:
        if self._file is None:
            raise CassetteError("this cassette has no file: name one, save('session.yaml')")
        return self._file


def _recorded(path: Path) -> list[Record]:
    return [
        record
        for file, prefix in _files(path)
        for record in read(read_whole(file, LIMIT_BYTES), str(file), prefix)
    ]


def _files(path: Path) -> list[tuple[Path, str]]:
    """The files to read, each with what its interception ids begin with."""
    if not path.is_dir():
        return [(path, path.name)]
    files = sorted(
        file
        for file in path.rglob("*")
        if file.name.endswith(SUFFIXES) and file.is_file() and not is_aside(file)
    )
    if not files:
        raise CassetteError(
            f"no {', '.join(SUFFIXES)} below {str(path)!r}: there is nothing to replay"
        )
    return [(file, file.relative_to(path).as_posix()) for file in files]
