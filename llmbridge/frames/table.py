"""Rows to a DataFrame of fixed columns and dtypes, however many rows there are."""

from collections.abc import Iterable, Sequence

import pandas as pd

from llmbridge.canon.strict_json import mend_surrogates
from llmbridge.exchange.columns import Column, fitted
from llmbridge.exchange.rows import Row


def as_frame(columns: Sequence[Column], rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a frame with exactly these columns; no rows give the same dtypes."""
    cells = list(zip(*rows, strict=True)) or [()] * len(columns)
    named = zip(columns, cells, strict=True)
    # As objects first: pandas would make floats of counts where one is missing.
    frame = pd.DataFrame({column.name: _fit(column, cell) for column, cell in named}, dtype=object)
    return frame.astype({column.name: column.dtype for column in columns})


def _fit(column: Column, values: Sequence[object]) -> list[object]:
    cells = [fitted(column, value) for value in values]
    return [_mended(cell) if isinstance(cell, str) else cell for cell in cells]


def _mended(text: str) -> str:
    """Half a surrogate pair, as a delta may hold one, has no place in UTF-8."""
    return text if text.isascii() else mend_surrogates(text)
