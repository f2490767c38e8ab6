"""Where frames read from: a store, cassettes on disk, or records at hand; and which interceptions are wanted."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from fnmatch import fnmatchcase
from glob import glob, has_magic
from os import PathLike, fspath
from os.path import commonpath
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Protocol,
    TypedDict,
    TypeGuard,
    get_args,
    runtime_checkable,
)

from llmbridge.errors import CassetteError, ConfigurationError, End
from llmbridge.exchange.entry import Entry
from llmbridge.exchange.options import time_of
from llmbridge.exchange.printable import without_password
from llmbridge.exchange.record import Record, Store
from llmbridge.frames.wanted import check_value
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.conditions import Progress
from llmbridge.stores.followed import FollowedStore
from llmbridge.stores.opening import existing_store, is_url

if TYPE_CHECKING:
    from llmbridge.stores.sql_reader import SqlReader

Source = Store | str | PathLike[str] | Iterable[Record | str | PathLike[str]]
"""A store, or the URL of a database; a cassette, a folder or a glob of them; records, or several of those paths."""


_HOW = ("columns", "engine", "progress")


@runtime_checkable
class Digesting(Protocol):
    """A store that has read its answers already."""

    @property
    def digests(self) -> "SqlReader":
        """What it read."""
        ...

    def flush(self) -> None:
        """Return when everything taken so far is digested."""
        ...


class Filters(TypedDict, total=False):
    """Which interceptions are wanted: a filter names the value they must have, and all their rows are kept.

    `since` and `until` bound the start, `until` excluded: without a zone they are UTC, a date is its midnight, text is ISO 8601. `provider`,
    `dialect` and `model` may be those of any round, `model` the one asked for or the one that answered; it may be a
    pattern such as `claude-*`.
    """

    since: date | datetime | str
    until: date | datetime | str
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


class Options(Filters, total=False):
    """How a frame is read: `columns` are those wanted (all); `progress` is told how much is done, of how much.

    `engine="dask"` gives a Dask DataFrame over a data set that `export` wrote; it takes no `progress`.
    """

    columns: Sequence[str]
    engine: Literal["pandas", "dask"]
    progress: Progress


def split(options: Options) -> tuple[Filters, Sequence[str] | None, str, Progress | None]:
    """The filters, the columns, the engine and who is told of progress."""
    filters: Any = {name: _plain(value) for name, value in options.items() if name not in _HOW}
    how = (options.get("columns"), options.get("engine", "pandas"), options.get("progress"))
    return filters, *how


def _plain(value: Any) -> Any:
    """A cell of another frame as Python has it."""
    return value.item() if type(value).__module__ == "numpy" and not value.ndim else value


def wanted_by(filters: Filters) -> Callable[[Entry], bool]:
    """True for the interceptions that the filters want.

    Raises:
        ConfigurationError: there is no such filter, or a value that it cannot have.
    """
    tests = [_test(name, value) for name, value in filters.items()]
    return lambda entry: all(test(entry) for test in tests)


def read(source: Source, filters: Filters) -> list[Entry]:
    """The interceptions wanted, in the order of the source.

    Raises:
        ConfigurationError: there is no such source or filter, or a value that it cannot have.
        CassetteError: a file cannot be read, or none is there.
    """
    wanted = wanted_by(filters)
    return [entry for entry in _entries(source) if wanted(entry)]


def digested(source: object) -> Digesting | None:
    """The store, if it is one that keeps digests: of an URL, or what another store only passes on to."""
    store = existing_store(source) if is_url(source) else source
    while isinstance(store, FollowedStore):
        store = store.followed
    return store if isinstance(store, Digesting) else None


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
            f"no file matches {without_password(text)!r}: give a cassette, a folder or a glob of them"
        )
    folders = [file if file.is_dir() else file.parent for file in found]
    top = commonpath(folders)
    for file, folder in zip(found, folders, strict=True):
        # Files of one name in several folders: their ids begin with the folder, as if all were loaded at once.
        for record in Cassette.load(file):
            id = (folder.relative_to(top) / record.interception_id).as_posix()
            yield replace(record, interception_id=id)


def _test(name: str, value: object) -> Callable[[Entry], bool]:
    check_value(name, value)
    match name:
        case "since" | "until":
            bound, after = time_of(name, value), name == "since"
            return lambda entry: (
                (start := entry.started_at) is not None and (start >= bound) == after
            )
        case "interception_id":
            return lambda entry: entry.id == value
        case "provider" | "dialect":
            return lambda entry: value in (tuple(entry.all_of(name)) or (None,))
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
