import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.stores.timing import events_of


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("tail", [b"", b"data: open", b": x"])
def test_events_are_cut_after_their_blank_line(end, tail):
    events = [b"data: 1", b"event: x" + end + b"data: 2"]
    body = b"".join(event + end + end for event in events) + tail

    assert events_of(body) == [*(event + end + end for event in events), *([tail] if tail else [])]


def test_blank_lines_that_are_too_many_belong_to_the_event_before():
    assert events_of(b"\n\n\ndata: 1\n\n\n\ndata: 2\n\n\n") == [
        b"\n\n\n",
        b"data: 1\n\n\n\n",
        b"data: 2\n\n\n",
    ]


@given(st.lists(st.sampled_from([b"data: x", b"\n", b"\r", b"\r\n", b"\n\n", b":", b"\xff"])))
def test_cut_events_join_to_the_same_bytes(parts):
    body = b"".join(parts)

    assert b"".join(events_of(body)) == body
