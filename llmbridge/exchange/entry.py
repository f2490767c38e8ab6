"""An interception with its rounds, and what both together say of it."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from llmbridge.canon.events import BlockDelta, Snapshot
from llmbridge.canon.messages import Ask, AssistantMessage, Text, ToolResult
from llmbridge.canon.strict_json import loads_strict
from llmbridge.exchange.codec import is_event_stream
from llmbridge.exchange.printable import one_line
from llmbridge.exchange.record import BODY, Interception, Record
from llmbridge.providers import dialect_named
from llmbridge.wire.fast_json import loads_object
from llmbridge.wire.loose_json import is_object, objects, text
from llmbridge.wire.sse import SSE, SSEDecoder

_logger = logging.getLogger("llmbridge.frames")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """One interception and its rounds, in order. `interception` is None where a file kept the records alone."""

    id: str
    interception: Interception | None
    records: tuple[Record, ...]

    def said(self, name: str) -> object:
        """The field of this name: the interception's, else the last round's."""
        told = getattr(self.interception, name, None)
        return getattr(self.last, name, None) if told is None else told

    @property
    def first(self) -> Record | None:
        """The first round."""
        return self.records[0] if self.records else None

    @property
    def last(self) -> Record | None:
        """The last round: what the client was told in the end."""
        return self.records[-1] if self.records else None

    @property
    def message(self) -> AssistantMessage | None:
        """The last round's answer."""
        return answer(self.last) if self.last else None

    @property
    def ask(self) -> Ask | None:
        """What the client asked, in canon; of a client dialect without a codec, what the provider was asked."""
        told = _told(self.interception) if self.interception else None
        if told and told.context.messages:
            return told
        return asked(self.first) if self.first else told

    @property
    def asked_model(self) -> str | None:
        """The model asked for."""
        if self.interception and self.interception.model:
            return self.interception.model
        return self.first.model if self.first else None

    def all_of(self, name: str) -> Iterator[str]:
        """The field of this name: the interception's, then each round's."""
        told = (getattr(part, name, None) for part in (self.interception, *self.records))
        return (value for value in told if value is not None)

    @property
    def models(self) -> Iterator[str]:
        """The models asked for, then, decoded only when needed, those that answered."""
        yield from (model for model in self.all_of("model") if model)
        answers = (answer(record) for record in self.records)
        yield from (message.model for message in answers if message and message.model)

    @property
    def streaming(self) -> bool | None:
        """True when the client asked for a stream, or got one where its request was not kept."""
        if self.interception or self.first is None:
            return self.interception.streaming if self.interception else None
        first, ask = self.first, asked(self.first)
        return ask.streaming if ask else is_event_stream(first.status, first.headers, first.body)

    @property
    def replayed(self) -> bool:
        """True when a recording answered."""
        told = self.interception is not None and self.interception.replayed
        return told or any(record.replayed for record in self.records)

    @property
    def bodies(self) -> bool | None:
        """False where prompts and answers were not to be recorded."""
        return all(BODY not in record.redacted for record in self.records) if self.records else None

    @property
    def started_at(self) -> datetime | None:
        """When the request came in."""
        begun = self.interception or self.first
        return utc(begun.started_at) if begun else None

    @property
    def ended_at(self) -> datetime | None:
        """When it was over."""
        if self.interception:
            return utc(self.interception.ended_at)
        if self.last is None or self.last.started_at is None or lasted_s(self.last) is None:
            return None
        return recorded_at(self.last)

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; a round that is alone has measured them itself."""
        if self.interception is None and len(self.records) == 1:
            return lasted_s(self.records[0])
        start, end = self.started_at, self.ended_at
        return (end - start).total_seconds() if start and end else None

    @property
    def ttft_s(self) -> float | None:
        """Seconds from the first round being sent to the first byte of the first round that was no error."""
        first = self.first
        served = next((record for record in self.records if record.status < 400), first)
        if first is None or served is None or not served.timed:
            return None
        waited = 0.0 if served is first else seconds_between(first.started_at, served.started_at)
        came = next((seconds for seconds, chunk in served.chunks if chunk), None)
        return None if waited is None or came is None else waited + came


def answer(record: Record) -> AssistantMessage | None:
    """The answer decoded; None when it cannot be."""
    return _or_none(lambda: record.message, record.interception_id)


def asked(record: Record) -> Ask | None:
    """The request decoded; None when it cannot be."""
    return _or_none(record.ask, record.interception_id)


def prompt_of(record: Record) -> str:
    """What the request asks, on one line."""
    ask = asked(record)
    last = ask.context.messages[-1] if ask and ask.context.messages else None
    if isinstance(last, AssistantMessage) or last is None:
        return "..."
    words = " ".join(part.text for part in last.content if isinstance(part, Text))
    who = f"{last.name or 'tool'} returned: " if isinstance(last, ToolResult) else ""
    return f"{who}{one_line(words)}"


def events(record: Record) -> Iterator[tuple[float, SSE, str | None, str | None]]:
    """Each server-sent event: its second, itself, the last thing it means, the text it adds.

    Of an answer that a codec trips over, those before that place.
    """
    snapshot = Snapshot()
    try:
        for seconds, sse, deltas in record.steps():
            types = [snapshot.apply(delta).type for delta in deltas]
            added = [delta.text for delta in deltas if isinstance(delta, BlockDelta)]
            if sse is not None:
                yield seconds, sse, types[-1] if types else None, "".join(added) if added else None
    except Exception:
        _logger.exception("interception %r cannot be decoded to its end", record.interception_id)


def commentary(record: Record) -> Iterator[str]:
    """What a model says of its work before the answer: messages of Responses in the phase of that name."""
    if record.dialect != "openai.responses" or b"commentary" not in record.body:
        return
    for _, sse, _ in record.steps():
        data = loads_object(record.body if sse is None else sse.data)
        done = sse is not None and data.get("type") == "response.output_item.done"
        items = [data.get("item")] if done else data.get("output") if sse is None else None
        for item in objects(items):
            if item.get("type") == "message" and item.get("phase") == "commentary":
                said = "".join(text(part.get("text")) for part in objects(item.get("content")))
                if said:
                    yield said


def event_count(record: Record) -> int:
    """How many server-sent events the answer has; their JSON is not looked at."""
    body = record.body
    if not is_event_stream(record.status, record.headers, body):
        return 0
    decoder = SSEDecoder()
    return len(decoder.feed(body)) + len(decoder.close())


def lasted_s(record: Record) -> float | None:
    """Seconds from the request to the end of the answer, or to its last chunk."""
    if record.duration_s is not None or not record.timed or not record.chunks:
        return record.duration_s
    return record.chunks[-1][0]


def recorded_at(record: Record) -> datetime | None:
    """When the answer was complete; when it began, where nothing says how long it took."""
    start = utc(record.started_at)
    try:
        return start and start + timedelta(seconds=lasted_s(record) or 0.0)
    except (OverflowError, ValueError):
        # A file that somebody edited can say anything.
        return start


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds from one time to another; None where one is not known."""
    first, last = utc(start), utc(end)
    return (last - first).total_seconds() if first and last else None


def utc(time: datetime | None) -> datetime | None:
    """The same time with its zone: one without is UTC already."""
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


def _told(interception: Interception) -> Ask | None:
    def decode() -> Ask | None:
        body = loads_strict(interception.request.body)
        dialect = dialect_named(interception.dialect or "")
        return dialect.decode_request(body) if is_object(body) else None

    return _or_none(decode, interception.id)


def _or_none(decode: Callable[[], T | None], interception_id: str) -> T | None:
    try:
        return decode()
    except ValueError:
        return None
    except Exception:
        # One reply in a million that a codec trips over must not cost the whole frame.
        _logger.exception(
            "interception %r cannot be decoded; its cells stay empty", interception_id
        )
        return None
