import pandas as pd
import pytest

from llmbridge import frames
from llmbridge.exchange.columns import FRAMES

CONTRACT = {
    "interceptions": "interception_id started_at ended_at duration_s ttft_s frontend actor client"
    " session_id provider dialect model streaming rounds status end error_type error stop_reason"
    " input_tokens cache_read_tokens cache_write_tokens output_tokens reasoning_tokens total_tokens"
    " cost_usd events bytes replayed fault",
    "token_usage": "interception_id round response_id recorded_at provider model input_tokens"
    " cache_read_tokens cache_write_tokens output_tokens reasoning_tokens total_tokens cost_usd"
    " usage_raw",
    "prompts": "interception_id response_id recorded_at prompt",
    "tool_calls": "interception_id round response_id tool_call_id name arguments injected server"
    " result error duration_s",
    "thoughts": "interception_id source content",
    "events": "interception_id round index time_s gap_s event type delta bytes",
}


@pytest.mark.parametrize("name", CONTRACT)
def test_the_promised_columns_come_first_and_in_order(name):
    promised = CONTRACT[name].split()

    assert [column.name for column in FRAMES[name]][: len(promised)] == promised


@pytest.mark.parametrize("name", FRAMES)
def test_an_empty_frame_has_every_column_with_its_dtype(name):
    columns = [
        column for column in FRAMES[name] if name != "interceptions" or column != FRAMES[name][0]
    ]

    frame = getattr(frames, name)([])

    assert frame.dtypes.astype(str).to_dict() == {c.name: c.dtype for c in columns}
    assert len(frame) == 0


def test_the_interceptions_are_indexed_by_their_id_also_when_there_are_none():
    index = frames.interceptions([]).index

    assert (index.name, str(index.dtype)) == ("interception_id", "str")


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_written_in_arrow(name):
    frame = getattr(frames, name)([]).reset_index()

    assert frame["interception_id"].dtype == pd.StringDtype("pyarrow", na_value=float("nan"))


@pytest.mark.parametrize("name", FRAMES)
def test_every_column_says_what_it_means(name):
    assert all(column.meaning for column in FRAMES[name])
