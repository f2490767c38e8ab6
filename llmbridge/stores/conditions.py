"""What a reader of digests asks of them, and what it tells meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Progress = Callable[[int, int], None]
"""Told how much is done, of how much."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What a column must be: at or after a start, before an end, a value (None: missing), any value, or one of several.

    The column is one of the frame of interceptions, or `begun_at`, the start of the call, which every frame knows.
    """

    column: str
    must: Literal["start", "end", "be", "be_known", "be_one_of"]
    value: Any
