"""Records as tables: six pandas frames over any source, joined by `interception_id`.

No records give an empty frame with the same columns and dtypes; what they mean is in `llmbridge.exchange.columns`.
"""

from collections.abc import Sequence
from typing import Unpack

from pandas import DataFrame

from llmbridge.frames.reading import frame_of
from llmbridge.frames.source import Filters, Options, Source
from llmbridge.frames.usage import needed, summed

__all__ = [
    "Filters",
    "Frames",
    "Options",
    "Source",
    "events",
    "interceptions",
    "prompts",
    "thoughts",
    "token_usage",
    "tool_calls",
    "usage_by",
]


def interceptions(source: Source, **options: Unpack[Options]) -> DataFrame:
    """One row per interception: interception_id (index), times, who, what, how it ended, tokens, cost."""
    return frame_of("interceptions", source, options)


def token_usage(source: Source, **options: Unpack[Options]) -> DataFrame:
    """One row per answer that reports usage: the normalised tokens, cost_usd, the provider's own numbers."""
    return frame_of("token_usage", source, options)


def prompts(source: Source, **options: Unpack[Options]) -> DataFrame:
    """One row per human turn: interception_id, response_id, recorded_at, prompt."""
    return frame_of("prompts", source, options)


def tool_calls(source: Source, **options: Unpack[Options]) -> DataFrame:
    """One row per tool call: who called what with which arguments, and the result where the bridge ran it."""
    return frame_of("tool_calls", source, options)


def thoughts(source: Source, **options: Unpack[Options]) -> DataFrame:
    """One row per thinking block with text in it: interception_id, source, content."""
    return frame_of("thoughts", source, options)


def events(source: Source, **options: Unpack[Options]) -> DataFrame:
    """One row per server-sent event: when it came (seconds), what it is called and what it adds."""
    return frame_of("events", source, options)


def usage_by(
    source: Source, by: Sequence[str] = ("model",), **options: Unpack[Options]
) -> DataFrame:
    """One row per group of `by` (model, actor, day in UTC, provider, client): calls, tokens, cost_usd, unpriced.

    A call counts for the model that answered last. `unpriced` are the calls that took tokens of no known price.

    Raises:
        ConfigurationError: there is no such group.
    """
    by = (by,) if isinstance(by, str) else by
    options["columns"] = needed(by)
    return summed(interceptions(source, **options), by)


class Frames:
    """The six frames of one source, read anew with every call."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __repr__(self) -> str:
        names = "interceptions, token_usage, prompts, tool_calls, thoughts, events"
        return f"Frames({self._source!r}): {names}"

    def interceptions(self, **options: Unpack[Options]) -> DataFrame:
        """See `llmbridge.frames.interceptions`."""
        return interceptions(self._source, **options)

    def token_usage(self, **options: Unpack[Options]) -> DataFrame:
        """See `llmbridge.frames.token_usage`."""
        return token_usage(self._source, **options)

    def prompts(self, **options: Unpack[Options]) -> DataFrame:
        """See `llmbridge.frames.prompts`."""
        return prompts(self._source, **options)

    def tool_calls(self, **options: Unpack[Options]) -> DataFrame:
        """See `llmbridge.frames.tool_calls`."""
        return tool_calls(self._source, **options)

    def thoughts(self, **options: Unpack[Options]) -> DataFrame:
        """See `llmbridge.frames.thoughts`."""
        return thoughts(self._source, **options)

    def events(self, **options: Unpack[Options]) -> DataFrame:
        """See `llmbridge.frames.events`."""
        return events(self._source, **options)

    def usage_by(self, by: Sequence[str] = ("model",), **options: Unpack[Options]) -> DataFrame:
        """See `llmbridge.frames.usage_by`."""
        return usage_by(self._source, by, **options)
