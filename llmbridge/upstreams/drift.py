"""Whether a provider still answers in the shape that was recorded: names and types, not words."""

from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from llmbridge.errors import BridgeError
from llmbridge.exchange.call import Call, Handler
from llmbridge.exchange.codec import is_event_stream
from llmbridge.exchange.difference import Difference, differences, in_words
from llmbridge.exchange.record import Record
from llmbridge.wire.fast_json import loads
from llmbridge.wire.loose_json import is_list, is_object
from llmbridge.wire.sse import SSE, SSEDecoder


@dataclass(frozen=True, slots=True)
class Drift:
    """A recording, and how the shape of today's answer differs from it."""

    record: Record
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        return f"{self.record.interception_id}: {in_words(self.differences)}"


async def compare(call: Call, record: Record, upstream: Handler) -> Drift | None:
    """Ask the upstream as well; what differs from the recording, if anything does."""
    try:
        reply = await upstream(call)
        async with aclosing(reply):
            body = b"".join([chunk async for chunk in reply])
    except BridgeError as error:
        failed = Difference("the answer", f"status {record.status}", error.message)
        return Drift(record, (failed,))
    now = replace(record, status=reply.status, headers=reply.headers, chunks=((0.0, body),))
    found = differences(shape(record), shape(now))
    return Drift(record, found) if found else None


def shape(record: Record) -> dict[str, Any]:
    """Status and media type, and the types of a JSON body or of each kind of event."""
    kind = record.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = record.body
    known: dict[str, Any] = {"status": record.status, "media type": kind}
    if not is_event_stream(record.status, record.headers, body):
        return known | {"body": _shape_of(body)}
    decoder = SSEDecoder()
    events: dict[str, Any] = {}
    for sse in (*decoder.feed(body), *decoder.close()):
        found = _shape_of(sse.data)
        name = _name(sse)
        events[name] = _merged(events[name], found) if name in events else found
    return known | {"events": events}


def _name(sse: SSE) -> str:
    if sse.event and sse.event != "message":
        return sse.event
    return "[DONE]" if sse.data == "[DONE]" else "message"


def _shape_of(text: str | bytes) -> Any:
    try:
        return _types(loads(text))
    except ValueError:
        return "text"
    except RecursionError:
        return "nested deep"


def _types(value: Any) -> Any:
    if is_object(value):
        return {key: _types(item) for key, item in value.items()}
    if is_list(value):
        return _items(_types(item) for item in value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"


def _items(shapes: Iterable[Any]) -> list[Any]:
    found = list(shapes)
    return [reduce(_merged, found)] if found else []


def _merged(one: Any, other: Any) -> Any:
    """What covers both."""
    if is_object(one) and is_object(other):
        return {
            key: _merged(one[key], other[key])
            if key in one and key in other
            else one.get(key, other.get(key))
            for key in {**one, **other}
        }
    if is_list(one) and is_list(other):
        return _items((*one, *other))
    if one == other:
        return one
    words = {
        word
        for each in (one, other)
        for word in (each if isinstance(each, str) else "more").split(" or ")
    }
    return " or ".join(sorted(words))
