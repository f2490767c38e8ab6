"""Frames of a data set that `export` wrote, with pandas or with Dask; both read it a day at a time, by the same function."""

from collections.abc import Iterable, Sequence
from functools import partial
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from pandas import DataFrame

from llmbridge.canon.strict_json import mend_surrogates
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.columns import FRAMES, Column
from llmbridge.exchange.options import time_of
from llmbridge.frames.pieces import UNKNOWN, day_of
from llmbridge.frames.source import Filters, wanted_by
from llmbridge.frames.table import of_arrow
from llmbridge.frames.wanted import conditions
from llmbridge.stores.arrow import pa, schema_of
from llmbridge.stores.conditions import Condition

_DAY = "day="


def frame_of(
    name: str,
    folder: str | PathLike[str],
    filters: Filters,
    columns: Sequence[Column],
    engine: str = "pandas",
) -> Any:
    """These columns of a frame, by day; with the engine dask a partition for each day.

    Raises:
        ConfigurationError: a filter or the engine is none, or Dask is not installed.
    """
    wanted_by(filters)
    path = Path(fspath(folder)).expanduser().absolute()
    if not (path / name).is_dir():
        raise ConfigurationError(f"there are no {name} in {str(path)!r}: export them, too")
    days = [day for day in _days(path / name) if _may_have(day, filters)]
    read = partial(_frame_of_days, str(path), name, filters=filters)
    index = "interception_id" if name == "interceptions" else None
    names = [column.name for column in columns if column.name != index]
    if engine == "pandas":
        return read(days, columns=names)
    try:
        dask: Any = import_module("dask.dataframe")
    except ImportError as error:
        raise ConfigurationError(
            "engine='dask' needs Dask: pip install 'llmbridge[dask]'"
        ) from error
    # Of no day it is one empty partition.
    parts = [[day] for day in days] or [[]]
    # The text is Arrow's already, and Dask would give it another NA.
    with import_module("dask.config").set({"dataframe.convert-string": False}):
        # Dask asks for fewer columns where what follows needs no more.
        empty = read([], columns=names)
        return dask.from_map(read, parts, columns=names, meta=empty, label=name)


def _frame_of_days(
    folder: str,
    name: str,
    days: Iterable[str],
    *,
    filters: Filters,
    columns: Sequence[str],
) -> DataFrame:
    """What a worker does: it has nothing but the path."""
    index = ["interception_id"] if name == "interceptions" else []
    there = {column.name: column for column in FRAMES[name]}
    wanted = [there[column] for column in dict.fromkeys([*index, *columns])]
    # Arrow forgets how many rows there are where there is no column.
    told = wanted or [there["interception_id"]]
    tables = [_table(Path(folder), name, day, filters, told) for day in days]
    frame = of_arrow(wanted, pa.concat_tables([schema_of(told).empty_table(), *tables]))
    return frame.set_index(index[0]) if index else frame


def _table(folder: Path, name: str, day: str, filters: Filters, columns: Sequence[Column]) -> Any:
    rows, where = _files(folder / name / day), None
    # One without rows may have a day that the interceptions do not have.
    if filters and rows.count_rows():
        told = rows if name == "interceptions" else _interceptions(folder, day)
        where = _expression(conditions(filters, partial(_distinct, told)))
        if told is not rows:
            ids = told.to_table(columns=["interception_id"], filter=where).column(0)
            where = pa.compute.field("interception_id").isin(ids.combine_chunks())
    return rows.to_table(columns=[column.name for column in columns], filter=where).cast(
        schema_of(columns)
    )


def _interceptions(folder: Path, day: str) -> Any:
    place = folder / "interceptions" / day
    if not place.is_dir():
        raise ConfigurationError(
            f"there are no interceptions in {str(place)!r} for a filter: export them, too"
        )
    return _files(place)


def _distinct(files: Any, column: str, plain: Sequence[Condition]) -> list[Any]:
    table = files.to_table(columns=[column], filter=_expression(plain))
    values: list[Any] = table.column(column).unique().to_pylist()
    return values


def _files(folder: Path) -> Any:
    """All of one day, whoever wrote it."""
    return import_module("pyarrow.dataset").dataset(str(folder), format="parquet")


def _days(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.name.startswith(_DAY))


def _may_have(day: str, filters: Filters) -> bool:
    """False where the name of a day says that nothing is wanted of it."""
    date = day.removeprefix(_DAY)
    if "since" not in filters and "until" not in filters:
        return True
    if date == UNKNOWN:
        return False
    since = day_of(time_of("since", filters["since"])) if "since" in filters else date
    until = day_of(time_of("until", filters["until"])) if "until" in filters else date
    return since <= date <= until


def _expression(wanted: Sequence[Condition]) -> Any:
    """The same for a reader of Parquet, which passes over row groups that cannot have it."""
    whole = None
    for condition in wanted:
        column = "started_at" if condition.column == "begun_at" else condition.column
        holds = _holds(condition, pa.compute.field(column))
        whole = holds if whole is None else whole & holds
    return whole


def _holds(condition: Condition, column: Any) -> Any:
    value = condition.value
    match condition.must:
        case "start":
            return column >= value
        case "end":
            return column < value
        case "be":
            return column.is_null() if value is None else column == _mended(value)
        case "be_known":
            return column.is_valid()
        case "be_one_of":
            if not value:
                return pa.compute.scalar(False)
            return column.isin(pa.array(map(_mended, value), pa.large_string()))


def _mended(value: Any) -> Any:
    """As what was written."""
    return mend_surrogates(value) if isinstance(value, str) else value
