"""Plots of the frames: each takes a frame and returns the figure. Needs the extra `plot`.

A figure belongs to nobody but the caller: nothing is shown, and no list of open figures grows.
"""

# matplotlib leaves its keyword arguments without a type.
# pyright: reportUnknownMemberType=false

from io import BytesIO

import pandas as pd

from llmbridge.errors import ConfigurationError

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:  # pragma: no cover
    raise ConfigurationError("plots need matplotlib: pip install 'llmbridge[plot]'") from error


MAX_COLORS = 10
"""As many as matplotlib has before it begins again."""

ID_CHARS = 24
"""Of longer names of interceptions two would not stand side by side."""

_Part = tuple[str, pd.DataFrame]
"""The rows that are drawn in one color, and what they are called."""


class Plot(Figure):
    """A figure that a cell shows, with or without `%matplotlib inline`."""

    def _repr_png_(self) -> bytes:
        drawn = BytesIO()
        self.savefig(drawn, format="png", bbox_inches="tight")
        return drawn.getvalue()


def timeline(events: pd.DataFrame) -> Figure:
    """A mark when an event came, one line for each kind, one color for each interception: of `events`, best of one."""
    _need(events, "time_s", "type", "event")
    figure, axes = _begin("seconds since the request", "")
    timed = events[events["time_s"].notna()]
    timed = timed.assign(kind=timed["type"].fillna(timed["event"]).fillna(""))
    kinds = list(dict.fromkeys(timed["kind"].tolist()))
    for number, (name, rows) in enumerate(_by_interception(timed)):
        times = [rows.loc[rows["kind"] == kind, "time_s"].tolist() for kind in kinds]
        axes.eventplot(times, lineoffsets=range(len(kinds)), linelengths=0.8, colors=f"C{number}")
        axes.collections[-1].set_label(name)
    axes.set_yticks(range(len(kinds)), [_plain(kind) for kind in kinds])
    figure.set_figheight(max(3.5, 1 + len(kinds) / 4))
    _finish(axes, events, "time_s")
    return figure


def first_bytes(interceptions: pd.DataFrame) -> Figure:
    """How long the first byte took, as a share of the interceptions, by model."""
    _need(interceptions, "model", "ttft_s")
    by_model = _by(interceptions, "model")
    return _shares(by_model, interceptions, "ttft_s", "seconds to the first byte")


def gaps(events: pd.DataFrame) -> Figure:
    """How long it was quiet before an event, as a share of the events, by interception."""
    _need(events, "gap_s")
    return _shares(_by_interception(events), events, "gap_s", "seconds since the event before")


def usage(token_usage: pd.DataFrame, column: str = "total_tokens") -> Figure:
    """A column of `token_usage` added up over time, by model: tokens, or "cost_usd".

    What is not known adds nothing.
    """
    _need(token_usage, "recorded_at", "model", column)
    figure, axes = _begin("UTC", f"{column}, added up")
    for model, rows in _by(token_usage, "model"):
        rows = rows[rows["recorded_at"].notna()].sort_values("recorded_at")
        total = rows[column].astype("float64").fillna(0).cumsum()
        axes.step(rows["recorded_at"].tolist(), total.tolist(), ".-", where="post", label=model)
    _finish(axes, token_usage, "recorded_at")
    figure.autofmt_xdate()
    return figure


def cache_hits(token_usage: pd.DataFrame) -> Figure:
    """Which share of the input came from the provider's cache, by model."""
    columns = ["input_tokens", "cache_read_tokens", "cache_write_tokens"]
    _need(token_usage, "model", *columns)
    figure, axes = _begin("share of the input read from the cache", "")
    for model, rows in _by(token_usage, "model"):
        sums = [float(rows[column].astype("float64").sum()) for column in columns]
        axes.barh(model, sums[1] / sum(sums) if sum(sums) else 0.0)
    axes.set_xlim(0, 1)
    _finish(axes, token_usage, "model")
    return figure


def tools(tool_calls: pd.DataFrame) -> Figure:
    """How often each tool was called."""
    _need(tool_calls, "name")
    figure, axes = _begin("calls", "")
    for name, rows in _by(tool_calls, "name"):
        axes.barh(name, len(rows))
    axes.locator_params(axis="x", integer=True)
    _finish(axes, tool_calls, "name")
    return figure


def _begin(x: str, y: str) -> tuple[Plot, Axes]:
    figure = Plot(figsize=(8, 3.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    return figure, axes


def _shares(parts: list[_Part], frame: pd.DataFrame, column: str, x: str) -> Figure:
    figure, axes = _begin(x, "share")
    for name, rows in parts:
        values = sorted(rows[column].dropna().astype("float64").tolist())
        if values:
            axes.ecdf(values, label=name)
    _finish(axes, frame, column)
    return figure


def _by_interception(events: pd.DataFrame) -> list[_Part]:
    """All in one part where they are too many to be told apart, or not named."""
    parts = _by(events, "interception_id") if "interception_id" in events.columns else []
    if len(parts) > MAX_COLORS:
        return [(f"{len(parts):,} interceptions", events)]
    # What tells them apart stands at the end: the place in a cassette.
    parts = [(name if len(name) <= ID_CHARS else f"…{name[-ID_CHARS:]}", r) for name, r in parts]
    return parts or [("events", events)] * (not events.empty)


def _by(frame: pd.DataFrame, column: str) -> list[_Part]:
    names = frame[column].fillna("unknown")
    return [(_plain(name), frame[names == name]) for name in sorted(set(names.tolist()))]


def _plain(name: object) -> str:
    """A name as it is: no formula between dollar signs, and not hidden from the legend."""
    told = str(name).replace("$", r"\$")
    return f" {told}" if told.startswith("_") else told


def _finish(axes: Axes, frame: pd.DataFrame, column: str) -> None:
    """Say which color is whose, or that there is nothing to draw."""
    if axes.get_legend_handles_labels()[0]:
        # Above the plot: there is no corner that no mark ever comes to.
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize="small", frameon=False
        )
    elif not axes.patches:
        why = "the frame has no rows" if frame.empty else f"no {column} is known"
        axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes)


def _need(frame: pd.DataFrame, *columns: str) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ConfigurationError(
            f"the frame has no {missing!r}: give the one that the plot's argument is named after"
        )
