"""`llmbridge usage`: what calls took, one line a group and their sum."""

from collections.abc import Mapping, Sequence
from typing import Any

from pandas import NA

from llmbridge import frames
from llmbridge.cli.screen import FINE, Screen, bar, say_json
from llmbridge.frames.usage import FIGURES

_HEADINGS = {
    "calls": "calls",
    "input_tokens": "input",
    "cache_read_tokens": "cached",
    "cache_write_tokens": "written",
    "output_tokens": "output",
    "cost_usd": "cost $",
}
Told = Mapping[str, Any]


def run_usage(store: str, by: str, filters: frames.Filters, as_json: bool) -> int:
    """Sum up what is kept there and say it; the exit code.

    Raises:
        ConfigurationError: there is no such store, group or time.
        CassetteError: a recording cannot be read.
    """
    names = [name.strip() for name in by.split(",") if name.strip()]
    with bar("reading calls") as progress:
        table = frames.usage_by(store, names, progress=progress, **filters)
    rows = [_known(dict(zip(table.columns, row, strict=True))) for row in table.to_numpy()]
    total = _known({name: table[name].sum(min_count=1) for name in FIGURES})
    total |= {name: total[name] or 0 for name in ("calls", "unpriced")}
    if as_json:
        say_json({"by": names, "rows": rows, "total": total})
    else:
        _say_lines(names, rows, total)
    return FINE


def _known(told: Mapping[str, Any]) -> dict[str, Any]:
    """Plain numbers, and None for what is not known."""
    return {name: _plain(value) for name, value in told.items()}


def _plain(value: Any) -> Any:
    if value is None or value is NA or value != value:
        return None
    return value.item() if hasattr(value, "item") else value


def _say_lines(names: Sequence[str], rows: Sequence[Told], total: Told) -> None:
    screen = Screen()
    columns = dict.fromkeys(names, False) | dict.fromkeys(_HEADINGS.values(), True)
    lines = [[str(row[name] or "-") for name in names] + _figures(row) for row in rows]
    lines.append(["total", *[""] * (len(names) - 1), *_figures(total)])
    screen.table(columns, lines, bold_last=True)
    if total["unpriced"]:
        screen.say(
            f"{total['unpriced']:,} of {total['calls']:,} calls have no known price: the cost is without them"
        )


def _figures(told: Told) -> list[str]:
    return [_figure(name, told[name]) for name in _HEADINGS]


def _figure(name: str, value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if name == "cost_usd" else f"{value:,}"
