"""Rows or Arrow columns to a DataFrame of fixed columns and dtypes, however many rows there are."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from llmbridge.canon.strict_json import mend_surrogates
from llmbridge.exchange.columns import Column, fitted
from llmbridge.exchange.rows import Row


def as_frame(columns: Sequence[Column], rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a frame with exactly these columns; no rows give the same dtypes."""
    # As objects first: pandas would make floats of counts where one is missing.
    frame = pd.DataFrame(cells_of(columns, rows), dtype=object)
    return frame.astype({column.name: column.dtype for column in columns})


def of_arrow(columns: Sequence[Column], table: Any) -> pd.DataFrame:
    """These columns of an Arrow table as a frame, its text where it is."""
    cells = {column.name: _of_arrow(column, table.column(column.name)) for column in columns}
    return pd.DataFrame(cells, index=pd.RangeIndex(len(table)), copy=False)


def cells_of(columns: Sequence[Column], rows: Iterable[Row]) -> dict[str, list[object]]:
    """The cells of each column as a frame can hold them."""
    cells = list(zip(*rows, strict=True)) or [()] * len(columns)
    return {column.name: _fit(column, cell) for column, cell in zip(columns, cells, strict=True)}


def _of_arrow(column: Column, cells: Any) -> Any:
    dtype: Any = pd.api.types.pandas_dtype(column.dtype)
    if hasattr(dtype, "__from_arrow__"):
        return dtype.__from_arrow__(cells)
    return cells.to_pandas()


def _fit(column: Column, values: Sequence[object]) -> list[object]:
    cells = [fitted(column, value) for value in values]
    return [_mended(cell) if isinstance(cell, str) else cell for cell in cells]


def _mended(text: str) -> str:
    """Half a surrogate pair, as a delta may hold one, has no place in UTF-8."""
    return text if text.isascii() else mend_surrogates(text)
