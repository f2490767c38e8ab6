"""One frame of any source."""

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TypeGuard

from pandas import DataFrame

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.columns import FRAMES, Column
from llmbridge.exchange.rows import ROWS
from llmbridge.frames.source import Options, Source, digested, read, split
from llmbridge.frames.table import as_frame


def frame_of(name: str, source: Source, options: Options) -> DataFrame:
    """The frame of that name; `interception_id` is the index of the interceptions.

    Raises:
        ConfigurationError: there is no such source, filter, column or engine.
    """
    filters, only, engine, progress = split(options)
    columns = _columns(name, only)
    if engine not in ("pandas", "dask"):
        raise ConfigurationError(f"there is no engine {engine!r}: use pandas or dask")
    if is_data_set(source):
        from llmbridge.frames import parquet  # noqa: PLC0415  # Arrow is loaded late

        found: DataFrame = parquet.frame_of(name, source, filters, columns, engine)
        return found
    if engine == "dask":
        raise ConfigurationError(
            f"engine='dask' reads the folder of a data set, not {source!r}: write one with llmbridge.frames.dataset.export"
        )
    if (store := digested(source)) is not None:
        from llmbridge.frames import stored  # noqa: PLC0415  # SQLAlchemy and Arrow are loaded late

        frame = stored.frame_of(name, store, filters, columns, progress)
    else:
        entries = read(source, filters)
        whole = as_frame(FRAMES[name], ROWS[name](entries))
        frame = whole[[column.name for column in columns]]
    return frame.set_index("interception_id") if name == "interceptions" else frame


def _columns(name: str, only: Sequence[str] | None) -> list[Column]:
    only = (only,) if isinstance(only, str) else only
    there = {column.name: column for column in FRAMES[name]}
    for column in only or ():
        if column not in there:
            raise ConfigurationError(
                f"{name} has no column {column!r}: use some of {', '.join(there)}"
            )
    names = there if only is None else list(dict.fromkeys(only))
    if name == "interceptions":
        names = ["interception_id", *(each for each in names if each != "interception_id")]
    return [there[each] for each in names]


def is_data_set(source: object) -> TypeGuard[str | PathLike[str]]:
    """True for the folder of a data set."""
    if not isinstance(source, str | PathLike):
        return False
    path = Path(fspath(source)).expanduser()
    return any(any((path / name).glob("day=*")) for name in FRAMES)
