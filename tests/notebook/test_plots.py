from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib: pip install -e '.[dev]'")

from llmbridge import frames
from llmbridge.errors import ConfigurationError
from llmbridge.notebook import plots

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)

PLOTS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (plots.timeline, frames.events),
    (plots.gaps, frames.events),
    (plots.first_bytes, frames.interceptions),
    (plots.usage, frames.token_usage),
    (plots.cache_hits, frames.token_usage),
    (plots.tools, frames.tool_calls),
]


def of(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


@pytest.mark.parametrize(("plot", "frame"), PLOTS)
def test_a_plot_of_no_records_can_be_drawn(plot, frame):
    drawn = plot(frame([]))._repr_png_()

    assert drawn.startswith(b"\x89PNG")


@pytest.mark.parametrize(("plot", "frame"), PLOTS)
def test_a_plot_names_the_column_that_is_not_there(plot, frame):
    with pytest.raises(ConfigurationError, match="has no"):
        plot(of(other=[1]))


def test_the_timeline_has_a_line_for_each_kind_of_event():
    kinds = ["start", "text_delta", None, "text_delta"]
    names = ["message_start", "a", "ping", "a"]

    axes: Any = plots.timeline(of(time_s=[0.1, 0.2, 0.3, 0.4], type=kinds, event=names)).axes[0]

    assert [label.get_text() for label in axes.get_yticklabels()] == ["start", "text_delta", "ping"]
    assert [list(line.get_positions()) for line in axes.collections] == [[0.1], [0.2, 0.4], [0.3]]


def test_usage_is_added_up_by_model_in_the_order_of_time():
    later = NOON.replace(hour=13)
    frame = of(recorded_at=[later, NOON, NOON], model=["m", "m", "n"], total_tokens=[5, 2, 9])

    axes: Any = plots.usage(frame).axes[0]

    assert {line.get_label(): list(line.get_ydata()) for line in axes.lines} == {
        "m": [2, 7],
        "n": [9],
    }


def test_cache_hits_are_the_share_of_all_input():
    frame = of(
        model=["m"], input_tokens=[10], cache_read_tokens=[80], cache_write_tokens=pd.array([10])
    )

    axes: Any = plots.cache_hits(frame).axes[0]

    assert [bar.get_width() for bar in axes.patches] == [0.8]


@pytest.mark.parametrize("name", ["$\\frac", "_hidden", "<b>"])
def test_a_name_is_no_formula_and_stays_in_the_legend(name):
    figure: Any = plots.first_bytes(of(model=[name], ttft_s=[0.5]))

    assert figure._repr_png_()
    assert len(figure.axes[0].get_legend().get_texts()) == 1


def test_a_plot_leaves_no_figure_open():
    import matplotlib.pyplot as plt

    plots.tools(of(name=["clock"]))

    assert plt.get_fignums() == []
