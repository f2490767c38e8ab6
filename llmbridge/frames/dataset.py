"""The six frames as Parquet files: a folder for each frame, and in that one for each day."""

import os
from pathlib import Path

from pandas import DataFrame, Series

from llmbridge import frames
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.columns import FRAMES

UNKNOWN = "unknown"
"""The day of what has no start."""

_MOST_DAYS = 100_000


def export(
    source: frames.Source, folder: str | os.PathLike[str], *, force: bool = False
) -> dict[str, int]:
    """Write the frames of a source, and say how many rows each has: `pandas.read_parquet(folder / "interceptions")`.

    `day` is the one on which the interception began (UTC). With `force` the days that are written replace those that are
    there, and others stay.

    Raises:
        ConfigurationError: there is no such source, the folder is not empty, or it cannot be written.
    """
    path, calls = Path(folder).expanduser(), frames.interceptions(source)
    days = calls["started_at"].dt.strftime("%Y-%m-%d").astype("str").fillna(UNKNOWN)
    try:
        # Prompts and answers are in it.
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not force and any(path.iterdir()):
            raise ConfigurationError(
                f"{str(path)!r} is not empty: name another folder, or force=True to replace its days"
            )
        return {name: _write(name, source, days, path / name) for name in FRAMES}
    except OSError as error:
        raise ConfigurationError(
            f"{str(path)!r} cannot be written: {error.strerror or error}"
        ) from error


def _write(name: str, source: frames.Source, days: "Series[str]", folder: Path) -> int:
    frame: DataFrame = getattr(frames, name)(source)
    named = frame.index.name is not None
    ids = frame.index.to_series() if named else frame["interception_id"]
    # Of a bridge at work: what came since the days were read is for the next time.
    known = ids.isin(days.index)
    frame, ids = frame[known], ids[known]
    if frame.empty and folder.exists():
        return 0
    if frame.empty:
        # A reader finds the columns, dtypes too.
        nothing = folder / f"day={UNKNOWN}"
        nothing.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(nothing / "part-0.parquet", index=named)
        return 0
    frame.assign(day=ids.map(days)).to_parquet(
        folder,
        index=named,
        partition_cols=["day"],
        basename_template="part-{i}.parquet",
        existing_data_behavior="delete_matching",
        max_partitions=_MOST_DAYS,
        preserve_order=True,
    )
    return len(frame)
