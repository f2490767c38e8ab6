"""What a replay records: the calls that went to the upstream, failures only where they were the end of it."""

from collections.abc import Callable
from threading import Lock

from llmbridge.exchange.record import Record, Store


class Keeper:
    """Passes finished records on to a store.

    With `retries_apart` an answer of status 400 and more waits: it is dropped when the same request succeeds later, and
    kept by `settle` when it never did.
    """

    def __init__(
        self, store: Store, key_of: Callable[[Record], str], *, retries_apart: bool
    ) -> None:
        self.recorded: list[Record] = []
        self._store = store
        self._key_of = key_of
        self._retries_apart = retries_apart
        self._failed: dict[str, list[Record]] = {}
        self._lock = Lock()

    def add(self, record: Record) -> None:
        """Take a finished exchange."""
        with self._lock:
            if self._retries_apart:
                key = self._key_of(record)
                if record.status >= 400:
                    self._failed.setdefault(key, []).append(record)
                    return
                self._failed.pop(key, None)
            self._keep(record)

    def flush(self) -> None:
        """Return when what was passed on is durable."""
        self._store.flush()

    def settle(self) -> None:
        """Keep the failures that stayed failures, and flush."""
        with self._lock:
            failed, self._failed = self._failed, {}
            for records in failed.values():
                for record in records:
                    self._keep(record)
        self._store.flush()

    def _keep(self, record: Record) -> None:
        self.recorded.append(record)
        self._store.add(record)
