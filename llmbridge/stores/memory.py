"""Interceptions and records in memory, for as long as the process lives."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from threading import Lock

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.record import Interception, Record
from llmbridge.stores.filters import by_start, matching

_OVERHEAD = 2048
"""About what an interception or a record takes beside its bodies, in bytes."""


@dataclass(slots=True)
class _Kept:
    """One interception with the places of its records."""

    interception: Interception | None = None
    places: list[int] = field(default_factory=list[int])
    bytes: int = 0

    @property
    def ended(self) -> bool:
        return self.interception is None or self.interception.end is not None


class MemoryStore:
    """Keeps everything, or with `max_bytes` the newest: the oldest ended interceptions go first, whole."""

    at_once = True

    def __init__(self, max_bytes: int | None = None) -> None:
        if max_bytes is not None and max_bytes <= 0:
            raise ConfigurationError(f"max_bytes={max_bytes!r}: give a positive number or None")
        self.max_bytes = max_bytes
        self._kept: dict[str, _Kept] = {}
        self._records: dict[int, Record] = {}
        self._next = 0
        self._bytes = 0
        self._lock = Lock()

    async def begin(self, interception: Interception) -> None:
        """Take the start of an interception."""
        self._take(interception)

    def add(self, record: Record) -> None:
        """Take a finished exchange."""
        with self._lock:
            kept = self._kept.setdefault(record.interception_id, _Kept())
            kept.places.append(self._next)
            self._records[self._next] = record
            self._next += 1
            self._grow(kept, _size_bytes(record))

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
            found = [kept.interception for kept in self._kept.values() if kept.interception]
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
        with self._lock:
            kept = self._kept.setdefault(interception.id, _Kept())
            size = 0 if kept.interception else _OVERHEAD + len(interception.request.body)
            kept.interception = interception
            self._grow(kept, size)

    def _grow(self, kept: _Kept, size: int) -> None:
        kept.bytes += size
        self._bytes += size
        while self.max_bytes is not None and self._bytes > self.max_bytes:
            others = (id for id, each in self._kept.items() if each.ended and each is not kept)
            oldest = next(others, None)
            if oldest is None:
                return
            dropped = self._kept.pop(oldest)
            self._bytes -= dropped.bytes
            for place in dropped.places:
                del self._records[place]


def _size_bytes(record: Record) -> int:
    asked = len(record.request.body) if record.request else 0
    return _OVERHEAD + asked + sum(len(chunk) for _, chunk in record.chunks)
