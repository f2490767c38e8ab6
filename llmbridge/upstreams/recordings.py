"""The recordings of a replay by what they answer, and what was played of them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, Literal

from llmbridge.exchange.call import Request
from llmbridge.exchange.difference import same_start
from llmbridge.exchange.matching import Asked, Matcher
from llmbridge.exchange.record import Record
from llmbridge.exchange.routing import Router
from llmbridge.providers import dialect_named
from llmbridge.wire.loose_json import is_list, is_object
from llmbridge.wire.opaque import OPAQUE

Repeat = Literal["error", "last", "cycle"]
"""What answers a request once all its recordings were played: nothing, the last of them, or all of them again."""


_ABSENT = object()


def unasked(dialect: str) -> str:
    """The key of recordings of a dialect that kept no request."""
    return f"unasked {dialect}"


@dataclass(eq=False, slots=True)
class _Track:
    """Where the recordings of one request stand, in the order they were made."""

    places: list[int] = field(default_factory=list[int])


@dataclass(slots=True)
class _Session:
    """What one session has played."""

    played: set[int] = field(default_factory=set[int])
    positions: dict[_Track, int] = field(default_factory=dict[_Track, int])
    again: dict[_Track, int] = field(default_factory=dict[_Track, int])

    def next(self, track: _Track) -> int | None:
        """The first place not yet played; a place may be on two tracks."""
        position = self.positions.get(track, 0)
        while position < len(track.places) and track.places[position] in self.played:
            position += 1
        self.positions[track] = position + 1
        if position >= len(track.places):
            return None
        self.played.add(track.places[position])
        return track.places[position]

    def repeat(self, track: _Track, how: Repeat) -> int:
        """A place that was played before."""
        count = self.again[track] = self.again.get(track, -1) + 1
        return track.places[count % len(track.places) if how == "cycle" else -1]


class Recordings:
    """Records, found by key and provider; each session plays them in order from the first on."""

    def __init__(self, records: Iterable[Record], matcher: Matcher, repeat: Repeat) -> None:
        self.all = tuple(records)
        self.played: list[Record] = []
        self._matcher = matcher
        self._repeat: Repeat = repeat
        self._router = Router()
        self._lock = Lock()
        self._used: dict[int, None] = {}
        self._sessions: dict[str | None, _Session] = defaultdict(_Session)
        self._tracks: dict[tuple[str, str | None], _Track] = defaultdict(_Track)
        self._asked: list[tuple[Asked, Record]] | None = None
        for place, record in enumerate(self.all):
            key = self.key(record)
            self._tracks[key, record.provider].places.append(place)
            self._tracks[key, None].places.append(place)

    @property
    def used(self) -> list[Record]:
        """Those that were played, each once, in the order in which that was first."""
        with self._lock:
            return [self.all[place] for place in self._used]

    @property
    def unused(self) -> list[Record]:
        """Those that nobody asked for, in order."""
        with self._lock:
            return [record for place, record in enumerate(self.all) if place not in self._used]

    def next(self, keys: Sequence[str], provider: str, session: str | None) -> Record | None:
        """What answers one of these keys now; the provider's own recordings before those of others."""
        with self._lock:
            mine = self._sessions[session]
            tracks = self._found(keys, provider)
            for track in tracks:
                place = mine.next(track)
                if place is not None:
                    return self._play(place)
            if tracks and self._repeat != "error":
                return self._play(mine.repeat(tracks[0], self._repeat))
        return None

    def count(self, keys: Sequence[str], provider: str) -> int:
        """How many recordings answer one of these keys."""
        return sum(len(track.places) for track in self._found(keys, provider))

    def rewind(self, session: str | None) -> None:
        """Let a session begin anew."""
        with self._lock:
            self._sessions.pop(session, None)

    def key(self, record: Record) -> str:
        """What the request of a record is found by."""
        if record.request is None:
            return unasked(record.dialect)
        return self._asked_of(record.request, record.dialect).key

    def nearest(self, asked: Asked) -> tuple[Asked, Record] | None:
        """The recording of the same dialect whose request is most like this one; of two alike one not yet played."""
        if self._asked is None:
            self._asked = [
                (self._asked_of(record.request, record.dialect), record)
                for record in self.all
                if record.request is not None
            ]
        with self._lock:
            played = {id(self.all[place]) for place in self._used}
        same = [each for each in self._asked if each[0].dialect == asked.dialect]
        return max(
            same,
            key=lambda each: _likeness(each[0], asked, unplayed=id(each[1]) not in played),
            default=None,
        )

    def _found(self, keys: Sequence[str], provider: str) -> list[_Track]:
        found: list[_Track] = []
        for key in keys:
            track = self._tracks.get((key, provider)) or self._tracks.get((key, None))
            if track is not None:
                found.append(track)
        return found

    def _play(self, place: int) -> Record:
        self._used[place] = None
        self.played.append(self.all[place])
        return self.all[place]

    def _asked_of(self, request: Request, dialect: str) -> Asked:
        where = self._router.destination(request)
        if dialect != OPAQUE.name:
            # A provider of the user's own may give paths a meaning that is not known here.
            where = replace(where, dialect=dialect_named(dialect))
        return self._matcher.asked(request, where)


def _likeness(one: Asked, other: Asked, *, unplayed: bool) -> tuple[bool, int, int, bool, int]:
    """The larger, the more alike: the operation first, then the messages from the beginning, then the other keys."""
    return (
        one.operation == other.operation,
        _same_turns(one.body, other.body),
        -_different_keys(one.body, other.body),
        unplayed,
        same_start(one.spelled, other.spelled),
    )


def _same_turns(one: Any, other: Any) -> int:
    count = 0
    for mine, theirs in zip(_turns(one), _turns(other), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _turns(body: Any) -> list[Any]:
    if is_object(body):
        for name in ("messages", "input", "contents"):
            turns = body.get(name)
            if is_list(turns):
                return turns
    return []


def _different_keys(one: Any, other: Any) -> int:
    if not (is_object(one) and is_object(other)):
        return 0
    return sum(one.get(key, _ABSENT) != other.get(key, _ABSENT) for key in {*one, *other})
