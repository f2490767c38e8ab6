"""What exchanges took, in tokens and dollars."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from llmbridge.canon.messages import (
    AssistantMessage,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from llmbridge.exchange.entry import answer, asked
from llmbridge.exchange.record import Interception, Record, Store
from llmbridge.exchange.rows import cost_of

CHARACTERS_PER_TOKEN = 4
"""What is taken for a token where an answer does not say how many there were."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What was taken on a day (UTC) by an actor, empty where none is known, of the model that was asked for.

    `usd` leaves out what has no known price. The guessed parts of both are what no answer says, and no store can sum.
    """

    actor: str
    model: str
    day: date
    tokens: int
    usd: float
    guessed_tokens: int = 0
    guessed_usd: float = 0.0

    @property
    def guessed(self) -> "Spent":
        """What was guessed, alone."""
        return replace(self, tokens=self.guessed_tokens, usd=self.guessed_usd)

    def plus(self, other: "Spent | None") -> "Spent":
        """Both together, of the same actor, model and day."""
        if other is None:
            return self
        return replace(self, tokens=self.tokens + other.tokens, usd=self.usd + other.usd)

    @property
    def told(self) -> "Spent":
        """What was told, alone."""
        tokens, usd = self.tokens - self.guessed_tokens, self.usd - self.guessed_usd
        return Spent(self.actor, self.model, self.day, tokens, usd)


def spent_in(record: Record, actor: str, model: str) -> Spent | None:
    """What an exchange took; None where it was nothing. Looking up what was made before takes nothing.

    Where the answer does not say how much, or was cut before it could, that is guessed from its text.
    """
    # A copy: a decoded message stays with its record, and the store keeps the record.
    record = replace(record)
    if record.request is not None and record.request.method != "POST":
        return None
    message = answer(record)
    if message is None or record.started_at is None:
        return None
    day = record.started_at.astimezone(UTC).date()
    told = message.usage or Usage()
    usage = told
    if message.usage is None or record.end != "completed":
        usage = _at_least(message.usage, record, message)
    tokens = _total(usage)
    if not tokens:
        return None
    usd = cost_of(record, replace(message, usage=usage)) or 0.0
    if usage is told:
        return Spent(actor, model, day, tokens, usd)
    told_usd = cost_of(record, message) or 0.0
    return Spent(actor, model, day, tokens, usd, tokens - _total(told), usd - told_usd)


def spent_since(store: Store, since: datetime) -> Iterator[Spent]:
    """What the exchanges that began since then took, as the store has it.

    A store that others write to as well, and that is asked again and again, answers this itself: `spent(since)`.
    """
    own: Callable[[datetime], Iterable[Spent]] | None = getattr(store, "spent", None)
    if own is not None:
        yield from own(since)
        return
    begun: Mapping[str, Interception] = {each.id: each for each in store.interceptions()}
    for record in _since(store.records(), since):
        call = begun.get(record.interception_id)
        caller = record.request.caller if record.request else None
        actor = call.actor if call else caller.actor if caller else None
        model = (call.model if call else None) or record.model
        spent = spent_in(record, actor or "", model or "")
        if spent is not None:
            yield spent


def _since(records: Iterable[Record], since: datetime) -> Iterator[Record]:
    return (
        record
        for record in records
        if not record.replayed and record.started_at is not None and record.started_at >= since
    )


def _at_least(told: Usage | None, record: Record, message: AssistantMessage) -> Usage:
    """What was told, and no less than what the text that came says."""
    came = sum(_length(part) for part in message.content) // CHARACTERS_PER_TOKEN
    if told is None:
        told = Usage(input_tokens=_asked_tokens(record) if came else 0)
    return replace(told, output_tokens=max(told.output_tokens or 0, came))


def _total(usage: Usage) -> int:
    counts = (
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
    )
    return max(usage.total_tokens or 0, sum(count or 0 for count in counts))


def _asked_tokens(record: Record) -> int:
    ask = asked(record)
    if ask is None:
        return 0
    length = len(ask.context.system)
    for message in ask.context.messages:
        parts = (message,) if isinstance(message, ToolResult) else message.content
        length += sum(_length(part) for part in parts)
    return length // CHARACTERS_PER_TOKEN


def _length(part: object) -> int:
    match part:
        case Text() | Thinking():
            return len(part.text)
        case ToolCall():
            return len(str(part.arguments))
        case ToolResult():
            return sum(_length(inner) for inner in part.content)
        case _:
            return 0
