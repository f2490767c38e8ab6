"""The columns of a frame in Arrow's types, behind the key that orders its rows in a store."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from llmbridge.exchange.columns import COUNT, TEXT, TIME, Column, Dtype

pa: Any = import_module("pyarrow")
"""It ships no types. `pa.compute` is there, too."""

import_module("pyarrow.compute")

UTC = pa.timestamp("us", "UTC")
_TYPES: dict[Dtype, Any] = {
    "str": pa.large_string(),
    "Int64": pa.int64(),
    "float64": pa.float64(),
    "Float64": pa.float64(),
    "boolean": pa.bool_(),
    "datetime64[us, UTC]": UTC,
}

KEY = (
    Column("begun_at", TIME, "the start of the call"),
    Column("interception_id", TEXT, "the call"),
    Column("number", COUNT, "of the row among those of the call"),
)
"""In front of the columns of a frame: its rows come in this order."""


def schema_of(columns: Sequence[Column]) -> Any:
    """The columns of a frame as an Arrow schema."""
    return pa.schema([(column.name, _TYPES[column.dtype]) for column in columns])
