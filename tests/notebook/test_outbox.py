"""When a front end is sent something, and that whoever comes late reaches the same text."""

import pytest

from llmbridge.canon.events import BlockDelta, BlockEnd, BlockStart, Delta, Finish, Start
from llmbridge.canon.messages import Text
from llmbridge.notebook.outbox import HISTORY_CHARS, Outbox
from llmbridge.notebook.trace import Trace
from llmbridge.wire.sse import SSE
from tests.notebook.front import Page, busiest_second, text_of


def grow(trace: Trace, at_s: float, *deltas: Delta, data: str = "{}") -> None:
    trace.take(at_s, SSE(data=data), data, deltas, None)


def begun(id: str = "i1") -> Trace:
    trace = Trace(id)
    grow(trace, 0.0, Start("m"), BlockStart(0, Text()))
    return trace


def stream(
    outbox: Outbox, traces: dict[str, Trace], pages: list[Page], seconds: float, per_s: int = 500
) -> None:
    """Let all traces grow, with a tick of the feed every 30 ms."""
    total, said, tick = int(seconds * per_s), 0, 0
    while said < total:
        tick += 1
        now_s = tick * 0.03
        while said < min(total, now_s * per_s):
            for trace in traces.values():
                grow(trace, said / per_s, BlockDelta(0, f"w{said} "))
            said += 1
        for page in pages:
            page.now_s = now_s
        outbox.flush(traces, now_s)
    for page in pages:
        page.now_s += 10
    outbox.flush(traces, pages[0].now_s)


def test_a_fast_stream_takes_at_most_22_messages_a_second_and_no_event_is_missing() -> None:
    page, trace = Page(), begun()

    stream(Outbox(page), {"i1": trace}, [page], seconds=10)

    assert page.text("i1") == text_of(trace)
    assert page.count("i1") == 5001
    assert 12 <= busiest_second(page.sent_s) <= 22


def test_many_streams_at_once_take_no_more_messages_than_one() -> None:
    page, traces = Page(), {f"i{n}": begun(f"i{n}") for n in range(8)}

    stream(Outbox(page), traces, [page], seconds=3)

    assert {id: page.text(id) for id in traces} == {id: text_of(traces[id]) for id in traces}
    assert busiest_second(page.sent_s) <= 22


def test_many_blocks_that_end_bring_no_more_keyframes_than_two_a_second() -> None:
    page, trace = Page(), begun()
    outbox, traces = Outbox(page), {"i1": trace}

    for tick in range(200):
        page.now_s = tick * 0.03
        grow(trace, page.now_s, BlockEnd(0), BlockStart(0, Text()), BlockDelta(0, "x"))
        outbox.flush(traces, page.now_s)

    assert busiest_second(page.sent_s) <= 22


def test_a_page_that_nobody_sees_is_sent_two_batches_a_second() -> None:
    page, trace = Page(visible=False), begun()

    stream(Outbox(page), {"i1": trace}, [page], seconds=5)

    assert page.text("i1") == text_of(trace)
    assert busiest_second(page.sent_s) <= 5


def test_a_page_that_missed_all_messages_stands_at_the_keyframe() -> None:
    page, trace = Page(deaf=True), begun()

    stream(Outbox(page), {"i1": trace}, [page], seconds=10)

    assert page.text("i1") == text_of(trace)


def test_a_page_that_starts_late_goes_on_from_the_keyframe_and_can_be_told_what_was_before() -> (
    None
):
    page, trace = Page(deaf=True), begun()
    outbox, traces = Outbox(page), {"i1": trace}
    stream(outbox, traces, [page], seconds=8)
    base = page.base["i1"]

    page.deaf = False
    grow(trace, 9.0, BlockDelta(0, "and on"))
    outbox.flush(traces, page.now_s + 1)
    outbox.want("i1")
    for tick in range(2, 9):
        outbox.flush(traces, page.now_s + tick)

    history = [message["j"] for message in page.posted if message["k"] == "history"]
    assert base == 4001
    assert page.text("i1") == text_of(trace)
    assert [piece.count('"w') for piece in history] == [4000]
    assert outbox.settled(traces)


@pytest.mark.parametrize(("text", "data"), [(1, 4000), (4000, 1)])
def test_a_long_history_comes_in_parts(text: int, data: int) -> None:
    page, trace = Page(), begun()
    outbox, traces = Outbox(page), {"i1": trace}
    for place in range(1000):
        grow(trace, place, BlockDelta(0, "x" * text), data="d" * data)
    outbox.begin(traces)

    outbox.want("i1")
    for tick in range(1, 20):
        outbox.flush(traces, tick)

    assert [message["k"] for message in page.posted] == ["history"] * 4
    assert max(len(message["j"]) for message in page.posted) < 1.2 * HISTORY_CHARS


def test_what_has_ended_is_recorded_whole_and_what_does_not_fit_at_least_with_its_text() -> None:
    page = Page()
    small, large = begun("small"), begun("large")
    for trace, size in ((small, 10), (large, 5000)):
        grow(trace, 1.0, BlockDelta(0, "said " * size), Finish("stop"))
        trace.know(status="done")
    outbox = Outbox(page, recording_chars=20_000)

    outbox.begin({"small": small, "large": large})

    assert [whole["id"] for whole in page.recording] == ["small"]
    assert page.text("small") == text_of(small)
    assert page.text("large") == text_of(large)


def test_a_text_of_a_megabyte_costs_no_more_than_256_kilobytes_a_second() -> None:
    page, trace = Page(deaf=True), begun()
    grow(trace, 0.0, BlockDelta(0, "x" * 1_000_000))
    outbox, traces = Outbox(page), {"i1": trace}

    stream(outbox, traces, [page], seconds=20, per_s=20)

    keyframes = len(page.sent_s) - len(page.posted)
    assert keyframes <= 7
    assert page.text("i1") == text_of(trace)


def test_what_is_let_go_of_is_not_kept_count_of() -> None:
    page = Page()
    outbox, traces = Outbox(page), dict[str, Trace]()

    for number in range(9):
        traces = {f"i{number}": begun(f"i{number}")}
        outbox.flush(traces, number)

    assert list(outbox._sent) == ["i8"]


def test_nothing_new_sends_nothing() -> None:
    page, trace = Page(), begun()
    outbox, traces = Outbox(page), {"i1": trace}
    outbox.begin(traces)

    for tick in range(100):
        outbox.flush(traces, tick)

    assert (page.posted, len(page.sent_s), outbox.settled(traces)) == ([], 1, True)


@pytest.mark.parametrize("text", ["\ud800", "__proto__", "</script>", "\u2028"])
def test_any_text_survives_the_way(text: str) -> None:
    page, trace = Page(), begun()
    grow(trace, 0.0, BlockDelta(0, text))

    Outbox(page).flush({"i1": trace}, 0.0)

    assert page.text("i1") == text
    assert page.everything.isascii()
