"""Recordings as a provider: the same bytes in the same pieces, at the recorded pace when asked."""

import hashlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import Any

import anyio

from llmbridge.canon.strict_json import loads_strict
from llmbridge.errors import CassetteMiss, ConfigurationError, StreamTruncated
from llmbridge.exchange.call import Call, Reply, Request
from llmbridge.exchange.record import Record
from llmbridge.exchange.redact import Redactor
from llmbridge.exchange.routing import Destination, Router
from llmbridge.wire.loose_json import is_object
from llmbridge.wire.opaque import OPAQUE, OPENAI_MODELS

VOLATILE = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "stream_options",
        "user",
    }
)
"""Top-level keys of a request that do not tell two requests apart."""

_NOT_REPLAYED = ("content-encoding", "transfer-encoding", "connection", "keep-alive")
_SHAPES = Redactor()


@dataclass(slots=True)
class _Track:
    """The recordings of one request, and how many were played."""

    records: list[Record] = field(default_factory=list[Record])
    played: int = 0


class Replay:
    """An upstream that answers from recordings: a path, a folder, a `Cassette`, or any `Store`.

    Requests match by dialect, operation and body, never by host. Recordings of the same request are served in the
    order they were made; after the last one a `strict` replay refuses, another repeats it. `speed` 0 is instant, 1 as
    recorded, 2 twice as fast. Recordings that kept no request answer their dialect in order.
    """

    spends_keys = False

    def __init__(self, source: Any, *, speed: float = 0, strict: bool = True) -> None:
        if speed < 0:
            raise ConfigurationError(
                f"speed={speed!r}: give 0 for instant, 1 for the recorded pace"
            )
        self.store: Iterable[Record] = _open(source)
        self.speed = speed
        self.strict = strict
        self._lock = Lock()
        self._tracks: dict[str, _Track] = defaultdict(_Track)
        self._router = Router()
        for record in self.store:
            self._tracks[self._key_of(record)].records.append(record)

    def __repr__(self) -> str:
        count = sum(len(track.records) for track in self._tracks.values())
        return f"Replay({count} recordings, speed={self.speed:g})"

    async def __call__(self, call: Call) -> Reply:
        """The recording that answers this call.

        Raises:
            CassetteMiss: there is none, or none is left.
        """
        arrived = monotonic()
        record = self._next(call)
        pace = _Pace(arrived, self.speed)
        if record.chunks:
            await pace.reach(record.head_s or record.chunks[0][0])
        headers = record.headers.without(*_NOT_REPLAYED)
        return Reply(record.status, headers, _play(record, pace), replayed=True)

    def _next(self, call: Call) -> Record:
        where = Destination(call.provider, call.dialect, call.target)
        keys = (_key(call.request, where), _unasked(call.dialect.name))
        with self._lock:
            found = [self._tracks[key] for key in keys if key in self._tracks]
            for track in found:
                if track.played < len(track.records):
                    track.played += 1
                    return track.records[track.played - 1]
            if found and not self.strict:
                return found[0].records[-1]
        raise CassetteMiss(self._miss(call, found))

    def _miss(self, call: Call, found: list[_Track]) -> str:
        asked = f"{call.request.method} {call.target} (model {call.model!r})"
        if found:
            return (
                f"every recording of {asked} was played ({len(found[0].records)}):"
                " record more, or replay with strict=False"
            )
        same = sum(
            len(track.records)
            for track in self._tracks.values()
            if track.records[0].dialect == call.dialect.name
        )
        return (
            f"no recording answers {asked}: those of {call.dialect.name} ({same}) have another body;"
            " record this one with Bridge(Live(), store=PATH)"
        )

    def _key_of(self, record: Record) -> str:
        if record.request is None:
            return _unasked(record.dialect)
        return _key(record.request, self._router.destination(record.request))


@dataclass(frozen=True, slots=True)
class _Pace:
    """Absolute deadlines, so that lateness does not add up."""

    start: float
    speed: float

    async def reach(self, seconds: float) -> None:
        if self.speed:
            wait = self.start + seconds / self.speed - monotonic()
            if wait > 0:
                await anyio.sleep(wait)


async def _play(record: Record, pace: _Pace) -> AsyncIterator[bytes]:
    for seconds, chunk in record.chunks:
        await pace.reach(seconds)
        yield chunk
    if record.end != "completed" and record.error:
        raise StreamTruncated(f"the recording breaks off here: {record.error}")


def _open(source: Any) -> Any:
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        from llmbridge.stores.cassette import Cassette  # noqa: PLC0415  # YAML is loaded late

        return Cassette.load(source)
    return source


def _key(request: Request, where: Destination) -> str:
    """What tells requests apart: dialect, operation and canonical body."""
    redacted = _SHAPES.request(request)[0]
    # A dialect's operation may stand at many paths; what has no dialect is told apart by its path.
    operation = where.target if where.dialect in (OPAQUE, OPENAI_MODELS) else ""
    parts = (where.dialect.name, redacted.method.upper(), operation, canonical(redacted.body))
    return hashlib.sha256("\n".join(parts).encode("utf-8", "backslashreplace")).hexdigest()


def _unasked(dialect: str) -> str:
    return f"unasked {dialect}"


def canonical(body: bytes) -> str:
    """The body with sorted keys, without what varies between runs; other bodies as they are."""
    try:
        value = loads_strict(body)
    except ValueError:
        return body.decode("utf-8", "backslashreplace")
    if is_object(value):
        value = {key: item for key, item in value.items() if key not in VOLATILE}
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
