"""What a replay reads and writes: a file, several, a folder, or any store."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from llmbridge.errors import CassetteError, ConfigurationError
from llmbridge.exchange.printable import without_password
from llmbridge.exchange.record import Record, Store
from llmbridge.stores.cassette_path import check_place
from llmbridge.stores.opening import existing_store, is_url, open_store

Mode = Literal["none", "once", "new_episodes", "all", "rewrite", "live", "verify"]
"""vcrpy's record modes, pytest-recording's `rewrite`, `live` which neither reads nor writes, and `verify`."""

RECORDING: frozenset[Mode] = frozenset({"once", "new_episodes", "all", "rewrite"})
"""The modes that write what they ask."""

PLAYING: frozenset[Mode] = frozenset({"none", "once", "new_episodes", "verify"})
"""The modes that answer from what is there."""

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Source:
    """A store, its records that may be played, and the same store where new ones may go."""

    store: Iterable[Record]
    records: Sequence[Record]
    writable: Store | None = None


def open_source(source: Any, mode: Mode) -> Source:
    """Read what there is to play in this mode, and find where to record.

    Raises:
        ConfigurationError: this cannot be recorded into.
        CassetteError: a file cannot be read, or not be written.
    """
    if mode == "live":
        return Source((), ())
    paths = _paths(source)
    if paths is not None and len(paths) == 1 and is_url(paths[0]):
        # The command line and configuration files give a list, whatever is in it.
        source = paths[0]
    if is_url(source):
        source = open_store(source) if mode in RECORDING else existing_store(source)
    paths = _paths(source)
    if paths is None:
        return _of_store(source, mode)
    return _of_file(paths[0], mode) if len(paths) == 1 else _of_files(paths, mode)


def named(source: Any) -> str:
    """The path or paths, to be read in a message; empty for a store, and for a URL, which may hold a password."""
    paths = _paths(source) or ()
    return ", ".join(os.fspath(path) for path in paths if not is_url(path))


def _paths(source: Any) -> Sequence[AnyPath] | None:
    if isinstance(source, str | os.PathLike):
        return [cast(AnyPath, source)]
    if isinstance(source, list | tuple):
        items = cast(Sequence[Any], source)
        if items and all(isinstance(item, str | os.PathLike) for item in items):
            return items
    return None


def _of_store(source: Any, mode: Mode) -> Source:
    if not isinstance(source, Iterable):
        raise _no_source(source)
    store = cast(Iterable[Record], source)
    records: list[Any] = list(store)
    if not all(isinstance(record, Record) for record in records):
        raise _no_source(source)
    if mode not in RECORDING:
        return Source(store, records)
    if mode == "rewrite" or not hasattr(store, "add"):
        raise ConfigurationError(f"mode={mode!r} needs the path of a file to write, not {store!r}")
    return _recording(cast(Store, store), records, mode, existed=bool(records))


def _no_source(given: Any) -> ConfigurationError:
    return ConfigurationError(
        f"{given!r} cannot be replayed: give a path, several, a Cassette or another store"
    )


def _of_file(path: AnyPath, mode: Mode) -> Source:
    from llmbridge.stores.cassette import Cassette  # noqa: PLC0415  # YAML is loaded late

    if mode not in RECORDING:
        if not Path(path).exists():
            raise CassetteError(
                f"there is no cassette at {without_password(os.fspath(path))!r}:"
                " record it with mode='once', or give another path"
            )
        cassette = Cassette.load(path)
        return Source(cassette, list(cassette))
    path = Path(path)
    if path.is_dir():
        raise ConfigurationError(
            f"mode={mode!r} records into one file, and {str(path)!r} is a folder:"
            f" give {str(path / 'session.yaml')!r}"
        )
    existed = path.exists()
    if mode != "once" or not existed:
        check_place(path)
    cassette = Cassette(path, ()) if mode == "rewrite" else Cassette.open(path)
    return _recording(cassette, list(cassette), mode, existed=existed)


def _of_files(paths: Sequence[AnyPath], mode: Mode) -> Source:
    from llmbridge.stores.cassette import Cassette  # noqa: PLC0415  # YAML is loaded late

    if mode in RECORDING:
        raise ConfigurationError(f"mode={mode!r} records into one file, and there are {len(paths)}")
    records = [record for path in paths for record in Cassette.load(path)]
    return Source(Cassette(None, records), records)


def _recording(store: Store, records: list[Record], mode: Mode, *, existed: bool) -> Source:
    playable = records if mode in PLAYING else ()
    # vcrpy's `once`: what was recorded before is complete.
    return Source(store, playable, None if mode == "once" and existed else store)
