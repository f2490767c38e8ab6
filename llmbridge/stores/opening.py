"""What a bridge's `store` may be: nothing, a path, or a store."""

import os

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.record import Store
from llmbridge.stores.memory import MemoryStore


def open_store(store: Store | str | os.PathLike[str] | None) -> Store:
    """What `Bridge(store=...)` means.

    Raises:
        ConfigurationError: no such store.
    """
    if store is None:
        return MemoryStore()
    if not isinstance(store, str | os.PathLike):
        return store
    path = os.fspath(store)
    if path.endswith((".yaml", ".yml", ".json")):
        from llmbridge.stores.cassette import Cassette  # noqa: PLC0415  # YAML is loaded late

        return Cassette.open(path)
    raise ConfigurationError(
        f"store={path!r}: give a path that ends in .yaml or .json, a Store, or None for memory"
    )
