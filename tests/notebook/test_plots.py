from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib: pip install -e '.[dev]'")

import llmbridge
from llmbridge import frames
from llmbridge.errors import ConfigurationError
from llmbridge.notebook import plots

DEMO = Path(llmbridge.__file__).parent / "demo"
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
def test_a_plot_of_no_records_says_so(plot, frame):
    figure = plot(frame([]))

    assert figure._repr_png_().startswith(b"\x89PNG")
    assert [text.get_text() for text in figure.axes[0].texts] == ["the frame has no rows"]


@pytest.mark.parametrize(("plot", "frame"), PLOTS)
def test_a_plot_of_a_recording_has_nothing_to_say(plot, frame):
    figure = plot(frame(DEMO))

    assert figure._repr_png_().startswith(b"\x89PNG")
    assert list(figure.axes[0].texts) == []


def test_a_plot_names_the_times_that_are_not_known():
    frame = of(interception_id=["a"], gap_s=[None])

    assert [text.get_text() for text in plots.gaps(frame).axes[0].texts] == ["no gap_s is known"]


@pytest.mark.parametrize("plot", [plots.timeline, plots.gaps])
@pytest.mark.parametrize(
    ("count", "legend"), [(2, ["i0", "i1"]), (10, None), (11, ["11 interceptions"])]
)
def test_each_interception_has_a_color_and_a_name(plot, count, legend):
    ids = [f"i{number}" for number in range(count)]
    frame = of(interception_id=ids, time_s=[0.1] * count, gap_s=[0.1] * count, type=["a"] * count)

    axes: Any = plot(frame.assign(event="a")).axes[0]

    drawn = [str(each.get_color()) for each in (*axes.lines, *axes.collections)]
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert named == (legend or ids)
    assert len(set(drawn)) == len(drawn) == len(named)


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
