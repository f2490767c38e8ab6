"""llmbridge.wire.rounds and its dialects: whatever is said in several rounds is one answer, however it is cut."""

import json
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbridge.canon.events import Snapshot, fold, unfold
from llmbridge.canon.messages import Ask, AssistantMessage, Text, ToolCall
from llmbridge.exchange.event_pieces import Pieces
from llmbridge.wire.anthropic_messages import ANTHROPIC_MESSAGES
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.openai_chat import OPENAI_CHAT
from llmbridge.wire.openai_chat_rounds import merged
from llmbridge.wire.openai_responses import OPENAI_RESPONSES
from llmbridge.wire.rounds import Rounds, Splice, added
from llmbridge.wire.sse import SSEDecoder, encode_sse
from llmbridge.wire.tool_turns import rounds
from tests.conformance.strategies import messages

DIALECTS = pytest.mark.parametrize(
    "dialect", [ANTHROPIC_MESSAGES, OPENAI_CHAT, OPENAI_RESPONSES], ids=lambda d: d.name
)
OURS = "7_of_the_bridge_7"
OPTIONS: Any = {"stream_options": {"include_usage": True}}


def named(message: AssistantMessage, number: int, *, last: bool) -> AssistantMessage:
    """The same with ids of its own; all calls but some of the last message are ours."""
    calls = 0
    content: list[Any] = []
    for block in message.content:
        if isinstance(block, ToolCall):
            calls += 1
            mine = last and calls % 2
            name = "mine" if mine else OURS
            content.append(replace(block, id=f"call_{number}_{calls}", name=name))
        else:
            content.append(block)
    if not last and not calls:
        content.append(ToolCall(f"call_{number}_0", OURS))
    reason = message.stop_reason if last else "tool_use"
    return replace(message, content=tuple(content), response_id=f"id_{number}", stop_reason=reason)


@st.composite
def several(draw: st.DrawFn) -> list[AssistantMessage]:
    """One to three rounds of one answer."""
    said = draw(st.lists(messages(), min_size=1, max_size=3))
    return [named(each, n, last=n == len(said) - 1) for n, each in enumerate(said)]


def streamed(dialect: Dialect, message: AssistantMessage) -> bytes:
    snapshot, encoder = Snapshot(), dialect.encoder(Ask(options=OPTIONS))
    events = [sse for delta in unfold(message) for sse in encoder.feed(snapshot.apply(delta))]
    return b"".join(encode_sse(sse) for sse in events)


def spliced(one: Rounds, body: bytes, cuts: list[int], *, later: bool) -> tuple[bytes, bytes]:
    """What the client gets at once, and what is held until it is known whether another round follows."""
    one.begin()
    splice, pieces, shown = Splice(one, until_kept=later), Pieces(), b""
    borders = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    for start, end in pairwise(borders):
        for piece in pieces.feed(body[start:end]):
            shown += splice.feed(piece)
    shown += splice.close(bytes(pieces.held))
    return shown, splice.held()


def read(dialect: Dialect, body: bytes) -> AssistantMessage:
    decoder, sse = dialect.decoder(), SSEDecoder()
    deltas = [delta for event in [*sse.feed(body), *sse.close()] for delta in decoder.feed(event)]
    return fold([*deltas, *decoder.close()])


def calls_of(message: AssistantMessage, name: str = "") -> list[tuple[str, str, Any]]:
    return [
        (call.id, call.name, call.arguments)
        for call in message.tool_calls
        if not name or call.name == name
    ]


@DIALECTS
@given(said=several(), cuts=st.lists(st.integers(0, 100_000), max_size=6))
def test_rounds_are_one_answer_with_the_sum_of_usage(
    dialect: Dialect, said: list[AssistantMessage], cuts: list[int]
):
    one = rounds(dialect, OPTIONS, {OURS})
    heard = b""
    for number, message in enumerate(said):
        shown, held = spliced(one, streamed(dialect, message), cuts, later=number > 0)
        heard += shown + (held if number == len(said) - 1 else b"")

    got, last = read(dialect, heard), said[-1]
    texts = [each.text for each in said]
    assert got.text == "".join(texts)
    assert calls_of(got) == calls_of(last, "mine")
    assert got.stop_reason == last.stop_reason
    assert got.response_id == "id_0"
    assert got.usage is not None
    totals = [each.usage.total_tokens or 0 for each in said if each.usage]
    assert got.usage.total_tokens == sum(totals)
    assert OURS.encode() not in heard


@DIALECTS
@given(message=messages(), cuts=st.lists(st.integers(0, 100_000), max_size=6))
def test_an_answer_without_calls_of_ours_keeps_its_bytes(
    dialect: Dialect, message: AssistantMessage, cuts: list[int]
):
    body = streamed(dialect, message)

    shown, held = spliced(rounds(dialect, OPTIONS, {"nobody"}), body, cuts, later=False)

    assert (shown, held) == (body, b"")


