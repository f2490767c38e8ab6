"""Interceptions and records in memory, for as long as the process lives."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from threading import Lock

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.record import Interception, Record
from llmbridge.stores.filters import by_start, matching

_OVERHEAD = 2048
"""About what an interception or a record takes beside its bodies, in bytes."""


class MemoryStore:
    """Keeps everything, or with `max_bytes` the newest: the oldest ended interceptions go first, whole."""

    at_once = True

    def __init__(self, max_bytes: int | None = None) -> None:
        if max_bytes is not None and max_bytes <= 0:
            raise ConfigurationError(f"max_bytes={max_bytes!r}: give a positive number or None")
        self.max_bytes = max_bytes
        # Flat, since each object beside the two would be one more for the garbage collector, for ever.
        # Ordered: of a plain dict the first key is the slower to find the more were dropped before it.
        self._kept = OrderedDict[str, Interception | None]()
        self._places: dict[str, tuple[int, ...]] = {}
        self._records: dict[int, Record] = {}
        self._next = 0
        self._bytes = 0
        self._lock = Lock()

    async def begin(self, interception: Interception) -> None:
        """Take the start of an interception."""
        self._take(interception)

    def add(self, record: Record) -> None:
        """Take a finished exchange."""
        id = record.interception_id
        with self._lock:
            self._kept.setdefault(id)
            self._places[id] = (*self._places.get(id, ()), self._next)
            self._records[self._next] = record
            self._next += 1
            self._grow(id, _size_bytes(record))

    def end(self, interception: Interception) -> None:
        """Take the interception as it ended."""
        self._take(interception)

    def flush(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Nothing to let go of; what is kept stays readable."""

    def interceptions(self, **filters: object) -> list[Interception]:
        """Interceptions by start time.

        Raises:
            ConfigurationError: no such filter.
        """
        with self._lock:
            found = [kept for kept in self._kept.values() if kept is not None]
        return by_start(matching(Interception, found, filters))

    def records(self, **filters: object) -> list[Record]:
        """Records in the order they were made.

        Raises:
            ConfigurationError: no such filter.
        """
        return matching(Record, self._all(), filters)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._records)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        limit = "" if self.max_bytes is None else f", max_bytes={self.max_bytes}"
        return f"MemoryStore({len(self._kept)} interceptions, {len(self._records)} records{limit})"

    def _all(self) -> Iterable[Record]:
        with self._lock:
            return list(self._records.values())

    def _take(self, interception: Interception) -> None:
        id = interception.id
        with self._lock:
            before, self._kept[id] = self._kept.get(id), interception
            if before is None:
                self._grow(id, _OVERHEAD + len(interception.request.body))

    def _grow(self, id: str, size: int) -> None:
        self._bytes += size
        while self.max_bytes is not None and self._bytes > self.max_bytes:
            for oldest, kept in self._kept.items():
                if oldest != id and (kept is None or kept.end is not None):
                    break
            else:
                return
            dropped = self._kept.pop(oldest)
            if dropped is not None:
                self._bytes -= _OVERHEAD + len(dropped.request.body)
            for place in self._places.pop(oldest, ()):
                self._bytes -= _size_bytes(self._records.pop(place))


def _size_bytes(record: Record) -> int:
    size = _OVERHEAD if record.request is None else _OVERHEAD + len(record.request.body)
    for _, chunk in record.chunks:
        size += len(chunk)
    return size
