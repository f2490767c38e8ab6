from datetime import timedelta

import pytest
from pandas.testing import assert_frame_equal

from llmbridge import frames
from llmbridge.errors import ConfigurationError
from llmbridge.frames import Frames
from llmbridge.frames.usage import FIGURES, GROUPS
from tests.samples import NOON, record

TEXT = ("anthropic.messages", "text.sse")


def test_calls_of_a_group_are_summed():
    records = [record(*TEXT, id=str(n), started_at=NOON + timedelta(hours=8 * n)) for n in range(3)]
    alone = frames.token_usage(records[:1])

    days = frames.usage_by(records, ["day", "provider"])

    assert days[["day", "provider", "calls"]].to_numpy().tolist() == [
        ["2026-11-20", "anthropic", 2],
        ["2026-11-21", "anthropic", 1],
    ]
    assert days["output_tokens"].tolist() == [
        2 * alone["output_tokens"][0],
        alone["output_tokens"][0],
    ]
    assert days["cost_usd"].sum() == pytest.approx(3 * alone["cost_usd"][0])


def test_what_has_no_name_is_a_group_of_its_own_and_comes_last():
    records = [record(*TEXT, id="a", started_at=None), record(*TEXT, id="b")]

    days = frames.usage_by(records, ["day"])

    assert days["day"].isna().tolist() == [False, True]
    assert days["calls"].tolist() == [1, 1]


def test_tokens_without_a_price_are_counted():
    (row,) = frames.usage_by([record(*TEXT, provider="mine")]).itertuples()

    assert (row.calls, row.unpriced) == (1, 1)


def test_no_calls_have_the_same_columns_and_dtypes():
    empty, full = frames.usage_by([], GROUPS), frames.usage_by([record(*TEXT)], GROUPS)

    assert list(empty) == [*GROUPS, *FIGURES]
    assert_frame_equal(empty, full[:0])


def test_the_frames_of_a_source_sum_up_with_filters():
    source = [record(*TEXT)]

    assert Frames(source).usage_by(provider="anthropic").equals(frames.usage_by(source))
    assert Frames(source).usage_by(provider="openai").empty


@pytest.mark.parametrize("by", [["cheese"], [], ["day", "day"]])
def test_a_group_that_is_none_is_told_with_those_there_are(by):
    with pytest.raises(ConfigurationError, match="model, actor, day, provider, client"):
        frames.usage_by([], by)
