"""Where frames read from: a store, cassettes on disk, or records at hand; and which interceptions are wanted."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from glob import glob, has_magic
from os import PathLike, fspath
from os.path import commonpath
from pathlib import Path
from typing import TypedDict, TypeGuard, get_args

from llmbridge.errors import CassetteError, ConfigurationError, End
from llmbridge.exchange.entry import Entry
from llmbridge.exchange.record import Record, Store
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.opening import existing_store, is_url

Source = Store | str | PathLike[str] | Iterable[Record | str | PathLike[str]]
"""A store, or the URL of a database; a cassette, a folder or a glob of them; records, or several of those paths."""


class Filters(TypedDict, total=False):
    """Which interceptions are wanted: a filter names the value they must have, and all their rows are kept.

    `since` and `until` bound the start, `until` excluded: without a zone they are UTC, text is ISO 8601. `provider`,
    `dialect` and `model` may be those of any round, `model` the one asked for or the one that answered; it may be a
    pattern such as `claude-*`.
    """

    since: datetime | str
    until: datetime | str
    interception_id: str
    session_id: str
    actor: str
    client: str
    frontend: str
    provider: str
    dialect: str
    model: str
    streaming: bool
    status: int
    end: str
    replayed: bool


def read(source: Source, filters: Filters) -> list[Entry]:
    """The interceptions wanted, in the order of the source.

    Raises:
        ConfigurationError: there is no such source or filter, or a value that it cannot have.
        CassetteError: a file cannot be read, or none is there.
    """
    tests = [_test(name, value) for name, value in filters.items()]
    return [entry for entry in _entries(source) if all(test(entry) for test in tests)]


def _entries(source: Source) -> Iterator[Entry]:
    if is_url(source):
        yield from _of_store(existing_store(source))
    elif isinstance(source, str | PathLike):
        yield from _alone(_rounds(_recorded(fspath(source))))
    elif _is_store(source):
        source.flush()
        yield from _of_store(source)
    else:
        yield from _alone(_rounds(_each(source)))


def _each(source: object) -> Iterator[Record]:
    if not _is_iterable(source):
        raise ConfigurationError(
            f"{source!r} is no source of frames: give a store, records, or the path of a cassette"
        )
    for item in source:
        if isinstance(item, str | PathLike):
            yield from _recorded(fspath(item))
        elif isinstance(item, Record):
            yield item
        else:
            raise ConfigurationError(f"{item!r} is neither a record nor the path of a cassette")


def _is_iterable(source: object) -> TypeGuard[Iterable[object]]:
    return isinstance(source, Iterable)


def _is_store(source: object) -> TypeGuard[Store]:
    return hasattr(source, "interceptions") and hasattr(source, "records")


def _of_store(store: Store) -> Iterator[Entry]:
    rounds = _rounds(store.records())
    for interception in store.interceptions():
        yield Entry(interception.id, interception, rounds.pop(interception.id, ()))
    yield from _alone(rounds)


def _alone(rounds: Mapping[str, tuple[Record, ...]]) -> Iterator[Entry]:
    return (Entry(id, None, records) for id, records in rounds.items())


def _rounds(records: Iterable[Record]) -> dict[str, tuple[Record, ...]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.interception_id, []).append(record)
    return {
        id: tuple(sorted(records, key=lambda record: record.round)) for id, records in found.items()
    }


def _recorded(text: str) -> Iterator[Record]:
    path = Path(text).expanduser()
    if path.exists() or not has_magic(text):
        yield from Cassette.load(path)
        return
    found = sorted(Path(file) for file in glob(str(path), recursive=True))
    if not found:
        raise CassetteError(
            f"no file matches {text!r}: give a cassette, a folder or a glob of them"
        )
    folders = [file if file.is_dir() else file.parent for file in found]
    top = commonpath(folders)
    for file, folder in zip(found, folders, strict=True):
        # Files of one name in several folders: their ids begin with the folder, as if all were loaded at once.
        for record in Cassette.load(file):
            id = (folder.relative_to(top) / record.interception_id).as_posix()
            yield replace(record, interception_id=id)


def _test(name: str, value: object) -> Callable[[Entry], bool]:
    match name:
        case "since" | "until":
            bound, after = _time(name, value), name == "since"
            return lambda entry: (
                (start := entry.started_at) is not None and (start >= bound) == after
            )
        case "interception_id":
            return lambda entry: entry.id == value
        case "provider" | "dialect":
            return lambda entry: value in (list(entry.all_of(name)) or [None])
        case "model":
            return lambda entry: any(fnmatchcase(model, str(value)) for model in entry.models)
        case "end" if value not in get_args(End):
            raise ConfigurationError(
                f"no call ends as {value!r}: use one of {', '.join(get_args(End))}"
            )
        case "streaming" | "replayed":
            return lambda entry: getattr(entry, name) == value
        case _ if name in Filters.__annotations__:
            return lambda entry: entry.said(name) == value
        case _:
            names = ", ".join(Filters.__annotations__)
            raise ConfigurationError(f"there is no filter {name!r}: use one of {names}")


def _time(name: str, value: object) -> datetime:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        time = None
    if not isinstance(time, datetime):
        raise ConfigurationError(
            f"{name}={value!r} is no time: give a datetime or ISO 8601 text such as '2026-11-20T08:00'"
        )
    return time if time.tzinfo else time.replace(tzinfo=UTC)
