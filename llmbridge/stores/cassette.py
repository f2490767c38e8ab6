"""Recordings in a file that vcrpy reads too."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock
from typing import Self

from llmbridge.errors import CassetteError
from llmbridge.exchange.record import Interception, Record
from llmbridge.stores.cassette_read import read
from llmbridge.stores.cassette_write import dump_json, entry, join
from llmbridge.stores.filters import by_start, matching
from llmbridge.stores.safe_load import LIMIT_BYTES
from llmbridge.stores.whole_file import mark_of, read_whole, replace_whole

SUFFIXES = (".yaml", ".yml", ".json", ".sse", ".chunks.txt")


class Cassette:
    """Records of one file, or of all files below a folder; what is added is written by `flush`, `close` or `save`.

    `Cassette(path)` begins an empty one in place of what is there, `open` goes on with what is there, `load` needs it
    to be there. Interceptions are kept in memory only.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, records: Iterable[Record] = ()
    ) -> None:
        self.path = None if path is None else Path(path)
        self._records = list(records)
        self._interceptions: dict[str, Interception] = {}
        self._written = 0
        self._entries: list[str] = []
        self._seen = None if self.path is None else mark_of(self.path)
        self._lock = Lock()
        self._writing = Lock()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The recordings of a file, or of every .yaml, .yml, .json, .sse and .chunks.txt below a folder, in sorted order.

        Raises:
            CassetteError: there are none, or one cannot be read; names the file and the place in it.
        """
        cassette = cls(path)
        place = Path(path)
        for file, prefix in _files(place):
            cassette._records += read(read_whole(file, LIMIT_BYTES), str(file), prefix)
        cassette._written = len(cassette._records)
        return cassette

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The same, or an empty cassette to be written there when nothing is.

        Raises:
            CassetteError: what is there cannot be read.
        """
        return cls.load(path) if Path(path).exists() else cls(path)

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write all records now, here or elsewhere: JSON when the path ends in .json, else YAML.

        Raises:
            CassetteError: the file cannot be written, or somebody else has changed it.
        """
        if path is not None and Path(path) != self.path:
            Cassette(path, self._all()).save()
            return
        with self._writing:
            self._write()

    async def begin(self, interception: Interception) -> None:
        """Keep the start of an interception in memory."""
        self.end(interception)

    def add(self, record: Record) -> None:
        """Take a finished exchange; `flush` writes it."""
        with self._lock:
            self._records.append(record)

    def end(self, interception: Interception) -> None:
        """Keep the interception as it ended, in memory."""
        with self._lock:
            self._interceptions[interception.id] = interception

    def flush(self) -> None:
        """Write the file if records were added.

        Raises:
            CassetteError: as for `save`.
        """
        with self._writing:
            if self._written < len(self._records):
                self._write()

    def close(self) -> None:
        """Flush."""
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

    def __len__(self) -> int:
        return len(self._records)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        path = "" if self.path is None else f"{str(self.path)!r}, "
        return f"Cassette({path}{len(self._records)} records)"

    def _all(self) -> list[Record]:
        with self._lock:
            return list(self._records)

    def _write(self) -> None:
        if self.path is None:
            raise CassetteError("this cassette has no file: name one, save('session.yaml')")
        if self.path.is_dir():
            raise CassetteError(f"{str(self.path)!r} is a folder: name a file to save into")
        records = self._all()
        if self.path.suffix == ".json":
            text = dump_json(records)
        else:
            self._entries += [entry(record) for record in records[len(self._entries) :]]
            text = join(self._entries)
        data = text.encode()
        if len(data) > LIMIT_BYTES:
            raise CassetteError(
                f"{str(self.path)!r} would be larger than the {LIMIT_BYTES >> 20} MiB that are read"
                " back: record into more files"
            )
        self._seen = replace_whole(self.path, data, self._check)
        self._written = len(records)

    def _check(self) -> None:
        if self.path is not None and mark_of(self.path) != self._seen:
            raise CassetteError(
                f"{str(self.path)!r} was changed by somebody else while it was recorded: give each"
                " process its own file, or record again"
            )


def _files(path: Path) -> list[tuple[Path, str]]:
    """The files to read, each with what its interception ids begin with."""
    if not path.is_dir():
        if not path.exists():
            raise CassetteError(f"there is no cassette at {str(path)!r}")
        return [(path, path.name)]
    files = sorted(
        file for file in path.rglob("*") if file.name.endswith(SUFFIXES) and file.is_file()
    )
    if not files:
        raise CassetteError(
            f"no {', '.join(SUFFIXES)} below {str(path)!r}: there is nothing to replay"
        )
    return [(file, file.relative_to(path).as_posix()) for file in files]
