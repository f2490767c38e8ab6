"""Interceptions and records as tables for a notebook."""

from collections.abc import Iterable

from llmbridge.canon.markup import Html, table
from llmbridge.exchange.record import Interception, Record


def interceptions_table(interceptions: Iterable[Interception]) -> Html:
    """One row for each, in this order."""
    return table(
        ("started at", "provider", "model", "actor", "status", "end"),
        (
            (
                f"{each.started_at:%Y-%m-%d %H:%M:%S}",
                each.provider,
                each.model,
                each.actor,
                each.status,
                each.end or "under way",
            )
            for each in interceptions
        ),
    )


def records_table(records: Iterable[Record]) -> Html:
    """One row for each, in this order."""
    return table(
        ("provider", "model", "dialect", "status", "end", "seconds", "chunks", "bytes"),
        (
            (
                each.provider,
                each.model,
                each.dialect,
                each.status,
                each.end,
                None if each.duration_s is None else f"{each.duration_s:.2f}",
                f"{len(each.chunks):,}",
                f"{len(each.body):,}",
            )
            for each in records
        ),
    )
