"""A store that somebody follows: each interception that ends is told, with its records, beside the calls."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from queue import Full, Queue
from threading import Event, Lock, Thread

from llmbridge.exchange.record import Interception, Record, Store
from llmbridge.exchange.spending import Spent, spent_since

_logger = logging.getLogger("llmbridge")

Ended = tuple[Interception, Sequence[Record]]


class FollowedStore:
    """The store it is given, which also tells of every interception that ends.

    `tell` runs in a thread of its own: neither decoding nor a reader who is slow may hold up a relay. With `limit` a reader
    who is too slow misses some; without one all wait for their turn.
    """

    def __init__(
        self, store: Store, tell: Callable[[Interception, Sequence[Record]], None], limit: int = 0
    ) -> None:
        self._store = store
        self.metrics: object = getattr(store, "metrics", None)
        """The store that counts for Prometheus: this one, or one inside it; else None."""
        self.secrets: frozenset[str] = getattr(store, "secrets", frozenset[str]())
        """What the store's address holds that must be in no record."""
        self.at_once: bool = getattr(store, "at_once", False)
        """True where a start is taken without waiting; to tell of what ended never waits."""
        self._tell = tell
        self._rounds: dict[str, list[Record]] = {}
        self._ended: Queue[Ended | Event | None] = Queue(maxsize=limit)
        self._turn = Lock()
        self._teller: Thread | None = None

    def __repr__(self) -> str:
        return repr(self._store)

    @property
    def followed(self) -> Store:
        """The store it was given."""
        return self._store

    async def begin(self, interception: Interception) -> None:
        """Pass it on, and expect its records."""
        await self._store.begin(interception)
        self._rounds[interception.id] = []

    def add(self, record: Record) -> None:
        """Pass it on, and keep it until its interception ends."""
        self._store.add(record)
        if record.interception_id in self._rounds:
            self._rounds[record.interception_id].append(record)

    def end(self, interception: Interception) -> None:
        """Pass it on, and have it told."""
        self._store.end(interception)
        self._start()
        self._put((interception, self._rounds.pop(interception.id, ())))

    def flush(self) -> None:
        """Return when everything so far is in the store; some may still be to tell."""
        self._store.flush()

    def catch_up(self, timeout_s: float = 5.0) -> None:
        """Return when all that has ended was told, or time is up; a closed store has told it."""
        if self._teller is None:
            return
        told = Event()
        self._put(told)
        told.wait(timeout_s)

    def close(self) -> None:
        """Close the store, tell the last ones. Twice is fine; using it opens it again."""
        try:
            self._store.close()
        finally:
            with self._turn:
                teller, self._teller = self._teller, None
            if teller is not None:
                with suppress(Full):
                    self._ended.put(None, timeout=2)
                teller.join(timeout=2)

    def interceptions(self, **filters: object) -> Sequence[Interception]:
        """Those of the store."""
        return self._store.interceptions(**filters)

    def records(self, **filters: object) -> Sequence[Record]:
        """Those of the store."""
        return self._store.records(**filters)

    @property
    def shared(self) -> bool:
        """True where others may write to the store, too."""
        return bool(getattr(self._store, "shared", False))

    def spent(self, since: datetime) -> Iterator[Spent]:
        """What was taken, as the store has it."""
        return spent_since(self._store, since)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._store)

    def _start(self) -> None:
        with self._turn:
            if self._teller is None or not self._teller.is_alive():
                self._teller = Thread(target=self._work, name="llmbridge follows", daemon=True)
                self._teller.start()

    def _put(self, item: Ended | Event) -> None:
        with suppress(Full):
            self._ended.put_nowait(item)

    def _work(self) -> None:
        while (item := self._ended.get()) is not None:
            if isinstance(item, Event):
                item.set()
                continue
            try:
                self._tell(*item)
            except Exception:  # the next one is told all the same
                _logger.exception("%s could not be told", item[0].id)
