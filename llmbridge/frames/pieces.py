"""All rows of a source, some at a time: those of one day (UTC) one after the other."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from llmbridge.exchange.columns import FRAMES
from llmbridge.exchange.entry import Entry
from llmbridge.exchange.rows import ROWS
from llmbridge.frames.source import Digesting, Filters, Source, digested, read, wanted_by
from llmbridge.frames.table import cells_of
from llmbridge.stores.arrow import KEY, pa, schema_of
from llmbridge.stores.conditions import Condition, Progress

Piece = tuple[str, Any]
"""A day, `unknown` for what has no start, and some rows of it as an Arrow table, which may have more columns."""

UNKNOWN = "unknown"

_PAGE = 500
_DAY = timedelta(days=1)


class Pieces(Protocol):
    """What a source has at one moment: the frames fit together."""

    def of(self, frame: str) -> Iterator[Piece]:
        """The rows of a frame."""
        ...


def pieces_of(source: Source, since: datetime | None, progress: Progress | None) -> Pieces:
    """The rows of the calls that began then or later.

    Raises:
        ConfigurationError: there is no such source.
        CassetteError: a recording cannot be read.
    """
    filters: Filters = {} if since is None else {"since": since}
    store = digested(source)
    if store is None:
        return _OfEntries(read(source, filters), progress)
    store.flush()
    store.digests.catch_up(progress)
    return _OfStore(store, filters, progress)


def day_of(start: datetime | None) -> str:
    """The day of a call."""
    return UNKNOWN if start is None else start.astimezone(UTC).date().isoformat()


def rows_of(frame: str, entries: Iterable[Entry], schema: Any = None) -> Any:
    """The rows of entries as an Arrow table, behind the key that a store orders them by."""
    schema = schema or schema_of((*KEY, *FRAMES[frame][1:]))
    cells: dict[str, list[object]] = {column: [] for column in schema.names}
    for entry in entries:
        found = cells_of(FRAMES[frame], ROWS[frame]([entry]))
        count = len(found["interception_id"])
        found["begun_at"] = [entry.started_at] * count
        found["number"] = list(range(count))
        for column, sofar in cells.items():
            sofar += found[column]
    return pa.table(cells, schema)


class _OfEntries:
    """Of calls in memory."""

    def __init__(self, entries: Iterable[Entry], progress: Progress | None = None) -> None:
        self._progress = progress
        self._days: dict[str, list[Entry]] = {}
        for entry in entries:
            self._days.setdefault(day_of(entry.started_at), []).append(entry)

    def of(self, frame: str) -> Iterator[Piece]:
        """The rows of a frame."""
        done, total = 0, sum(map(len, self._days.values()))
        for day in list(self._days):
            for piece in self.of_day(frame, day):
                yield piece
                done += min(_PAGE, len(self._days[day]))
                if self._progress and frame == "events":
                    self._progress(min(done, total), total)

    def of_day(self, frame: str, day: str) -> Iterator[Piece]:
        """Those of one day."""
        entries = self._days.get(day, [])
        for start in range(0, len(entries), _PAGE):
            yield day, rows_of(frame, entries[start : start + _PAGE])

    @property
    def days(self) -> Sequence[str]:
        """All there are."""
        return list(self._days)


class _OfStore:
    """Of a store that digests: what it has digested day by day, and behind that what it has not."""

    def __init__(self, store: Digesting, filters: Filters, progress: Progress | None) -> None:
        self._digests, self._progress = store.digests, progress
        wanted = wanted_by(filters)
        rest = [entry for entry in self._digests.rest() if wanted(entry)]
        self._rest = _OfEntries(rest)
        # Who ends while this is written has a digest then, too.
        self._taken = pa.array([entry.id for entry in rest], pa.large_string())
        since = filters.get("since")
        self._where = [] if since is None else [Condition("begun_at", "start", since)]
        last = self._digests.last_start()
        if last is not None:
            self._where.append(Condition("begun_at", "end", last + timedelta(microseconds=1)))

    def of(self, frame: str) -> Iterator[Piece]:
        """The rows of a frame."""
        before, done = None, set[str]()
        for day, table in self._digested(frame):
            if before not in (day, None):
                yield from self._rest.of_day(frame, before)
            before = day
            done.add(day)
            yield day, table
        for day in self._rest.days:
            if day not in done or day == before:
                yield from self._rest.of_day(frame, day)

    def _digested(self, frame: str) -> Iterator[Piece]:
        if frame == "events":
            yield from self._events()
            return
        columns = [column.name for column in FRAMES[frame]]
        for batch in self._batches(frame, columns):
            yield from _by_day(batch)

    def _events(self) -> Iterator[Piece]:
        done, total = 0, self._digests.count(self._where)
        for batch in self._batches("interceptions", ()):
            for day, calls in _by_day(batch):
                ids = calls.column("interception_id").to_pylist()
                for start in range(0, len(ids), _PAGE):
                    page = ids[start : start + _PAGE]
                    yield day, rows_of("events", self._digests.entries(page))
                    done += len(page)
                    if self._progress:
                        self._progress(min(done, total), total)

    def _batches(self, frame: str, columns: Sequence[str]) -> Iterator[Any]:
        for batch in self._digests.batches(frame, columns, self._where):
            table = pa.Table.from_batches([batch])
            if len(self._taken):
                ids = pa.compute.is_in(table.column("interception_id"), self._taken)
                table = table.filter(pa.compute.invert(ids))
            yield table


def _by_day(table: Any) -> Iterator[Piece]:
    """The rows, which come by their start, cut at midnight."""
    start = 0
    while start < len(table):
        first = table.column("begun_at")[start].as_py()
        midnight = first.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
        rest = table.slice(start).column("begun_at")
        later = pa.compute.index(pa.compute.greater_equal(rest, midnight), value=True).as_py()
        count = len(rest) if later < 0 else later
        yield day_of(first), table.slice(start, count)
        start += count
