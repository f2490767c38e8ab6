"""Interceptions summed up: calls, tokens and cost for each model, actor, day, provider or client."""

from collections.abc import Sequence
from typing import Any

from pandas import DataFrame

from llmbridge.errors import ConfigurationError

GROUPS = ("model", "actor", "day", "provider", "client")
TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
FIGURES = ("calls", *TOKENS, "cost_usd", "unpriced")


def needed(by: Sequence[str]) -> list[str]:
    """The columns of interceptions that are summed up."""
    groups = ["started_at" if name == "day" else name for name in by if name in GROUPS]
    return [*groups, *TOKENS, "cost_usd"]


def summed(interceptions: DataFrame, by: Sequence[str]) -> DataFrame:
    """One row per group, in their order, the unknown last: its names, calls, tokens, cost_usd, unpriced.

    `unpriced` are the calls that took tokens of no known price: the cost is without them. No calls give no row.

    Raises:
        ConfigurationError: there is no such group, or none is named.
    """
    for name in by:
        if name not in GROUPS:
            raise ConfigurationError(
                f"nothing is summed up by {name!r}: use one of {', '.join(GROUPS)}"
            )
    if not by or len(set(by)) < len(by):
        raise ConfigurationError(
            f"by={','.join(by)!r}: name one or more of {', '.join(GROUPS)}, each once"
        )
    by_dask: Any = getattr(interceptions, "reduction", None)
    return _summed(interceptions, by) if by_dask is None else _by_dask(interceptions, by)


def _by_dask(interceptions: Any, by: Sequence[str]) -> Any:
    """Each partition is summed up, and then what that gave."""
    return interceptions.reduction(
        _summed,
        aggregate=_of_groups,
        chunk_kwargs={"by": list(by)},
        aggregate_kwargs={"by": list(by)},
        meta=_summed(interceptions._meta, list(by)),
    )


def _summed(interceptions: DataFrame, by: Sequence[str]) -> DataFrame:
    return _of_groups(_figures(interceptions, by), by)


def _figures(interceptions: DataFrame, by: Sequence[str]) -> DataFrame:
    took = interceptions[list(TOKENS)].notna().any(axis=1)
    unpriced = interceptions["cost_usd"].isna() & took
    frame = interceptions.assign(calls=1, unpriced=unpriced)
    if "day" in by:
        frame = frame.assign(day=interceptions["started_at"].dt.floor("D"))
    return frame.astype({"calls": "Int64", "unpriced": "Int64"})


def _of_groups(frame: DataFrame, by: Sequence[str]) -> DataFrame:
    groups = frame.groupby(list(by), dropna=False)[list(FIGURES)].sum(min_count=1).reset_index()
    if "day" in by and groups["day"].dtype != "str":
        # Of a group, not of a call: there are few.
        groups["day"] = groups["day"].dt.strftime("%Y-%m-%d").astype("str")
    return groups
