"""`llmbridge cassette convert`: recordings of any recorder in our form, which vcrpy reads."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from llmbridge.cli.files import Outcome, errors_of, files_of, on_each
from llmbridge.cli.linting import redactor_of
from llmbridge.cli.screen import BAD_INPUT, FINE, Screen, say_error, say_json
from llmbridge.cli.scrubbing import targets_of
from llmbridge.errors import CassetteError
from llmbridge.exchange.record import Record
from llmbridge.exchange.redact import Redactor
from llmbridge.stores.cassette import Cassette

Format = Literal["yaml", "json"]


@dataclass(frozen=True, slots=True)
class Timing:
    """The pace of recordings that have none: seconds to the first piece, pieces a second."""

    ttft: float | None = None
    tps: float | None = None

    def of(self, record: Record) -> Record:
        """The record at this pace; one that has its times keeps them."""
        if record.timed or (self.ttft is None and self.tps is None):
            return record
        first, gap = self.ttft or 0.0, 1 / self.tps if self.tps else 0.0
        chunks = tuple((first + at * gap, piece) for at, (_, piece) in enumerate(record.chunks))
        last = chunks[-1][0] if chunks else first
        return replace(record, chunks=chunks, head_s=first, duration_s=last, timed=True)


@dataclass(frozen=True, slots=True)
class Converted:
    """Where a file went, and how many interactions and redacted ones it has."""

    to: str
    interactions: int
    redacted: int


def run_convert(
    paths: Iterable[str],
    to: str | None,
    form: Format,
    force: bool,
    timing: Timing,
    as_json: bool,
) -> int:
    """Convert the files and say where they went; the exit code."""
    files = files_of(paths)
    suffix = f".{form}"
    if to is None:
        targets = {file.path: file.path.with_suffix(suffix) for file in files}
    else:
        targets = targets_of(files, Path(to), suffix)
    work = partial(
        convert, targets=targets, force=force, timing=timing, redactor=redactor_of(os.environ)
    )
    outcomes = list(on_each(work, files))
    (_say_json if as_json else _say_lines)(outcomes)
    return BAD_INPUT if any(outcome.error for outcome in outcomes) else FINE


def convert(
    path: Path, targets: Mapping[Path, Path], force: bool, timing: Timing, redactor: Redactor
) -> Converted:
    """Write a file in our form, its secrets taken out.

    Raises:
        CassetteError: it cannot be read or written, or something is there already.
    """
    target = targets[path]
    if target.exists() and not force:
        raise CassetteError(
            f"{str(target)!r} is there already: give --force to replace it, or --to DIR"
        )
    records = list(Cassette.load(path))
    clean = [redactor.record(record) for record in records]
    Cassette(target, map(timing.of, clean)).save()
    changed = sum(old is not new for old, new in zip(records, clean, strict=True))
    return Converted(str(target), len(records), changed)


def _say_lines(outcomes: Iterable[Outcome[Converted]]) -> None:
    screen = Screen()
    for outcome in outcomes:
        if outcome.error:
            say_error(outcome.error)
        if outcome.result:
            it = outcome.result
            clean = f", secrets taken out of {it.redacted}" if it.redacted else ""
            screen.say(f"{outcome.file.path} -> {it.to}: {it.interactions} interactions{clean}")


def _say_json(outcomes: list[Outcome[Converted]]) -> None:
    files = [
        {"file": str(outcome.file.path)} | asdict(outcome.result)
        for outcome in outcomes
        if outcome.result
    ]
    say_json({"files": files, "errors": errors_of(outcomes)})
