import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.canon.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Delta,
    Event,
    Fail,
    Finish,
    Snapshot,
    Start,
    fold,
    unfold,
)
from llmbridge.canon.messages import AssistantMessage, Text, Thinking, ToolCall, Usage

text = st.text(max_size=30)
words = st.none() | text
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
blocks = st.one_of(
    st.builds(Text, text, words, st.booleans()),
    st.builds(Thinking, text, words, st.booleans()),
    st.builds(
        ToolCall, text, text, st.dictionaries(text, json_values, max_size=3), server=st.booleans()
    ),
    st.builds(ToolCall, text, text, text, custom=st.just(True)),
)
counts = st.none() | st.integers(0, 10)
usages = st.none() | st.builds(Usage, counts, counts, counts, counts, counts, counts)
reasons = st.none() | st.sampled_from(["stop", "length", "tool_use"])
messages = st.one_of(
    st.builds(
        AssistantMessage,
        st.lists(blocks, max_size=4).map(tuple),
        words,
        words,
        reasons,
        words,
        usages,
    ),
    st.builds(
        AssistantMessage,
        st.lists(blocks, max_size=4).map(tuple),
        words,
        words,
        st.just("error"),
        words,
        usages,
        words,
        text,
    ),
)

HELLO: tuple[Delta, ...] = (
    Start("m", "r"),
    BlockStart(0, Thinking()),
    BlockDelta(0, "Hm"),
    BlockEnd(0, "signed"),
    BlockStart(1, Text()),
    BlockDelta(1, "Hel"),
    BlockDelta(1, "lo"),
    BlockStart(2, ToolCall("c", "clock")),
    BlockDelta(2, '{"zo'),
    BlockDelta(2, 'ne":"UT'),
    BlockEnd(1),
    BlockDelta(2, 'C"}'),
    BlockEnd(2),
    Finish("tool_use", "tool_use", Usage(1)),
)


def events(deltas: tuple[Delta, ...] = HELLO) -> list[Event]:
    snapshot = Snapshot()
    return [snapshot.apply(delta) for delta in deltas]


@given(messages)
def test_fold_is_the_inverse_of_unfold(message: AssistantMessage) -> None:
    assert fold(unfold(message)) == message


@given(messages, st.data())
def test_how_a_block_is_cut_into_deltas_does_not_matter(
    message: AssistantMessage, data: st.DataObject
) -> None:
    cut: list[Delta] = []
    for delta in unfold(message):
        if isinstance(delta, BlockDelta):
            place = data.draw(st.integers(0, len(delta.text)))
            cut.append(BlockDelta(delta.index, delta.text[:place]))
            delta = BlockDelta(delta.index, delta.text[place:])
        cut.append(delta)

    assert fold(cut) == message


def test_each_delta_gives_an_event_of_its_type() -> None:
    assert [event.type for event in events()] == [
        "start",
        "thinking_start",
        "thinking_delta",
        "thinking_end",
        "text_start",
        "text_delta",
        "text_delta",
        "tool_call_start",
        "tool_call_delta",
        "tool_call_delta",
        "text_end",
        "tool_call_delta",
        "tool_call_end",
        "done",
    ]


def test_a_partial_is_the_message_as_it_stood() -> None:
    partial = events()[5].partial

    assert partial == AssistantMessage((Thinking("Hm", "signed"), Text("Hel")), "m", "r")


def test_partials_read_late_and_backwards_are_what_they_were_when_read_at_once() -> None:
    snapshot = Snapshot()
    at_once, kept = [], []
    for delta in HELLO:
        event = snapshot.apply(delta)
        kept.append(event)
        at_once.append(
            [(type(block), block.text) for block in event.partial.content]
            + [call.arguments for call in event.partial.tool_calls]
        )

    late = [
        [(type(block), block.text) for block in event.partial.content]
        + [call.arguments for call in event.partial.tool_calls]
        for event in reversed(kept)
    ]

    assert late[::-1] == at_once


def test_tool_arguments_grow_with_the_text() -> None:
    grown = [call.arguments for event in events() for call in event.partial.tool_calls]

    assert grown == [{}, {}, {"zone": "UT"}, {"zone": "UT"}, *[{"zone": "UTC"}] * 3]


def test_arguments_once_read_do_not_change() -> None:
    snapshot = Snapshot()
    for delta in HELLO[:10]:
        event = snapshot.apply(delta)
    early = event.partial.tool_calls[0].arguments
    for delta in HELLO[10:]:
        snapshot.apply(delta)

    assert (early, snapshot.message.tool_calls[0].arguments) == ({"zone": "UT"}, {"zone": "UTC"})


def test_broken_arguments_keep_their_text_and_the_last_good_value() -> None:
    message = fold(
        [Start(), BlockStart(0, ToolCall("c", "f")), BlockDelta(0, '{"a":1'), BlockDelta(0, "}}")]
    )

    assert message.tool_calls[0].arguments_text == '{"a":1}}'


def test_the_content_of_a_partial_reads_like_a_tuple() -> None:
    content = events()[6].partial.content

    assert (len(content), content[-1], content[:1], hash(content), content) == (
        2,
        Text("Hello"),
        (Thinking("Hm", "signed"),),
        hash((Thinking("Hm", "signed"), Text("Hello"))),
        (Thinking("Hm", "signed"), Text("Hello")),
    )


def test_a_failure_keeps_what_came_before() -> None:
    message = fold([*HELLO[:6], Fail("overloaded_error", "come back later")])

    assert (message.text, message.stop_reason, message.error_type, message.error) == (
        "Hel",
        "error",
        "overloaded_error",
        "come back later",
    )


def test_finish_may_restate_model_and_id() -> None:
    message = fold([Start(None, None), Finish("stop", model="m", response_id="r")])

    assert (message.model, message.response_id) == ("m", "r")


def test_a_delta_for_a_block_that_never_began_is_refused() -> None:
    with pytest.raises(KeyError):
        Snapshot().apply(BlockDelta(3, "x"))


def test_keeping_every_event_and_partial_of_a_long_reply_copies_no_text() -> None:
    deltas = [BlockDelta(0, f"word{number:04}") for number in range(8_000)]
    tracemalloc.start()
    snapshot = Snapshot()
    kept = [snapshot.apply(BlockStart(0, Text()))]

    kept += [snapshot.apply(delta) for delta in deltas]
    partials = [event.partial for event in kept]
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert partials[4_000].text == "".join(delta.text for delta in deltas[:4_000])
    # A copy of the text in each would be over 250 MB.
    assert grown < 6_000_000
