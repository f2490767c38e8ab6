"""Records as tables: six pandas frames over any source, joined by `interception_id`.

No records give an empty frame with the same columns and dtypes; what they mean is in `llmbridge.exchange.columns`.
"""

from collections.abc import Sequence
from typing import Unpack

from pandas import DataFrame

from llmbridge.exchange import columns, rows
from llmbridge.frames.source import Filters, Source, read
from llmbridge.frames.table import as_frame
from llmbridge.frames.usage import summed

__all__ = [
    "Filters",
    "Frames",
    "Source",
    "events",
    "interceptions",
    "prompts",
    "thoughts",
    "token_usage",
    "tool_calls",
    "usage_by",
]


def interceptions(source: Source, **filters: Unpack[Filters]) -> DataFrame:
    """One row per interception: interception_id (index), times, who, what, how it ended, tokens, cost."""
    found = rows.interception_rows(read(source, filters))
    return as_frame(columns.INTERCEPTIONS, found).set_index("interception_id")


def token_usage(source: Source, **filters: Unpack[Filters]) -> DataFrame:
    """One row per answer that reports usage: the normalised tokens, cost_usd, the provider's own numbers."""
    return as_frame(columns.TOKEN_USAGE, rows.token_usage_rows(read(source, filters)))


def prompts(source: Source, **filters: Unpack[Filters]) -> DataFrame:
    """One row per human turn: interception_id, response_id, recorded_at, prompt."""
    return as_frame(columns.PROMPTS, rows.prompt_rows(read(source, filters)))


def tool_calls(source: Source, **filters: Unpack[Filters]) -> DataFrame:
    """One row per tool call: who called what with which arguments, and the result where the bridge ran it."""
    return as_frame(columns.TOOL_CALLS, rows.tool_call_rows(read(source, filters)))


def thoughts(source: Source, **filters: Unpack[Filters]) -> DataFrame:
    """One row per thinking block with text in it: interception_id, source, content."""
    return as_frame(columns.THOUGHTS, rows.thought_rows(read(source, filters)))


def events(source: Source, **filters: Unpack[Filters]) -> DataFrame:
    """One row per server-sent event: when it came (seconds), what it is called and what it adds."""
    return as_frame(columns.EVENTS, rows.event_rows(read(source, filters)))


def usage_by(
    source: Source, by: Sequence[str] = ("model",), **filters: Unpack[Filters]
) -> DataFrame:
    """One row per group of `by` (model, actor, day in UTC, provider, client): calls, tokens, cost_usd, unpriced.

    A call counts for the model that answered last. `unpriced` are the calls that took tokens of no known price.

    Raises:
        ConfigurationError: there is no such group.
    """
    return summed(interceptions(source, **filters), by)


class Frames:
    """The six frames of one source, read anew with every call."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __repr__(self) -> str:
        names = "interceptions, token_usage, prompts, tool_calls, thoughts, events"
        return f"Frames({self._source!r}): {names}"

    def interceptions(self, **filters: Unpack[Filters]) -> DataFrame:
        """See `llmbridge.frames.interceptions`."""
        return interceptions(self._source, **filters)

    def token_usage(self, **filters: Unpack[Filters]) -> DataFrame:
        """See `llmbridge.frames.token_usage`."""
        return token_usage(self._source, **filters)

    def prompts(self, **filters: Unpack[Filters]) -> DataFrame:
        """See `llmbridge.frames.prompts`."""
        return prompts(self._source, **filters)

    def tool_calls(self, **filters: Unpack[Filters]) -> DataFrame:
        """See `llmbridge.frames.tool_calls`."""
        return tool_calls(self._source, **filters)

    def thoughts(self, **filters: Unpack[Filters]) -> DataFrame:
        """See `llmbridge.frames.thoughts`."""
        return thoughts(self._source, **filters)

    def events(self, **filters: Unpack[Filters]) -> DataFrame:
        """See `llmbridge.frames.events`."""
        return events(self._source, **filters)

    def usage_by(self, by: Sequence[str] = ("model",), **filters: Unpack[Filters]) -> DataFrame:
        """See `llmbridge.frames.usage_by`."""
        return usage_by(self._source, by, **filters)
