"""`llmbridge cassette stats`: what recordings hold, per file and in all."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmbridge.cli.files import Outcome, errors_of, files_of, on_each
from llmbridge.cli.screen import BAD_INPUT, FINE, Screen, say_error, say_json
from llmbridge.cli.summary import Told, matched_as, quantile, summary_of
from llmbridge.stores.cassette import Cassette

_COLUMNS = {
    "file": False,
    "interactions": True,
    "streams": True,
    "models": False,
    "bytes": True,
    "tokens": True,
    "cost $": True,
    "ttft s": True,
    "total s": True,
    "twice": True,
}
_MOST = 12


@dataclass(frozen=True, slots=True)
class Counted:
    """One interaction, as it counts; `key` is the same for requests that are the same to a replay."""

    told: Told
    key: str | None
    size: int


def run_stats(paths: Iterable[str], as_json: bool) -> int:
    """Count what is in the files and say it; the exit code."""
    outcomes = list(on_each(count, files_of(paths)))
    known = {
        str(outcome.file.path): outcome.result or [] for outcome in outcomes if not outcome.error
    }
    files = [{"file": file} | stats_of(counted) for file, counted in known.items()]
    total = stats_of([each for counted in known.values() for each in counted])
    largest = _largest(known)
    if as_json:
        say_json(
            {"files": files, "total": total, "largest": largest, "errors": errors_of(outcomes)}
        )
    else:
        _say_lines(outcomes, files, total, largest)
    return BAD_INPUT if any(outcome.error for outcome in outcomes) else FINE


def count(path: Path) -> list[Counted]:
    """The interactions of a file.

    Raises:
        CassetteError: it cannot be read.
    """
    counted: list[Counted] = []
    for index, record in enumerate(Cassette.load(path)):
        told, asked = summary_of(record, index), matched_as(record)
        size = told["bytes"] + (len(record.request.body) if record.request else 0)
        counted.append(Counted(told, asked.key if asked else None, size))
    return counted


def stats_of(counted: Sequence[Counted]) -> Told:
    """Sums, kinds and quantiles; `duplicates` are requests beyond the first of their kind."""
    told = [each.told for each in counted]
    keys = Counter(each.key for each in counted if each.key)
    return {
        "interactions": len(counted),
        "dialects": Counter(each["dialect"] for each in told),
        "models": Counter(each["model"] for each in told if each["model"]),
        "ends": Counter(each["end"] for each in told),
        "streams": sum(each["streamed"] for each in told),
        "bytes": sum(each.size for each in counted),
        "tokens": _sum(told, "total_tokens"),
        "input_tokens": _sum(told, "input_tokens"),
        "output_tokens": _sum(told, "output_tokens"),
        "cost_usd": _sum(told, "cost_usd")
        if any(each["cost_usd"] is not None for each in told)
        else None,
        "ttft_s": _quantiles(told, "ttft_s"),
        "duration_s": _quantiles(told, "duration_s"),
        "duplicates": sum(keys.values()) - len(keys),
    }


def _sum(told: Iterable[Told], name: str) -> Any:
    return sum(each[name] for each in told if each[name] is not None)


def _quantiles(told: Iterable[Told], name: str) -> dict[str, float | None]:
    values = [each[name] for each in told if each[name] is not None]
    return {"p50": quantile(values, 0.5), "p95": quantile(values, 0.95)}


def _largest(known: dict[str, list[Counted]], most: int = 3) -> list[Told]:
    every = [(each.size, file, each.told) for file, counted in known.items() for each in counted]
    every.sort(key=lambda each: each[0], reverse=True)
    return [
        {"file": file, "interaction": told["interaction"], "bytes": size}
        for size, file, told in every[:most]
    ]


def _say_lines(
    outcomes: Iterable[Outcome[list[Counted]]],
    files: Sequence[Told],
    total: Told,
    largest: Iterable[Told],
) -> None:
    screen = Screen()
    for outcome in outcomes:
        if outcome.error:
            say_error(outcome.error)
    rows = [_row(each["file"], each) for each in files]
    if len(files) != 1:
        rows.append(_row(f"{len(files)} files", total))
    screen.table(_COLUMNS, rows, bold_last=len(files) != 1)
    screen.say()
    screen.say(f"dialects: {_kinds(total['dialects'])}")
    screen.say(f"models: {_kinds(total['models'])}")
    screen.say(f"ends: {_kinds(total['ends'])}")
    for each in largest:
        screen.say(f"large: {each['file']} #{each['interaction']}, {each['bytes']:,} bytes")


def _row(name: str, stats: Told) -> list[str]:
    return [
        name,
        str(stats["interactions"]),
        str(stats["streams"]),
        ", ".join(stats["models"])
        if len(stats["models"]) < 3
        else f"{len(stats['models'])} models",
        f"{stats['bytes']:,}",
        f"{stats['tokens']:,}",
        "-" if stats["cost_usd"] is None else f"{stats['cost_usd']:.4f}",
        _spread(stats["ttft_s"]),
        _spread(stats["duration_s"]),
        str(stats["duplicates"]),
    ]


def _spread(quantiles: dict[str, float | None]) -> str:
    p50, p95 = quantiles["p50"], quantiles["p95"]
    return "-" if p50 is None or p95 is None else f"{p50:.2f} / {p95:.2f}"


def _kinds(kinds: dict[str, int]) -> str:
    most = Counter(kinds).most_common(_MOST)
    more = f", and {len(kinds) - _MOST} more" if len(kinds) > _MOST else ""
    return (", ".join(f"{name} {number}" for name, number in most) or "-") + more
