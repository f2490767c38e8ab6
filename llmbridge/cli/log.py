"""A log of what clients asked: one line when an interception ends, for people or for programs."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from llmbridge.canon.messages import Usage
from llmbridge.exchange.columns import named
from llmbridge.exchange.entry import Entry
from llmbridge.exchange.printable import one_line
from llmbridge.exchange.record import Interception, Record, Store
from llmbridge.exchange.rows import interception_rows
from llmbridge.stores.followed import FollowedStore

Line = Callable[[Interception, Sequence[Record]], str]


class LoggedStore(FollowedStore):
    """The store it is given, which also says a line about every interception that ends; a slow reader misses lines."""

    def __init__(self, store: Store, say: Callable[[str], None], line: Line | None = None) -> None:
        line = line or log_line
        super().__init__(store, lambda ended, records: say(line(ended, records)), limit=1000)


def log_line(interception: Interception, records: Sequence[Record]) -> str:
    """Start (UTC), request, who answered, how it ended, tokens in and out, duration; then the error, if any."""
    ended = interception.ended_at or interception.started_at
    words = (
        f"{interception.started_at:%Y-%m-%dT%H:%M:%SZ}",
        interception.request.method,
        interception.request.path,
        interception.provider or "-",
        interception.model or "-",
        str(interception.status or "-"),
        interception.end or "-",
        _tokens(records),
        f"{(ended - interception.started_at).total_seconds():.3f}s",
    )
    error = f": {interception.error}" if interception.error else ""
    return one_line(" ".join(words) + error, limit=1000)


def _tokens(records: Sequence[Record]) -> str:
    # Copies: a decoded message stays with its record, and the store keeps the record.
    messages = [replace(record).message for record in records]
    usages = [message.usage for message in messages if message and message.usage]
    if not usages:
        return "-"
    return f"{sum(map(_tokens_in, usages))}+{sum(usage.output_tokens or 0 for usage in usages)}tok"


def _tokens_in(usage: Usage) -> int:
    return (
        (usage.input_tokens or 0) + (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    )


def json_line(interception: Interception, records: Sequence[Record]) -> str:
    """The row that the interception is in the frames, as an object on one line; what is not known is left out."""
    # Copies: a decoded message stays with its record, and the store keeps the record.
    entry = Entry(interception.id, interception, tuple(replace(each) for each in records))
    row = next(named("interceptions", interception_rows([entry])))
    known = {name: value for name, value in row.items() if value is not None}
    return _object("info", "interception", **known)


class JSONFormatter(logging.Formatter):
    """What else is logged, as an object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The object; `error` is the traceback, where there is one."""
        about = {"error": self.formatException(record.exc_info)} if record.exc_info else {}
        return _object(record.levelname.lower(), record.getMessage(), logger=record.name, **about)


def json_message(message: str) -> str:
    """Something the program says, as an object on one line."""
    return _object("info", message)


def _object(level: str, message: str, **fields: object) -> str:
    now = datetime.now(UTC)
    # ASCII: no terminal, and no line of another kind, can be made of it.
    return json.dumps({"time": now, "level": level, "message": message, **fields}, default=_text)


def _text(value: object) -> str:
    return f"{value:%Y-%m-%dT%H:%M:%S.%fZ}" if isinstance(value, datetime) else str(value)
