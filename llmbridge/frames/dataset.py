"""The six frames as Parquet files: a folder for each frame, and in that one for each day, written a piece at a time."""

import os
import shutil
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from importlib import import_module
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.columns import FRAMES
from llmbridge.exchange.options import time_of
from llmbridge.frames.pieces import UNKNOWN, Piece, pieces_of
from llmbridge.frames.reading import is_data_set
from llmbridge.frames.source import Source
from llmbridge.frames.table import as_frame
from llmbridge.stores.arrow import pa
from llmbridge.stores.conditions import Progress

_PART = "part-0.parquet"
_ASIDE = ".llmbridge-export-"
_GROUP_ROWS = 1 << 16
"""So many rows are in memory, and in one row group."""


def export(
    source: Source,
    folder: str | os.PathLike[str],
    *,
    force: bool = False,
    since: date | datetime | str | None = None,
    only: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Write the frames of a source, or `only` those, and say how many rows each has.

    `day` is the one on which the interception began (UTC); with `since` it is written from the day on that this time is in.
    All is written beside the data set first, and put in its place, a day of a frame at once, when there is no more to
    write: what is interrupted changes nothing. With `force` the days that are written replace those that are there, and
    others stay; so it may be repeated.

    Raises:
        ConfigurationError: there is no such source or frame, the folder is not empty, or it cannot be written.
    """
    path = Path(folder).expanduser()
    only = (only,) if isinstance(only, str) else only
    names = list(FRAMES if only is None else dict.fromkeys(only))
    if not names:
        raise ConfigurationError(f"only={only!r}: name some of {', '.join(FRAMES)}")
    for name in names:
        if name not in FRAMES:
            raise ConfigurationError(f"there is no frame {name!r}: use some of {', '.join(FRAMES)}")
    if is_data_set(source):
        raise ConfigurationError(f"{os.fspath(source)!r} is an export already: copy the folder")
    pieces = pieces_of(source, None if since is None else _midnight(since), progress)
    try:
        # Prompts and answers are in it.
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not force and any(not each.name.startswith(_ASIDE) for each in path.iterdir()):
            raise ConfigurationError(
                f"{str(path)!r} is not empty: name another folder, or force=True to replace its days"
            )
        with _aside(path) as aside:
            rows = {name: _write(name, pieces.of(name), aside / name) for name in names}
            _put(aside, path, names)
    except OSError as error:
        raise ConfigurationError(
            f"{str(path)!r} cannot be written: {error.strerror or error}"
        ) from error
    return rows


def _write(name: str, pieces: Iterable[Piece], folder: Path) -> int:
    """One file for each day, in row groups as they come."""
    parquet: Any = import_module("pyarrow.parquet")
    schema, count = _schema(name), 0
    folder.mkdir()
    for day, tables in groupby(pieces, key=itemgetter(0)):
        groups = _groups(table.select(schema.names) for _, table in tables if len(table))
        first = next(groups, None)
        if first is None:
            continue
        path = folder / f"day={day}" / _PART
        path.parent.mkdir()
        with parquet.ParquetWriter(path, schema) as writer:
            for group in chain([first], groups):
                writer.write_table(group.cast(schema))
                count += len(group)
    return count


def _groups(tables: Iterable[Any]) -> Iterator[Any]:
    """The same rows in tables that are large enough to read fast."""
    held: list[Any] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= _GROUP_ROWS:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def _schema(name: str) -> Any:
    """With the dtypes of the frame, for pandas; all files of a frame have the same."""
    empty = as_frame(FRAMES[name], ())
    return pa.Schema.from_pandas(
        empty.set_index("interception_id") if name == "interceptions" else empty
    )


def _put(aside: Path, path: Path, names: Sequence[str]) -> None:
    """Put what was written in its place; of the days that are in it nothing older stays."""
    days = {day.name for name in names for day in (aside / name).iterdir()}
    for name in names:
        (path / name).mkdir(mode=0o700, exist_ok=True)
        for day in days:
            new, place = aside / name / day, path / name / day
            if new.exists():
                place.mkdir(mode=0o700, exist_ok=True)
                os.replace(new / _PART, place / _PART)
            elif place.exists():
                shutil.rmtree(place)
        if not any((path / name).iterdir()):
            # A reader finds the columns, dtypes too.
            nothing = path / name / f"day={UNKNOWN}"
            nothing.mkdir(mode=0o700)
            import_module("pyarrow.parquet").write_table(
                _schema(name).empty_table(), nothing / _PART
            )


@contextmanager
def _aside(path: Path) -> Generator[Path]:
    """A folder inside, whose name readers of Parquet pass over; what a killed export left there goes, too."""
    for left in path.glob(f"{_ASIDE}*"):
        if not _lives(left.name.removeprefix(_ASIDE).partition("-")[0]):
            shutil.rmtree(left, ignore_errors=True)
    aside = Path(mkdtemp(prefix=f"{_ASIDE}{os.getpid()}-", dir=path))
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _lives(pid: str) -> bool:
    if sys.platform == "win32":
        # There is no asking without ending it.
        return True
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except OSError:
        return True
    return True


def _midnight(since: date | datetime | str) -> datetime:
    return time_of("since", since).replace(hour=0, minute=0, second=0, microsecond=0)
