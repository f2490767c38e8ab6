"""llmbridge.wire.tool_turns."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from llmbridge.canon.messages import Ask, JsonObject, ToolSpec
from llmbridge.wire.anthropic_messages import ANTHROPIC_MESSAGES
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.openai_chat import OPENAI_CHAT, OpenAIChat
from llmbridge.wire.openai_responses import OPENAI_RESPONSES
from llmbridge.wire.tool_turns import add_tools, add_turn, answered_call, put_back


@pytest.mark.parametrize(
    ("dialect", "items", "id"),
    [
        (ANTHROPIC_MESSAGES, [], None),
        (ANTHROPIC_MESSAGES, ["hi", {"role": "user", "content": "hi"}], None),
        (
            ANTHROPIC_MESSAGES,
            [
                {
                    "content": [
                        {"type": "tool_result", "tool_use_id": "a"},
                        {"type": "tool_result", "tool_use_id": "b"},
                        {"type": "tool_result", "tool_use_id": ""},
                        {"type": "text", "text": "reminder"},
                    ]
                }
            ],
            "b",
        ),
        (OPENAI_CHAT, [{"role": "tool", "tool_call_id": "a"}], "a"),
        (OPENAI_CHAT, [{"role": "tool", "tool_call_id": "a"}, {"role": "user"}], None),
        (OPENAI_RESPONSES, [{"type": "function_call_output", "call_id": "a"}], "a"),
        (OPENAI_RESPONSES, [{"type": "function_call", "call_id": "a"}], None),
        (OPENAI_RESPONSES, "plain", None),
    ],
)
def test_the_call_that_a_request_answers_is_found_at_its_end(
    dialect: Dialect, items: Any, id: str | None
):
    key = "input" if dialect is OPENAI_RESPONSES else "messages"

    assert answered_call(dialect, {key: items}) == id


class Counting(OpenAIChat):
    """Counts the messages that are read."""

    read = 0

    def decode_request(self, body: JsonObject) -> Ask:
        Counting.read += len(body["messages"])
        return super().decode_request(body)


@pytest.mark.parametrize(("known", "most"), [(False, 0), (True, 200)])
def test_a_long_conversation_is_not_read_again_for_every_answer_in_it(known: bool, most: int):
    def find(ids: Sequence[str], after: Callable[[], bytes] | None) -> None:
        if known and after is not None:
            after()

    call = {"id": "a", "function": {"name": "mine", "arguments": "{}"}}
    turn = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "a"}]
    body = {"messages": turn * 100}
    Counting.read = 0

    assert put_back(Counting(), body, find) == body
    assert Counting.read <= most


@pytest.mark.feature("gateway", 24)
def test_tools_are_added_sorted_and_before_those_of_an_anthropic_client():
    theirs = {"name": "mine", "input_schema": {}, "cache_control": {"type": "ephemeral"}}

    body = add_tools(ANTHROPIC_MESSAGES, {"tools": [theirs]}, [ToolSpec("b"), ToolSpec("a")])

    assert [tool["name"] for tool in body["tools"]] == ["a", "b", "mine"]


def test_a_turn_after_plain_input_keeps_it_and_lets_a_forced_call_go():
    call = {"type": "function_call", "call_id": "a", "name": "wait", "arguments": "{}"}

    body = add_turn(OPENAI_RESPONSES, {"input": "Hi", "tool_choice": "required"}, [call], [])

    assert (body["input"][0], body["tool_choice"]) == ({"role": "user", "content": "Hi"}, "auto")
