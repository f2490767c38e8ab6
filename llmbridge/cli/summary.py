"""One interaction as plain values: what `show`, `stats` and `diff` tell of it, by the names of the frames."""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from llmbridge.canon.messages import AssistantMessage, Block, Text, Thinking
from llmbridge.exchange.call import Headers
from llmbridge.exchange.codec import is_event_stream
from llmbridge.exchange.columns import INTERCEPTIONS
from llmbridge.exchange.entry import Entry, answer, events
from llmbridge.exchange.matching import Asked, Matcher
from llmbridge.exchange.record import Record
from llmbridge.exchange.routing import Router
from llmbridge.exchange.rows import interception_rows

Told = dict[str, Any]
"""JSON, as `--json` prints it."""

_ELSEWHERE = frozenset(
    [
        "interception_id",
        "ended_at",
        "frontend",
        "actor",
        "client",
        "session_id",
        "rounds",
        "replayed",
        "fault",
        "stop",
        "asked_model",
    ]
)
"""Columns that say nothing of a recording."""

_MATCHER = Matcher()


def summary_of(record: Record, index: int) -> Told:
    """What one interaction is, in figures."""
    (row,) = interception_rows([Entry(record.interception_id, None, (record,))])
    cells = zip((column.name for column in INTERCEPTIONS), row, strict=True)
    request = record.request
    return {
        "interaction": index,
        "method": request.method if request else None,
        "url": request.url if request else None,
        **{name: value for name, value in cells if name not in _ELSEWHERE},
        "streamed": is_event_stream(record.status, record.headers, record.body),
        "chunks": len(record.chunks),
        "timed": record.timed,
        "redacted": list(record.redacted),
    }


def content_of(record: Record) -> list[Told]:
    """The answer decoded, block by block; none where it cannot be."""
    message = answer(record) or AssistantMessage()
    return [_block(block) for block in message.content]


def whole_of(record: Record) -> Told:
    """Everything else there is: headers, bodies, events with their times."""
    request = record.request
    return {
        "request": request
        and {"headers": _pairs(request.headers), "body": json_or_text(request.body)},
        "response": {
            "headers": _pairs(record.headers),
            "body": None if _is_stream(record) else json_or_text(record.body),
            "events": list(_events(record)),
        },
    }


def matched_as(record: Record) -> Asked | None:
    """The request as a replay compares it; None where the file kept none."""
    request = record.request
    if request is None:
        return None
    return _MATCHER.asked(request, _router().destination(request))


def json_or_text(body: bytes) -> Any:
    """The JSON value of a body, else its text."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "backslashreplace")


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value below which such a share of them lies; None of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


@lru_cache(1)
def _router() -> Router:
    return Router()


def _is_stream(record: Record) -> bool:
    return is_event_stream(record.status, record.headers, record.body)


def _block(block: Block) -> Told:
    match block:
        case Text():
            return {"type": "refusal" if block.refusal else "text", "text": block.text}
        case Thinking():
            return {"type": "thinking", "text": block.text, "redacted": block.redacted}
        case _:
            told = {"id": block.id, "name": block.name, "arguments": block.arguments}
            return {"type": "tool_call", **told, "server": block.server}


def _pairs(headers: Headers) -> list[list[str]]:
    return [[name, value] for name, value in headers.pairs]


def _events(record: Record) -> Iterator[Told]:
    for seconds, sse, means, added in events(record):
        time = seconds if record.timed else None
        yield {"time_s": time, "event": sse.event, "data": sse.data, "type": means, "delta": added}
