"""Which cassettes a command is about, and the same work done on each of them."""

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob, has_magic
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Generic, TypeVar

from llmbridge.errors import CassetteError
from llmbridge.exchange.printable import without_password
from llmbridge.stores.cassette import SUFFIXES

T = TypeVar("T")

_SHOW_PROGRESS_FROM = 50
_PARALLEL_FROM_BYTES = 8 * 2**20
"""Below this, starting processes takes longer than the work."""


@dataclass(frozen=True, slots=True)
class File:
    """A cassette; `name` is where it stands below the folder that was given."""

    path: Path
    name: str

    def below(self, folder: Path, suffix: str | None = None) -> Path:
        """The same place below another folder, perhaps with another suffix."""
        return (folder / self.name).with_suffix(suffix or self.path.suffix)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What came of a file: a result, or the reason why it is bad input."""

    file: File
    result: T | None = None
    error: str | None = None


def files_of(paths: Iterable[str]) -> list[File]:
    """The files, those in the folders, and those that globs match, each once; shells on Windows leave globs to us.

    Raises:
        CassetteError: there is nothing at a path.
    """
    found: dict[Path, File] = {}
    for text in paths:
        for file in _files_at(text):
            found.setdefault(file.path.resolve(), file)
    return list(found.values())


def _files_at(text: str) -> list[File]:
    path = Path(text).expanduser()
    if path.is_dir():
        files = [
            File(each, each.relative_to(path).as_posix())
            for each in sorted(path.rglob("*"))
            if each.name.endswith(SUFFIXES) and each.is_file()
        ]
    elif path.exists() or not has_magic(text):
        files = [File(path, path.name)] if path.exists() else []
    else:
        matches = sorted(glob(str(path), recursive=True))
        files = [file for match in matches for file in _files_at(match)]
    if not files:
        raise CassetteError(
            f"there is no cassette at {without_password(text)!r}: give files, folders or globs"
        )
    return files


def on_each(work: Callable[[Path], T], files: Sequence[File]) -> Iterator[Outcome[T]]:
    """The work done on every file, in order; on all processors where there is much of it."""
    with _progress(len(files)) as advance:
        for outcome in _outcomes(_Guarded(work), files):
            advance()
            yield outcome


def _outcomes(work: "_Guarded[T]", files: Sequence[File]) -> Iterator[Outcome[T]]:
    processors = min(os.cpu_count() or 1, 8)
    if processors == 1 or len(files) < 2 * processors or _size(files) < _PARALLEL_FROM_BYTES:
        yield from map(work, files)
        return
    # Not by fork: a progress bar has a thread.
    with ProcessPoolExecutor(processors, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, files, chunksize=max(1, min(32, len(files) // processors // 4)))


def errors_of(outcomes: Iterable[Outcome[Any]]) -> list[dict[str, str]]:
    """The files that are bad input, and why."""
    return [
        {"file": str(outcome.file.path), "error": outcome.error}
        for outcome in outcomes
        if outcome.error
    ]


class _Guarded(Generic[T]):
    """Work whose refusals are results too; it can be sent to another process."""

    def __init__(self, work: Callable[[Path], T]) -> None:
        self._work = work

    def __call__(self, file: File) -> Outcome[T]:
        try:
            return Outcome(file, self._work(file.path))
        except CassetteError as error:
            return Outcome(file, error=error.message)


def _size(files: Iterable[File]) -> int:
    return sum(file.path.stat().st_size for file in files if file.path.exists())


@contextmanager
def _progress(count: int) -> Generator[Callable[[], object]]:
    """A bar on standard error, where somebody looks at it and has to wait."""
    if count < _SHOW_PROGRESS_FROM or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console  # noqa: PLC0415  # a hook that runs in a pipe need not load it
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Reading cassettes", total=count)
        yield lambda: progress.advance(task)
