"""A log of what clients asked: one line when an interception ends."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from queue import Full, Queue
from threading import Thread

from llmbridge.canon.messages import Usage
from llmbridge.exchange.printable import one_line
from llmbridge.exchange.record import Interception, Record, Store

_Ended = tuple[Interception, Sequence[Record]]


class LoggedStore:
    """The store it is given, which also says a line about every interception that ends.

    Lines are written by a thread of their own: neither decoding nor a reader who is slow may hold up a relay. A reader
    who is too slow misses lines.
    """

    def __init__(self, store: Store, say: Callable[[str], None]) -> None:
        self._store = store
        self._say = say
        self._rounds: dict[str, list[Record]] = {}
        self._ended: Queue[_Ended | None] = Queue(maxsize=1000)
        self._writer = Thread(target=self._write, name="llmbridge log", daemon=True)
        self._writer.start()

    def __repr__(self) -> str:
        return repr(self._store)

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
        """Pass it on, and have the line written."""
        self._store.end(interception)
        self._put((interception, self._rounds.pop(interception.id, ())))

    def flush(self) -> None:
        """Return when everything so far is in the store; lines may still come."""
        self._store.flush()

    def close(self) -> None:
        """Close the store, write the last lines. Twice is fine."""
        try:
            self._store.close()
        finally:
            self._put(None)
            self._writer.join(timeout=2)

    def interceptions(self, **filters: object) -> Sequence[Interception]:
        """Those of the store."""
        return self._store.interceptions(**filters)

    def records(self, **filters: object) -> Sequence[Record]:
        """Those of the store."""
        return self._store.records(**filters)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._store)

    def _put(self, item: _Ended | None) -> None:
        try:
            self._ended.put_nowait(item)
        except Full:
            return

    def _write(self) -> None:
        while (item := self._ended.get()) is not None:
            self._say(log_line(*item))


def log_line(interception: Interception, records: Sequence[Record]) -> str:
    """Start (UTC), request, who answered, how it ended, tokens in and out, duration; then the error, if any."""
    ended = interception.ended_at or interception.started_at
    words = (
        f"{interception.started_at:%Y-%m-%dT%H:%M:%SZ}",
        interception.request.method,
        interception.request.path,
        interception.provider or "-",
        interception.model or "-",
        str(interception.status or "-"),
        interception.end or "-",
        _tokens(records),
        f"{(ended - interception.started_at).total_seconds():.3f}s",
    )
    error = f": {interception.error}" if interception.error else ""
    return one_line(" ".join(words) + error, limit=1000)


def _tokens(records: Sequence[Record]) -> str:
    # Copies: a decoded message stays with its record, and the store keeps the record.
    messages = [replace(record).message for record in records]
    usages = [message.usage for message in messages if message and message.usage]
    if not usages:
        return "-"
    return f"{sum(map(_tokens_in, usages))}+{sum(usage.output_tokens or 0 for usage in usages)}tok"


def _tokens_in(usage: Usage) -> int:
    return (
        (usage.input_tokens or 0) + (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    )