@DIALECTS
@pytest.mark.parametrize("whole", [True, False], ids=["block", "stream"])
@given(data=st.data())
def test_the_model_is_told_again_what_it_said(dialect: Dialect, whole: bool, data: Any):
    message = named(data.draw(messages()), 0, last=True)
    one = rounds(dialect, OPTIONS, {OURS})

    if whole:
        one.begin()
        one.whole(json.loads(dialect.encode_reply(message)))
    else:
        spliced(one, streamed(dialect, message), [], later=False)
    key = "input" if dialect is OPENAI_RESPONSES else "messages"
    told = dialect.decode_request({key: one.turn()}).context.messages

    said = [each for each in told if isinstance(each, AssistantMessage)]
    assert "".join(each.text for each in said) == message.text
    assert [call for each in said for call in calls_of(each)] == calls_of(message)


@DIALECTS
@given(said=several())
def test_whole_rounds_are_one_answer_too(dialect: Dialect, said: list[AssistantMessage]):
    one = rounds(dialect, OPTIONS, {OURS})
    for message in said:
        one.begin()
        one.whole(json.loads(dialect.encode_reply(message)))

    got = fold(dialect.decode_reply(json.dumps(one.answer()).encode()))

    assert got.text == "".join(each.text for each in said)
    assert calls_of(got) == calls_of(said[-1], "mine")
    assert got.usage is not None
    assert got.usage.total_tokens == sum(e.usage.total_tokens or 0 for e in said if e.usage)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ({"a": 1}, {"a": 2}, {"a": 3}),
        ({"a": 1, "b": 1}, {"a": None}, {"a": 1, "b": 1}),
        ({}, {"a": None}, {"a": None}),
        ({"a": {"b": 1.5}}, {"a": {"b": 1, "c": 2}}, {"a": {"b": 2.5, "c": 2}}),
        ({"tier": "x", "on": True}, {"tier": "y", "on": True}, {"tier": "y", "on": True}),
    ],
)
def test_numbers_are_added_and_the_rest_is_the_later(one: Any, other: Any, both: Any):
    assert added(one, other) == both


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        ([{"content": "a"}, {"content": None}, {"content": "b"}], {"content": "ab"}),
        ([{"content": None}], {"content": None}),
        ([{"id": "x", "type": "f"}, {"id": "", "type": "f"}], {"id": "x", "type": "f"}),
        (
            [{"f": {"name": "n", "arguments": ""}}, {"f": {"arguments": "{}"}}],
            {"f": {"name": "n", "arguments": "{}"}},
        ),
        (
            [{"l": [{"index": 0, "text": "a"}]}, {"l": [{"index": 0, "text": "b"}, {"index": 1}]}],
            {"l": [{"index": 0, "text": "ab"}, {"index": 1}]},
        ),
        (
            [{"content": "a"}, {"content": [{"type": "x"}]}],
            {"content": [{"type": "text", "text": "a"}, {"type": "x"}]},
        ),
        ([{"n": 1}, {"n": 2}], {"n": 2}),
    ],
)
def test_pieces_of_a_message_are_joined(pieces: Any, whole: Any):
    assert merged(pieces) == whole


def test_text_that_was_never_said_is_no_block():
    empty = AssistantMessage((Text(""), ToolCall("a", OURS)), stop_reason="tool_use")
    one = rounds(ANTHROPIC_MESSAGES, {}, {OURS})

    spliced(one, streamed(ANTHROPIC_MESSAGES, empty), [], later=False)

    assert one.turn() == [
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "a", "name": OURS, "input": {}}],
        }
    ]


ODD: list[Any] = [None, [], {}, [[]], {"a": []}, [None], "", "x", "7", -1, 1.5, 10**30, True]


def spoiled(value: Any, chance: Random) -> Any:
    """The same JSON with some of it missing, or of an odd kind."""
    if chance.random() < 0.1:
        return chance.choice(ODD)
    if isinstance(value, dict):
        return {k: spoiled(v, chance) for k, v in value.items() if chance.random() > 0.05}
    return [spoiled(each, chance) for each in value] if isinstance(value, list) else value


@DIALECTS
@settings(max_examples=50)
@given(message=messages(), chance=st.randoms(use_true_random=False))
def test_events_of_odd_kinds_break_nothing(
    dialect: Dialect, message: AssistantMessage, chance: Random
):
    one = rounds(dialect, OPTIONS, {OURS})
    body = streamed(dialect, named(message, 0, last=True))
    for later in (False, True):
        odd = b""
        for sse in SSEDecoder().feed(body):
            data = (
                sse.data
                if sse.data == "[DONE]"
                else json.dumps(spoiled(json.loads(sse.data), chance))
            )
            odd += encode_sse(replace(sse, data=data))
        shown, held = spliced(one, odd, [], later=later)

        assert isinstance(shown + held, bytes)
        assert json.dumps([one.turn(), one.names()])


@DIALECTS
@given(message=messages(), chance=st.randoms(use_true_random=False))
def test_bodies_of_odd_kinds_break_nothing(
    dialect: Dialect, message: AssistantMessage, chance: Random
):
    one = rounds(dialect, OPTIONS, {OURS})
    body = json.loads(dialect.encode_reply(named(message, 0, last=True)))
    for _ in range(2):
        one.begin()
        with suppress(ValueError):
            one.whole({key: spoiled(value, chance) for key, value in body.items()})

            assert json.dumps([one.turn(), one.names(), one.answer()])
