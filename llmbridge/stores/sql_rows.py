"""Interceptions and records as rows of a SQL store, and back."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from datetime import datetime
from itertools import accumulate, pairwise
from typing import Any

from llmbridge.exchange.call import Caller, Headers, Request
from llmbridge.exchange.record import Chunk, Interception, Record
from llmbridge.exchange.toolbox import ToolRun

Row = dict[str, Any]

INTERCEPTION_COLUMNS = tuple(
    field.name for field in fields(Interception) if field.name not in {"request", "tool_runs"}
)
RECORD_COLUMNS = tuple(
    field.name
    for field in fields(Record)
    if field.name not in {"request", "headers", "chunks", "redacted"}
)
"""The fields that are columns of the same name."""

_ENCODER = json.JSONEncoder(separators=(",", ":"))
_CALLER = tuple(field.name for field in fields(Caller))
_REQUEST = ("method", "url", "headers", "caller", "body")


def interception_row(interception: Interception) -> Row:
    """The row of an interception."""
    row = {name: getattr(interception, name) for name in INTERCEPTION_COLUMNS}
    row["tool_runs"] = (
        _json([_run_row(run) for run in interception.tool_runs]) if interception.tool_runs else None
    )
    return row | _request_row(interception.request)


def record_row(record: Record) -> Row:
    """The row of a record."""
    row = {name: getattr(record, name) for name in RECORD_COLUMNS}
    row["headers"] = _json(record.headers.pairs)
    row["redacted"] = _json(record.redacted)
    row["body"] = record.body
    row["timing"] = _json([(seconds, len(chunk)) for seconds, chunk in record.chunks])
    return row | _request_row(record.request)


def interception_of(row: Mapping[str, Any]) -> Interception:
    """The interception of a row."""
    request = _request_of(row)
    assert request is not None
    runs = tuple(_run_of(run) for run in _loaded(row["tool_runs"] or "[]"))
    told = {name: row[name] for name in INTERCEPTION_COLUMNS}
    return Interception(request=request, tool_runs=runs, **told)


def record_of(row: Mapping[str, Any]) -> Record:
    """The record of a row."""
    return Record(
        request=_request_of(row),
        headers=_headers(row["headers"]),
        chunks=tuple(_chunks(row["body"], row["timing"])),
        redacted=tuple(_loaded(row["redacted"])),
        **{name: row[name] for name in RECORD_COLUMNS},
    )


def _run_row(run: ToolRun) -> Row:
    return asdict(run) | {"started_at": run.started_at and run.started_at.isoformat()}


def _run_of(row: Row) -> ToolRun:
    kept: Row = {
        **row,
        "started_at": row["started_at"] and datetime.fromisoformat(row["started_at"]),
    }
    return ToolRun(**kept)


def _request_row(request: Request | None) -> Row:
    if request is None:
        return dict.fromkeys((f"request_{name}" for name in _REQUEST), None)
    return {
        "request_method": request.method,
        "request_url": request.url,
        "request_headers": _json(request.headers.pairs),
        "request_caller": _json({name: getattr(request.caller, name) for name in _CALLER}),
        "request_body": request.body,
    }


def _request_of(row: Mapping[str, Any]) -> Request | None:
    if row["request_method"] is None:
        return None
    return Request(
        row["request_method"],
        row["request_url"],
        _headers(row["request_headers"]),
        row["request_body"],
        Caller(**_loaded(row["request_caller"])),
    )


def _headers(text: str) -> Headers:
    return Headers((name, value) for name, value in _loaded(text))


def _chunks(body: bytes, timing: str) -> Iterator[Chunk]:
    items = _loaded(timing)
    borders = pairwise(accumulate((size for _, size in items), initial=0))
    for (seconds, _), (start, end) in zip(items, borders, strict=True):
        yield seconds, body[start:end]


def _json(value: Any) -> str:
    """In ASCII: whatever a field holds, a database can keep it."""
    return _ENCODER.encode(value)


def _loaded(text: str) -> Any:
    return json.loads(text)
