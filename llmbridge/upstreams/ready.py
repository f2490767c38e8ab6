"""A recording made ready to be played: what is the same each time that it answers."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace

from llmbridge.errors import End
from llmbridge.exchange.call import Call, Headers, Reply, Whole
from llmbridge.exchange.framing import framed
from llmbridge.exchange.record import Record
from llmbridge.exchange.redact import Redactor
from llmbridge.upstreams.pace import Pace

Due = tuple[float, Sequence[float]]
"""When the head and each piece are due, in seconds since the request."""

_BROKEN: frozenset[End] = frozenset(
    {"truncated", "client_gone", "interrupted", "bridge_shutdown", "bridge_limit"}
)
_JOINED_BYTES = 32 * 1024
_NOT_REPLAYED = ("content-encoding", "transfer-encoding", "connection", "keep-alive")


@dataclass(frozen=True, slots=True)
class Ready:
    """`pieces` come at once, several at a time where they are `joined`, or as they are `due`.

    What is `known` was looked through: `vetted_by` has found no secret in it, and where it is `whole` its end is certain.
    """

    status: int
    headers: Headers
    pieces: Sequence[bytes]
    due: Due | None
    joined: bool = False
    known: bool = False
    vetted_by: Redactor | None = None
    whole: Whole | None = None

    def reply(self, chunks: AsyncIterator[bytes]) -> Reply:
        """These chunks as an answer."""
        reply = Reply(self.status, self.headers, chunks)
        reply.replayed, reply.at_once = True, self.due is None
        reply.vetted_by = self.vetted_by
        return reply

    def at_one_go(self, whole: Whole) -> Reply:
        """The answer whose end is known."""
        reply = self.reply(_Walk(whole))
        reply.framed, reply.whole = True, whole
        return reply


class _Walk:
    """All pieces, one after the other; with the last of them the end is certain."""

    __slots__ = ("_place", "_whole", "settled")

    def __init__(self, whole: Whole) -> None:
        self._whole = whole
        self._place = 0
        self.settled: End | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        place, pieces = self._place, self._whole.pieces
        self._place = place + 1
        if place + 1 >= len(pieces):
            self.settled = self._whole.end
        if place >= len(pieces):
            raise StopAsyncIteration
        return pieces[place]


def as_it_is(record: Record, pace: Pace, call: Call) -> Ready:
    """What is sent, and when."""
    pieces = tuple(chunk for _, chunk in record.chunks)
    due = pace.due(record)
    # A socket joins what is there at once; the pieces that a client in this process sees are kept.
    together = due is None and call.request.caller.frontend == "server"
    return Ready(record.status, record.headers.without(*_NOT_REPLAYED), pieces, due, together)


async def looked_through(ready: Ready, record: Record, call: Call, redactor: Redactor) -> Ready:
    """The same, with what is to be known of its bytes; waits for nothing."""
    ready = replace(ready, known=True)
    if sum(map(len, ready.pieces)) > _JOINED_BYTES:
        # The first byte of a long one must not wait for its last.
        return ready
    headers, chunks, *_ = redactor.answer(ready.headers, record.chunks, None)
    if headers is ready.headers and chunks is record.chunks:
        ready = replace(ready, vetted_by=redactor)
    if ready.due is not None or broken_by(record):
        return ready
    seen = framed(call.dialect, call.streaming, ready.reply(_each(ready.pieces)))
    ended = [piece async for piece in seen]
    if seen.error is not None:
        return ready
    pieces = tuple(joined(ended) if ready.joined else ended)
    return replace(ready, pieces=pieces, whole=Whole(pieces, seen.settled))


def broken_by(record: Record) -> str | None:
    """Why the recording stops before its end, where it does."""
    if record.end in _BROKEN or (record.end != "completed" and record.error):
        return record.error or record.end.replace("_", " ")
    return None


async def _each(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def joined(pieces: Sequence[bytes]) -> Iterator[bytes]:
    """The pieces, several at a time."""
    waiting: list[bytes] = []
    size = 0
    for chunk in pieces:
        waiting.append(chunk)
        size += len(chunk)
        if size >= _JOINED_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
