"""A log of what clients asked: one line when an interception ends."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from llmbridge.canon.messages import Usage
from llmbridge.exchange.printable import one_line
from llmbridge.exchange.record import Interception, Record, Store
from llmbridge.stores.followed import FollowedStore


class LoggedStore(FollowedStore):
    """The store it is given, which also says a line about every interception that ends; a slow reader misses lines."""

    def __init__(self, store: Store, say: Callable[[str], None]) -> None:
        super().__init__(store, lambda ended, records: say(log_line(ended, records)), limit=1000)


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
