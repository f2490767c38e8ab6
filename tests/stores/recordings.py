"""Recordings that the tests of the stores share."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import yaml

from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.record import Record
from llmbridge.stores.cassette_read import read

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
URL = "https://api.anthropic.com/v1/messages"
EVENTS = (b'event: a\ndata: {"n":1}\n\n', b": ping\n\n", b'event: b\ndata: {"n":2}\n\n')
STREAM = b"".join(EVENTS)

ASKED = Request(
    "POST",
    URL,
    Headers({"content-type": "application/json"}),
    b'{"model":"claude-x","messages":[],"stream":true}',
)
STREAMED = Record(
    "session.yaml#0",
    "anthropic",
    "anthropic.messages",
    ASKED,
    200,
    Headers({"content-type": "text/event-stream"}),
    ((0.03214, EVENTS[0][:9]), (0.0325, EVENTS[0][9:] + EVENTS[1]), (1.5, EVENTS[2])),
    started_at=NOON,
    model="claude-x",
    head_s=0.03,
    duration_s=1.50123,
    redacted=("header",),
)


def loads(text: str, name: str = "session.yaml") -> list[Record]:
    return read(text.encode(), name, name)


def plain(**response: Any) -> str:
    """A cassette as vcrpy writes them, with one interaction."""
    request = {"method": "POST", "uri": URL, "body": "{}", "headers": {"a": ["b"]}}
    answer = {"status": {"code": 200, "message": "OK"}, "headers": {}, "body": {"string": ""}}
    return yaml.safe_dump(
        {"version": 1, "interactions": [{"request": request, "response": answer | response}]}
    )


def body_of(stored: Any, **headers: Any) -> bytes:
    (record,) = loads(plain(body=stored, headers=headers))
    return record.body


def timeless(record: Record) -> Record:
    """The record without its times, headers in the order of a file."""
    request = record.request
    return replace(
        record,
        chunks=tuple((0.0, chunk) for _, chunk in record.chunks),
        head_s=None,
        duration_s=None,
        headers=Headers(by_name(record.headers)),
        request=request and replace(request, headers=Headers(by_name(request.headers))),
    )


def by_name(headers: Headers) -> list[tuple[str, str]]:
    return sorted(headers.pairs, key=lambda pair: pair[0])
