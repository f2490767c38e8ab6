"""llmbridge.exchange.tool_loop: a client that gets calls of its own tools brings their results, and nothing is lost."""

import json

import pytest

from llmbridge import Bridge, Script
from llmbridge.canon.messages import AssistantMessage, Block, Text, ToolCall, ToolResult, Usage
from llmbridge.exchange.toolbox import ToolLimits
from tests.exchange.sdk_talks import TALKS

WHOLE = [name for name in TALKS if name != "chained"]
STREAMING = pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])


def clock() -> str:
    """Tell the time."""
    return "noon"


def says(*blocks: Block | str) -> AssistantMessage:
    content = tuple(Text(block) if isinstance(block, str) else block for block in blocks)
    called = any(isinstance(block, ToolCall) for block in content)
    return AssistantMessage(
        content, stop_reason="tool_use" if called else "stop", usage=Usage(10, output_tokens=5)
    )


def told(bridge: Bridge) -> list[tuple[str, ...]]:
    """What the provider was told last: texts, calls and results, in order."""
    ask = bridge.records[-1].ask()
    assert ask is not None
    kept: list[tuple[str, ...]] = []
    for message in ask.context.messages:
        if isinstance(message, ToolResult):
            kept.append(
                (
                    "result",
                    message.tool_call_id,
                    *[p.text for p in message.content if isinstance(p, Text)],
                )
            )
            continue
        for block in message.content:
            if isinstance(block, ToolCall):
                kept.append(("call", block.id, block.name))
            elif isinstance(block, Text):
                kept.append((block.text,))
    return kept


@STREAMING
@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.feature("gateway", 25)
def test_calls_of_both_sides_in_one_answer_are_both_answered(kind: str, streaming: bool):
    both = says("Well.", ToolCall("a", "clock"), ToolCall("b", "mine"))
    with Bridge(Script(both, says("Done.")), tools=[clock]) as bridge:
        talk = TALKS[kind](bridge, streaming, ("mine",))
        first = talk.say("Hi")
        last = talk.bring({"b": "blue"})

        assert (first.text, first.calls, first.tokens) == ("Well.", [("b", "mine")], (10, 5))
        assert (last.text, last.calls, last.tokens) == ("Done.", [], (10, 5))
        assert told(bridge) == [
            ("Hi",),
            ("Well.",),
            ("call", "a", "clock"),
            ("call", "b", "mine"),
            ("result", "a", "noon"),
            ("result", "b", "blue"),
        ]


@STREAMING
@pytest.mark.parametrize("kind", WHOLE)
def test_what_was_hidden_before_the_clients_call_is_told_again(kind: str, streaming: bool):
    script = Script(
        says("One.", ToolCall("a", "clock")),
        says("Two.", ToolCall("b", "mine")),
        says("Three.", ToolCall("c", "clock")),
        says(ToolCall("d", "mine")),
        says("Done."),
    )
    with Bridge(script, tools=[clock]) as bridge:
        talk = TALKS[kind](bridge, streaming, ("mine",))
        heard = [talk.say("Hi"), talk.bring({"b": "blue"}), talk.bring({"d": "red"})]

        assert [each.text for each in heard] == ["One.Two.", "Three.", "Done."]
        assert [each.calls for each in heard] == [[("b", "mine")], [("d", "mine")], []]
        assert told(bridge) == [
            ("Hi",),
            ("One.",),
            ("call", "a", "clock"),
            ("result", "a", "noon"),
            ("Two.",),
            ("call", "b", "mine"),
            ("result", "b", "blue"),
            ("Three.",),
            ("call", "c", "clock"),
            ("result", "c", "noon"),
            ("call", "d", "mine"),
            ("result", "d", "red"),
        ]


@STREAMING
def test_a_provider_that_keeps_the_conversation_is_told_the_results_alone(streaming: bool):
    both = says(ToolCall("a", "clock"), ToolCall("b", "mine"))
    script = Script(says("One.", ToolCall("z", "clock")), both, says("Done."))
    with Bridge(script, tools=[clock]) as bridge:
        talk = TALKS["chained"](bridge, streaming, ("mine",))
        talk.say("Hi")
        talk.bring({"b": "blue"})
        [*_, second, third] = bridge.records
        assert third.request is not None
        assert second.message is not None
        body = json.loads(third.request.body)

    outputs = [(item["call_id"], item["output"]) for item in body["input"]]
    assert outputs == [("a", "noon"), ("b", "blue")]
    assert body["previous_response_id"] == second.message.response_id


@STREAMING
@pytest.mark.parametrize("kind", WHOLE)
def test_when_it_is_forgotten_the_client_s_own_is_told(kind: str, streaming: bool):
    both = says("Well.", ToolCall("a", "clock"), ToolCall("b", "mine"))
    limits = ToolLimits(memory_bytes=0)
    with Bridge(Script(both, says("Done.")), tools=[clock], tool_limits=limits) as bridge:
        talk = TALKS[kind](bridge, streaming, ("mine",))
        talk.say("Hi")
        talk.bring({"b": "blue"})

        assert told(bridge) == [
            ("Hi",),
            ("Well.",),
            ("call", "b", "mine"),
            ("result", "b", "blue"),
        ]


@pytest.mark.parametrize("kind", WHOLE)
def test_another_conversation_with_the_same_ids_gets_nothing_of_it(kind: str):
    both = says(ToolCall("a", "clock"), ToolCall("b", "mine"))
    script = Script(both, says(ToolCall("b", "mine")), says("Two."))
    with Bridge(script, tools=[clock]) as bridge:
        first, other = (TALKS[kind](bridge, False, ("mine",)) for _ in range(2))
        first.say("Hi")
        other.say("Hello")
        other.bring({"b": "blue"})
        elsewhere = told(bridge)

    assert elsewhere == [("Hello",), ("call", "b", "mine"), ("result", "b", "blue")]


@STREAMING
def test_an_answer_that_was_translated_is_known_again(streaming: bool):
    script = Script(
        says("One.", ToolCall("a", "clock")),
        says(ToolCall("b", "clock"), ToolCall("c", "mine")),
        says("Done."),
    )
    with Bridge(script, tools=[clock], routes={"claude-*": "openai/gpt-5-mini"}) as bridge:
        here = {"base_url": "http://localhost"}
        talk = TALKS["anthropic"](bridge, streaming, ("mine",), client=here)
        first, last = talk.say("Hi"), talk.bring({"c": "blue"})

        assert (first.text, first.calls, last.text) == ("One.", [("c", "mine")], "Done.")
        assert {record.dialect for record in bridge.records} == {"openai.chat"}
        assert told(bridge) == [
            ("Hi",),
            ("One.",),
            ("call", "a", "clock"),
            ("result", "a", "noon"),
            ("call", "b", "clock"),
            ("call", "c", "mine"),
            ("result", "b", "noon"),
            ("result", "c", "blue"),
        ]
