"""`llmbridge cassette scrub`: secrets out of cassettes that have them, and nothing else changed."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llmbridge.cli.files import File, Outcome, errors_of, files_of, on_each
from llmbridge.cli.linting import Finding, redactor_of
from llmbridge.cli.screen import BAD_INPUT, FINDINGS, FINE, Screen, say_error, say_json
from llmbridge.errors import CassetteError
from llmbridge.exchange.call import Headers
from llmbridge.exchange.leaks import leaks
from llmbridge.exchange.record import Record
from llmbridge.exchange.redact import Redactor
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.cassette_write import form_of
from llmbridge.stores.safe_load import LIMIT_BYTES, is_array, is_object, safe_load
from llmbridge.stores.whole_file import Mark, mark_of, read_whole, replace_whole

_OUR_KEY = re.compile(rb"^ *llmbridge:|\"llmbridge\" *:", re.MULTILINE)
_SHORTEST = 6
"""Text shorter than this stands in too many places of a file to be replaced there."""


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What was taken out of a file, and what no rule can take out: secrets spread over events."""

    replaced: tuple[Finding, ...]
    left: tuple[Finding, ...]


def run_scrub(paths: Iterable[str], output: str | None, dry_run: bool, as_json: bool) -> int:
    """Mend the files and say what was replaced; the exit code."""
    redactor, files = redactor_of(os.environ), files_of(paths)
    if dry_run:
        outcomes = list(on_each(partial(find, redactor=redactor), files))
    elif output is None:
        outcomes = list(on_each(partial(scrub, redactor=redactor), files))
    else:
        targets = targets_of(files, Path(output))
        outcomes = list(on_each(partial(_scrub_to, targets=targets, redactor=redactor), files))
    (_say_json if as_json else _say_lines)(outcomes, dry_run)
    if any(outcome.error for outcome in outcomes):
        return BAD_INPUT
    return FINDINGS if any(outcome.result and outcome.result.left for outcome in outcomes) else FINE


def targets_of(files: Sequence[File], folder: Path, suffix: str | None = None) -> dict[Path, Path]:
    """Where each file goes below a folder.

    Raises:
        CassetteError: two would go to one place.
    """
    targets: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for file in files:
        target = file.below(folder, suffix)
        if target in taken:
            raise CassetteError(
                f"{str(taken[target])!r} and {str(file.path)!r} would both become {str(target)!r}:"
                " give the folder above them"
            )
        targets[file.path] = target
        taken[target] = file.path
    return targets


def find(path: Path, redactor: Redactor) -> Scrubbed:
    """What `scrub` would take out.

    Raises:
        CassetteError: the file cannot be read.
    """
    return _found(list(Cassette.load(path)), redactor)


def scrub(path: Path, redactor: Redactor, to: Path | None = None) -> Scrubbed:
    """Take the secrets out of a file, here or into another one. Without any it is not touched.

    Raises:
        CassetteError: it cannot be read, or not be written without losing something.
    """
    seen, data = mark_of(path), read_whole(path, LIMIT_BYTES)
    records = list(Cassette.load(path))
    found = _found(records, redactor)
    if found.replaced:
        clean = [redactor.record(record) for record in records]
        mended = _mended(path, data, records, clean, redactor)
        _write(path, to or path, mended, seen)
    elif to is not None:
        _write(path, to, data, seen)
    return found


def _scrub_to(path: Path, targets: dict[Path, Path], redactor: Redactor) -> Scrubbed:
    return scrub(path, redactor, targets[path])


def _found(records: Sequence[Record], redactor: Redactor) -> Scrubbed:
    found = [
        (leak.spread, Finding(index, leak.place, leak.rule, leak.excerpt))
        for index, record in enumerate(records)
        for leak in leaks(record, redactor)
    ]
    return Scrubbed(
        tuple(finding for spread, finding in found if not spread),
        tuple(finding for spread, finding in found if spread),
    )


def _write(path: Path, to: Path, data: bytes, seen: Mark | None) -> None:
    mode = path.stat().st_mode & 0o777
    if replace_whole(to, data, seen if to == path else mark_of(to)) is None:
        raise CassetteError(f"{str(to)!r} was changed while it was mended: try again")
    to.chmod(mode)


def _mended(
    path: Path,
    data: bytes,
    records: Sequence[Record],
    clean: Sequence[Record],
    redactor: Redactor,
) -> bytes:
    """The file without secrets: as it is but for them, else written anew where it is of our form or vcrpy's."""
    if not _OUR_KEY.search(data) and not _has_new_lengths(records, clean):
        mended = _replaced(data, _swaps(records, clean, redactor))
        if _reads_as(path, mended, clean):
            return mended
    if not _is_vcrpy(data, path):
        raise CassetteError(
            f"{str(path)!r} holds secrets that cannot be taken out of this recorder's format:"
            f" llmbridge cassette convert {path} --to DIR writes one without them"
        )
    form = form_of(path)
    written = form.join([form.entry(record) for record in clean]).encode()
    if not _reads_as(path, written, clean):
        raise CassetteError(f"{str(path)!r} cannot be written again as it was: record it anew")
    return written


