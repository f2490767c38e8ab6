"""What a bridge's `store` may be: nothing, a path, the URL of a database, or a store."""

import os
from pathlib import Path
from typing import TypeGuard

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.printable import without_password
from llmbridge.exchange.record import Store
from llmbridge.stores.cassette_path import WRITTEN_SUFFIXES, check_place
from llmbridge.stores.memory import MemoryStore

_WANTED = (
    "give a path that ends in .yaml or .json, a URL such as 'sqlite:///usage.db' or"
    " 'postgresql://user@host/database', a Store, or None for memory"
)


def open_store(store: Store | str | os.PathLike[str] | None) -> Store:
    """What `Bridge(store=...)` means.

    Raises:
        ConfigurationError: no such store.
        CassetteError: the file cannot be read, or not be written.
    """
    if store is None:
        return MemoryStore()
    if not isinstance(store, str | os.PathLike):
        if not hasattr(store, "begin") or not hasattr(store, "records"):
            raise ConfigurationError(f"store={store!r}: {_WANTED}")
        return store
    path = os.fspath(store)
    if path.endswith(WRITTEN_SUFFIXES):
        from llmbridge.stores.cassette import Cassette  # noqa: PLC0415  # YAML is loaded late

        check_place(Path(path))
        return Cassette.open(path)
    if is_url(path):
        from llmbridge.stores.sql import SqlStore  # noqa: PLC0415  # SQLAlchemy is loaded late

        return SqlStore(path)
    raise ConfigurationError(f"store={without_password(path)!r}: {_WANTED}")


def is_url(source: object) -> TypeGuard[str]:
    """True for the URL of a database."""
    return isinstance(source, str) and "://" in source


def existing_store(url: str) -> Store:
    """The database of this URL, to read what is there; nothing is held open.

    Raises:
        ConfigurationError: there is none, or it is none that can be read.
    """
    from llmbridge.stores.sql import existing  # noqa: PLC0415  # SQLAlchemy is loaded late

    return existing(url)
