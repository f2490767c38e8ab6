"""Several answers of a provider as one: what the bridge's own tools were called for is taken out, the rest renumbered.

Events that need no change keep their bytes, and those that are changed keep every field. Pure; one file a dialect.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Protocol

from llmbridge.canon.events import Delta, Snapshot, fold
from llmbridge.canon.messages import AssistantMessage, JsonObject, ToolCall
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.loose_json import is_object
from llmbridge.wire.sse import SSE, SSEDecoder, encode_sse

Shown = Sequence[tuple[SSE | None, bool]]
"""What the client gets for one event: None is the event as it came; True: it belongs to the end of the answer."""

AS_IT_CAME: Shown = ((None, False),)
ENDING: Shown = ((None, True),)


class Rounds(Protocol):
    """One answer made of several; state of one client's question."""

    heard: "Heard"
    """This round's answer."""
    hides: bool
    """True once this round called a tool of ours."""

    def begin(self) -> None:
        """The next round comes."""
        ...

    def feed(self, sse: SSE) -> Shown:
        """One event of a streamed round."""
        ...

    def whole(self, body: dict[str, Any]) -> None:
        """A round that came in one piece."""
        ...

    def answer(self) -> JsonObject:
        """All rounds as one body, once each came in one piece."""
        ...

    def turn(self) -> list[JsonObject]:
        """What the model said in this round, as a request tells it again."""
        ...

    def names(self) -> list[str]:
        """The ids by which the client will bring this answer back."""
        ...


class Heard:
    """One round's answer in canon, as it grows."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._decoder = dialect.decoder()
        self._snapshot = Snapshot()
        self._whole: AssistantMessage | None = None

    def feed(self, sse: SSE) -> list[Delta]:
        """What this event means."""
        return self._take(self._decoder.feed(sse))

    def whole(self, body: bytes) -> None:
        """The round in one piece."""
        self._whole = fold(self._dialect.decode_reply(body))

    def close(self) -> None:
        """The end of the round's bytes."""
        if self._whole is None:
            self._take(self._decoder.close())

    @property
    def message(self) -> AssistantMessage:
        """What was said so far."""
        return self._snapshot.message if self._whole is None else self._whole

    def _take(self, deltas: Iterable[Delta]) -> list[Delta]:
        taken = list(deltas)
        for delta in taken:
            self._snapshot.apply(delta)
        return taken


class Splice:
    """A round's bytes on their way to the client, event by event.

    The end of a round that called us is held back; with `until_kept` every end, since a client may leave with it.
    """

    def __init__(self, rounds: Rounds, *, until_kept: bool) -> None:
        self._rounds = rounds
        self._until_kept = until_kept
        self._sse = SSEDecoder()
        self._held: list[bytes] = []

    def feed(self, event: bytes) -> bytes:
        """The bytes for the client; `event` is one whole event, or the last one left open."""
        return self._shown(event, self._sse.feed(event))

    def close(self, rest: bytes) -> bytes:
        """The same for what the stream left open at its end."""
        self._sse.feed(rest)
        ended = self._shown(rest, self._sse.close()) if rest else b""
        self._rounds.heard.close()
        return ended

    def held(self) -> bytes:
        """What was held back: for the client after all where no other round follows."""
        return b"".join(self._held)

    def _shown(self, event: bytes, told: list[SSE]) -> bytes:
        if not told:
            # A comment, or blank lines.
            return event
        now: list[bytes] = []
        for sse in told:
            for shown, ending in self._rounds.feed(sse):
                piece = event if shown is None else encode_sse(shown)
                hold = ending and (self._until_kept or self._rounds.hides)
                (self._held if hold else now).append(piece)
        return b"".join(now)


def is_ours(call: ToolCall, ours: Container[str]) -> bool:
    """True for a call that the bridge has to run."""
    return call.name in ours and not call.server and not call.custom


def spelled(sse: SSE, data: JsonObject) -> SSE:
    """The event with other data."""
    return SSE(sse.event, dump(data).decode())


def added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two objects of numbers as their sum, also inside; of what is no number the later one stays."""
    both = dict(one)
    for key, value in other.items():
        before = both.get(key)
        if _is_number(before) and _is_number(value):
            both[key] = before + value
        elif is_object(before) and is_object(value):
            both[key] = added(before, value)
        elif value is not None or key not in both:
            both[key] = value
    return both


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
