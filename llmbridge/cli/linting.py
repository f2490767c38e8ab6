"""`llmbridge cassette lint`: secrets and oddities in cassettes, before somebody else finds them."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmbridge.cli.files import Outcome, errors_of, files_of, on_each
from llmbridge.cli.screen import BAD_INPUT, FINDINGS, FINE, Screen, say_error, say_json
from llmbridge.errors import CassetteError
from llmbridge.exchange.codec import is_event_stream
from llmbridge.exchange.leaks import Leak, leaks
from llmbridge.exchange.record import Record
from llmbridge.exchange.redact import Redactor
from llmbridge.exchange.secret_names import secrets_of
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.safe_load import LIMIT_BYTES, is_array, is_object, safe_load
from llmbridge.stores.whole_file import read_whole

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Finding:
    """A secret in the interaction of this number, from 0."""

    interaction: int
    place: str
    rule: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something that a client may trip over, although it replays here."""

    interaction: int
    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Linted:
    """What was found in a file."""

    findings: tuple[Finding, ...]
    warnings: tuple[Oddity, ...]


def run_lint(paths: Iterable[str], ignore: Iterable[str], as_json: bool) -> int:
    """Look at the files and say what was found; the exit code."""
    work = partial(lint, redactor=redactor_of(os.environ), ignore=frozenset(ignore))
    outcomes = list(on_each(work, files_of(paths)))
    (_say_json if as_json else _say_lines)(outcomes)
    if any(outcome.error for outcome in outcomes):
        return BAD_INPUT
    found = any(outcome.result and outcome.result.findings for outcome in outcomes)
    return FINDINGS if found else FINE


def redactor_of(environ: Mapping[str, str]) -> Redactor:
    """The rules for files of any recorder, with the secrets of this environment."""
    return Redactor(secrets_of(environ), lenient=True)


def lint(path: Path, redactor: Redactor, ignore: frozenset[str] = frozenset()) -> Linted:
    """What is wrong with a file; `ignore` names rules and headers that do not count.

    Raises:
        CassetteError: it cannot be read.
    """
    records = list(Cassette.load(path))
    findings = [
        Finding(index, leak.place, leak.rule, leak.excerpt)
        for index, record in enumerate(records)
        for leak in leaks(record, redactor)
        if not _is_ignored(leak, ignore)
    ]
    odd = sorted((*_unfinished(records), *_mislabelled(path)), key=lambda each: each.interaction)
    return Linted(tuple(findings), tuple(odd))


def _is_ignored(leak: Leak, ignore: frozenset[str]) -> bool:
    return leak.rule in ignore or leak.place.partition(".headers.")[2] in ignore - {""}


def _unfinished(records: Iterable[Record]) -> Iterator[Oddity]:
    for index, record in enumerate(records):
        if record.end != "completed":
            why = f": {record.error}" if record.error else ""
            yield Oddity(index, "response", f"was recorded as {record.end}{why}")
        elif is_event_stream(record.status, record.headers, record.body) and _is_cut(record):
            yield Oddity(index, "response.body", "the stream stops before its end")


def _is_cut(record: Record) -> bool:
    try:
        return record.message is not None and record.message.error_type == "truncated"
    except Exception:  # noqa: BLE001  # a codec that trips says nothing about the end
        return False


def _mislabelled(path: Path) -> Iterator[Oddity]:
    """Labels of bodies that are not true: reading mends them, so they are looked for in the file itself."""
    data = read_whole(path, LIMIT_BYTES)
    labels = (b"content-length", b"content-encoding")
    if not any(label in data or label.title() in data for label in labels):
        return
    tree: Any = None
    with suppress(CassetteError):
        # A recording in a form of its own, such as a bare stream, has no labels.
        tree = safe_load(data, str(path))
    interactions = tree.get("interactions") if is_object(tree) else None
    for index, interaction in enumerate(interactions if is_array(interactions) else ()):
        response = interaction.get("response") if is_object(interaction) else None
        if is_object(response):
            yield from (Oddity(index, *odd) for odd in _labels(response))


def _labels(response: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    labels = {str(name).lower(): value for name, value in _items(response.get("headers"))}
    stored = response.get("body")
    stored = stored.get("string") if is_object(stored) else stored
    if not isinstance(stored, str | bytes) or not stored:
        return
    body = stored.encode("utf-8", "surrogatepass") if isinstance(stored, str) else stored
    coding, length = str(labels.get("content-encoding", "")), str(labels.get("content-length", ""))
    plain = isinstance(stored, str) or ("gzip" in coding and not body.startswith(_GZIP))
    if coding and coding != "identity" and plain:
        yield "response.headers.content-encoding", f"says {coding!r}, and the body is plain"
    elif length.isdecimal() and int(length) != len(body):
        yield (
            "response.headers.content-length",
            f"says {length}, and the body has {len(body)} bytes",
        )


def _items(headers: Any) -> Iterator[tuple[Any, Any]]:
    for name, values in headers.items() if is_object(headers) else ():
        yield name, values[0] if is_array(values) and values else values


def _say_lines(outcomes: Iterable[Outcome[Linted]]) -> None:
    screen = Screen()
    files = findings = 0
    for outcome in outcomes:
        if outcome.error:
            say_error(outcome.error)
        else:
            files += 1
        result = outcome.result or Linted((), ())
        for odd in result.warnings:
            where = f"{outcome.file.path}: interactions[{odd.interaction}] {odd.place}"
            screen.say(f"{where}: warning: {odd.text}", "yellow")
        for each in result.findings:
            where = f"{outcome.file.path}: interactions[{each.interaction}] {each.place}"
            screen.say(f"{where}: {each.rule}: {each.excerpt}", "bold red")
        findings += len(result.findings)
    if findings:
        screen.say(
            f"{findings} secrets in {files} files: take them out with llmbridge cassette scrub"
        )
    else:
        screen.say(f"no secrets in {files} files", "green")


def _say_json(outcomes: list[Outcome[Linted]]) -> None:
    known = [(str(outcome.file.path), outcome.result) for outcome in outcomes if outcome.result]
    say_json(
        {
            "files": len(outcomes),
            "findings": [
                {"file": file} | asdict(each) for file, it in known for each in it.findings
            ],
            "warnings": [
                {"file": file} | asdict(each) for file, it in known for each in it.warnings
            ],
            "errors": errors_of(outcomes),
        }
    )
