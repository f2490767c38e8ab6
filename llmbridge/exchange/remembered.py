"""What was worked out before, kept for the next time that the same is asked. Bounded."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")

LIMIT_BYTES = 16 * 1024 * 1024
"""Of all that is remembered together."""

LARGEST_BYTES = 64 * 1024
"""What is larger is not looked up: to hash it costs about as much as it spares."""

OVERHEAD_BYTES = 2048
"""About what is remembered of a request beside its own size."""


class Remembered(Generic[V]):
    """Values by key, each with the size of what it keeps alive; the oldest go when all are too large."""

    __slots__ = ("_bytes", "_found", "_limit_bytes", "_lock")

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        # Of a plain dict the first key is the slower to find the more were dropped before it.
        self._found = OrderedDict[Hashable, tuple[V, int]]()
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: Hashable) -> V | None:
        """What was remembered; None where nothing was."""
        found = self._found.get(key)
        return found[0] if found is not None else None

    def put(self, key: Hashable, value: V, size_bytes: int) -> V:
        """Remember it; gives it back."""
        with self._lock:
            before = self._found.pop(key, None)
            self._found[key] = (value, size_bytes)
            self._bytes += size_bytes - (before[1] if before else 0)
            while self._bytes > self._limit_bytes:
                self._bytes -= self._found.popitem(last=False)[1][1]
        return value