def _has_new_lengths(records: Sequence[Record], clean: Sequence[Record]) -> bool:
    """True where a stated length would have to change, too."""
    return any(
        "content-length" in headers and len(old) != len(new)
        for before, after in zip(records, clean, strict=True)
        for headers, old, new in (
            (before.headers, before.body, after.body),
            (
                before.request.headers if before.request else Headers(),
                before.request.body if before.request else b"",
                after.request.body if after.request else b"",
            ),
        )
    )


def _swaps(
    records: Sequence[Record], clean: Sequence[Record], redactor: Redactor
) -> dict[bytes, bytes]:
    """Each secret as it may stand in the file, and what replaces it."""
    swaps: dict[str, str] = {}
    for before, after in zip(records, clean, strict=True):
        swaps |= _header_swaps(before.headers, after.headers)
        body = before.body
        swaps |= {it.of(body): f"<redacted:{it.rule}>" for it in redactor.finds_in_answer(body)}
        asked = before.request
        if asked is None or after.request is None:
            continue
        swaps |= _header_swaps(asked.headers, after.request.headers)
        swaps |= {asked.url: after.request.url} if asked.url != after.request.url else {}
        finds = redactor.finds_in_request(asked)
        swaps |= {it.of(asked.body): f"<redacted:{it.rule}>" for it in finds}
    return {
        old.encode("utf-8", "surrogatepass"): new.encode("utf-8", "surrogatepass")
        for old, new in swaps.items()
        if len(old) >= _SHORTEST
    }


def _header_swaps(before: Headers, after: Headers) -> dict[str, str]:
    pairs = zip(before.pairs, after.pairs, strict=True)
    return {old: new for (_, old), (_, new) in pairs if old != new}


def _replaced(data: bytes, swaps: dict[bytes, bytes]) -> bytes:
    for old in sorted(swaps, key=len, reverse=True):
        data = data.replace(old, swaps[old])
    return data


def _reads_as(path: Path, data: bytes, records: Sequence[Record]) -> bool:
    """True when this would be read as these records."""
    with TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        copy.write_bytes(data)
        try:
            return [_essence(record) for record in Cassette.load(copy)] == [
                _essence(record) for record in records
            ]
        except CassetteError:
            return False


def _essence(record: Record) -> Record:
    """What must stay; a file in vcrpy's form sorts its headers, and only ours lists the rules."""
    request = record.request
    return replace(
        record,
        headers=_sorted(record.headers),
        request=request and replace(request, headers=_sorted(request.headers)),
        redacted=(),
    )


def _sorted(headers: Headers) -> Headers:
    return Headers(sorted((name.lower(), value) for name, value in headers.pairs))


def _is_vcrpy(data: bytes, path: Path) -> bool:
    try:
        tree: Any = safe_load(data, str(path))
    except CassetteError:
        return False
    interactions = tree.get("interactions") if is_object(tree) else None
    return is_array(interactions) and all(
        is_object(each) and is_object(each.get("request")) and "uri" in each["request"]
        for each in interactions
    )


def _say_lines(outcomes: Iterable[Outcome[Scrubbed]], dry_run: bool) -> None:
    screen = Screen()
    files = replaced = 0
    for outcome in outcomes:
        if outcome.error:
            say_error(outcome.error)
        else:
            files += 1
        result = outcome.result or Scrubbed((), ())
        replaced += len(result.replaced)
        for each in result.replaced:
            where = f"{outcome.file.path}: interactions[{each.interaction}] {each.place}"
            screen.say(f"{where}: {each.rule}: {each.excerpt}", "yellow")
        for each in result.left:
            where = f"{outcome.file.path}: interactions[{each.interaction}] {each.place}"
            text = f"{each.rule}: {each.excerpt} is spread over events and stays: record it again"
            screen.say(f"{where}: {text}", "bold red")
    verb = "would be replaced" if dry_run else "replaced"
    screen.say(f"{replaced} secrets {verb} in {files} files", "green")


def _say_json(outcomes: list[Outcome[Scrubbed]], dry_run: bool) -> None:
    say_json(
        {
            "dry_run": dry_run,
            "files": [
                {"file": str(outcome.file.path)} | asdict(outcome.result)
                for outcome in outcomes
                if outcome.result
            ],
            "errors": errors_of(outcomes),
        }
    )
