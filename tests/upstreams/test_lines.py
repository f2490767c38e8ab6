import re
from typing import Any

import pytest

from llmbridge.canon.messages import (
    Ask,
    AssistantMessage,
    Context,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
    UserMessage,
)
from llmbridge.errors import ConfigurationError
from llmbridge.upstreams.lines import When, calls, cue_of, repeat, reply, when

NUMBER: Any = 42
CALLED = AssistantMessage((ToolCall("call_1", "clock"),))


def user(text: str) -> UserMessage:
    return UserMessage((Text(text),))


def ask(*messages: Message, model: str = "gpt-5-mini") -> Ask:
    return Ask(model, Context(messages=messages))


def test_a_reply_keeps_its_blocks_in_order() -> None:
    said = reply(Thinking("hm"), "One moment.", calls("clock"), "Done.")

    assert said == AssistantMessage(
        (Thinking("hm"), Text("One moment."), ToolCall("", "clock"), Text("Done.")),
        stop_reason="tool_use",
    )


def test_a_reply_joins_several_calls() -> None:
    said = reply(calls("clock"), calls("weather", city="Lisbon"))

    assert said.content == (ToolCall("", "clock"), ToolCall("", "weather", {"city": "Lisbon"}))


@pytest.mark.parametrize("part", [3, None, ["Hello"]])
def test_what_is_no_part_of_a_reply_is_refused(part: Any) -> None:
    with pytest.raises(ConfigurationError, match="no part of a reply"):
        reply("Hello", part)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"usage": {"input_tokens": 5}}, "usage={'input_tokens': 5}: give Usage"),
        ({"stop_reason": "bogus"}, "stop_reason='bogus': give one of stop, length"),
    ],
)
def test_a_usage_or_reason_that_is_none_is_refused(said: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        reply("Hello", **said)


def test_stop_reason_and_usage_can_be_chosen() -> None:
    said = reply("cut", stop_reason="length", usage=Usage(1, output_tokens=2))

    assert (said.stop_reason, said.usage) == ("length", Usage(1, output_tokens=2))


@pytest.mark.parametrize(
    ("condition", "asked"),
    [
        (when("weather"), ask(user("How is the weather?"))),
        (when(re.compile("rain|snow")), ask(user("Will it snow?"))),
        (when("rain", "Lisbon"), ask(user("Lisbon:"), user("rain?"))),
        (when(lambda ask: ask.streaming), Ask(streaming=True)),
        (when(model="gpt-*"), ask()),
        (when(tool_result="clock"), ask(CALLED, ToolResult("call_1"))),
        (when(tool_result="clock"), ask(ToolResult("x", name="clock"))),
        (when("noon", tool_result="clock"), ask(CALLED, ToolResult("call_1"), user("noon?"))),
    ],
    ids=["text", "pattern", "both texts", "function", "model", "result", "named result", "two"],
)
def test_a_condition_holds(condition: When, asked: Ask) -> None:
    assert condition.holds(asked)


@pytest.mark.parametrize(
    ("condition", "asked"),
    [
        (when("weather"), ask(user("What time is it?"))),
        (when("rain", "Lisbon"), ask(user("Will it rain?"))),
        (when("weather"), ask(user("weather?"), AssistantMessage(), user("Thanks."))),
        (when("weather"), ask(user("weather?"), CALLED, ToolResult("call_1"))),
        (when(model="claude-*"), ask()),
        (when(tool_result="clock"), ask(CALLED, ToolResult("call_2"))),
        (when(tool_result="clock"), ask(CALLED, ToolResult("call_1"), AssistantMessage())),
    ],
    ids=[
        "text",
        "one of two",
        "earlier text",
        "result came",
        "model",
        "other id",
        "earlier result",
    ],
)
def test_a_condition_does_not_hold(condition: When, asked: Ask) -> None:
    assert not condition.holds(asked)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: cue_of(NUMBER), "42 is no line: give text"),
        (lambda: cue_of(when("x")), "is half a rule: go on with .say"),
        (lambda: when(), "says nothing"),
        (lambda: when("x").say(NUMBER), "42 is no line"),
        (lambda: repeat("x", times=0), "times=0.*give 1 or more"),
    ],
    ids=["number", "half a rule", "no condition", "rule of a number", "no times"],
)
def test_what_is_no_line_is_refused(make: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        make()
