"""A request that no recording answers: what differs, what was played, how to record it."""

from collections.abc import Sequence
from dataclasses import dataclass

from llmbridge.exchange.call import Call, Request
from llmbridge.exchange.difference import Difference, differences, in_words
from llmbridge.exchange.matching import Asked
from llmbridge.exchange.record import Record
from llmbridge.upstreams.recordings import Recordings

_RECORD = (
    "record it with Replay(..., mode={0!r}), bridge.cassette(..., mode={0!r}), llmbridge serve --mode {0}"
    " or pytest --llm-record={0}"
)
_FIRST = _RECORD.format("new_episodes")
_AGAIN = f"{_RECORD.format('rewrite')}, which records all anew; new_episodes adds to what is there"
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Miss:
    """What was asked in vain, secrets already out. `nearest` is the recording most like it, and how that differs.

    `exhausted` says that there are recordings of this request, and all were played.
    """

    message: str
    request: Request
    provider: str
    dialect: str
    model: str
    session: str | None
    nearest: Record | None = None
    differences: tuple[Difference, ...] = ()
    exhausted: bool = False

    def __repr__(self) -> str:
        return f"Miss({self.message})"


def explain(
    call: Call, asked: Asked, keys: Sequence[str], recordings: Recordings, session: str | None
) -> Miss:
    """Say why this call was not answered; `asked` is what may be shown of it."""
    what = f"{call.request.method} {asked.operation.partition(' ')[2] or call.target.partition('?')[0]}"
    what += f" (model {call.model!r})" if call.model else ""
    what += f" in session {session!r}" if session else ""
    count = recordings.count(keys, call.provider.name)
    near, differing = None, tuple[Difference, ...]()
    if count:
        why = f"every recording of {what} was played ({count}); let it repeat with strict=False"
    else:
        why = f"no recording answers {what}"
        found = recordings.nearest(asked)
        if found:
            near, differing = found[1], _differing(found[0], asked)
            shown = in_words(differing) or "what was redacted in it"
            why += f": the nearest, {near.interception_id}, differs in {shown}"
        else:
            why += f": {_there_are(recordings, asked.dialect)}"
    parts = (why, _played(recordings), _AGAIN) if recordings.all else (why, _FIRST)
    message = "; ".join(parts)
    kept = call.received.kept if call.received else call.request
    names = call.provider.name, call.dialect.name, call.model
    return Miss(message, kept, *names, session, near, differing, bool(count))


def _differing(recorded: Asked, now: Asked) -> tuple[Difference, ...]:
    operation: tuple[Difference, ...] = ()
    if recorded.operation != now.operation:
        operation = (Difference("the operation", recorded.operation, now.operation),)
    return (*operation, *differences(recorded.body, now.body))


def _there_are(recordings: Recordings, dialect: str) -> str:
    dialects = sorted({record.dialect for record in recordings.all})
    if not dialects:
        return "nothing is recorded yet"
    return f"there is none of {dialect}, only of {', '.join(dialects)}"


def _played(recordings: Recordings) -> str:
    played = list(dict.fromkeys(record.interception_id for record in recordings.used))
    if not played:
        return f"none of {len(recordings.all)} was played before"
    named = ", ".join(played[-_NAMED:])
    last = "" if len(played) <= _NAMED else "the last "
    return f"{len(played)} of {len(recordings.all)} were played before ({last}{named})"
