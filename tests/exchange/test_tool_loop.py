"""llmbridge.exchange.tool_loop: one answer for the official SDKs, whatever tools were run for it."""

import json
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from llmbridge import Bridge, Script
from llmbridge.canon.messages import AssistantMessage, Block, Text, ToolCall, Usage
from llmbridge.exchange.failure import Failure
from llmbridge.exchange.toolbox import ToolLimits

CLIENTS: Any = {"type": "object", "properties": {}}
Seen = tuple[list[str], list[tuple[str, Any]], tuple[int, int]]


def clock(zone: str = "UTC") -> str:
    """Tell the time."""
    return f"noon in {zone}"


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def calls(*wanted: ToolCall, text: str = "") -> AssistantMessage:
    said: tuple[Block, ...] = (Text(text),) if text else ()
    return AssistantMessage(
        (*said, *wanted), stop_reason="tool_use", usage=Usage(10, output_tokens=5)
    )


def says(text: str) -> AssistantMessage:
    return AssistantMessage((Text(text),), stop_reason="stop", usage=Usage(20, output_tokens=7))


def ask_anthropic(bridge: Bridge, streaming: bool, own: Sequence[str] = ()) -> Seen:
    tools: Any = [{"name": name, "description": "", "input_schema": CLIENTS} for name in own]
    asked: Any = {"model": "claude-sonnet-5", "max_tokens": 100, "tools": tools}
    asked["messages"] = [{"role": "user", "content": "What time is it?"}]
    with bridge.anthropic(max_retries=0) as client:
        if streaming:
            with client.messages.stream(**asked) as stream:
                return seen_message(stream.get_final_message())
        return seen_message(client.messages.create(**asked))


def seen_message(message: Any) -> Seen:
    texts = [block.text for block in message.content if block.type == "text"]
    uses = [(b.name, b.input) for b in message.content if b.type == "tool_use"]
    return texts, uses, (message.usage.input_tokens, message.usage.output_tokens)


def ask_chat(bridge: Bridge, streaming: bool, own: Sequence[str] = ()) -> Seen:
    tools: Any = [{"type": "function", "function": {"name": n, "parameters": CLIENTS}} for n in own]
    asked: Any = {"model": "gpt-5-mini", **({"tools": tools} if tools else {})}
    asked["messages"] = [{"role": "user", "content": "What time is it?"}]
    with bridge.openai(max_retries=0) as client:
        if streaming:
            usage: Any = {"include_usage": True}
            with client.chat.completions.stream(**asked, stream_options=usage) as stream:
                # The helper's final completion raises where the answer was cut.
                stream.until_done()
                return seen_completion(stream.current_completion_snapshot)
        return seen_completion(client.chat.completions.create(**asked))


def seen_completion(completion: Any) -> Seen:
    said = completion.choices[0].message
    uses = [(c.function.name, json.loads(c.function.arguments)) for c in said.tool_calls or ()]
    tokens = (completion.usage.prompt_tokens, completion.usage.completion_tokens)
    return [said.content] if said.content else [], uses, tokens


def ask_responses(bridge: Bridge, streaming: bool, own: Sequence[str] = ()) -> Seen:
    tools: Any = [{"type": "function", "name": n, "parameters": CLIENTS} for n in own]
    asked: Any = {"model": "gpt-5-mini", "tools": tools, "input": "What time is it?"}
    with bridge.openai(max_retries=0) as client:
        if streaming:
            with client.responses.stream(**asked) as stream:
                last: Any = list(stream)[-1]
                return seen_response(last.response)
        return seen_response(client.responses.create(**asked))


def seen_response(response: Any) -> Seen:
    if response.error:
        raise RuntimeError(response.error.message)
    texts = [i.content[0].text for i in response.output if i.type == "message"]
    uses = [(i.name, json.loads(i.arguments)) for i in response.output if i.type == "function_call"]
    return texts, uses, (response.usage.input_tokens, response.usage.output_tokens)


pytestmark = [
    pytest.mark.parametrize(
        "ask",
        [ask_anthropic, ask_chat, ask_responses],
        ids=["anthropic", "chat", "responses"],
    ),
    pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"]),
]


def joined(texts: list[str]) -> str:
    return "".join(texts)


@pytest.mark.feature("gateway", 22)
def test_two_rounds_are_one_answer_with_the_sum_of_tokens(ask: Any, streaming: bool):
    script = Script(calls(ToolCall("a", "clock", {"zone": "CET"}), text="Well. "), says("Noon."))
    with Bridge(script, tools=[clock]) as bridge:
        texts, uses, tokens = ask(bridge, streaming)

        told = bridge.records[1].ask()

    assert (joined(texts), uses, tokens) == ("Well. Noon.", [], (30, 12))
    assert told is not None
    assert told.context.messages[-1].content == (Text("noon in CET"),)


@pytest.mark.feature("aibridge", 11)
@pytest.mark.feature("gateway", 16, 25)
def test_three_rounds_with_parallel_calls_of_one_tool_run_each(ask: Any, streaming: bool):
    both = calls(ToolCall("a", "add", {"a": 1, "b": 2}), ToolCall("b", "add", {"a": 3, "b": 4}))
    script = Script(both, calls(ToolCall("c", "clock", {})), says("Done."))
    with Bridge(script, tools=[clock, add]) as bridge:
        texts, uses, tokens = ask(bridge, streaming)
        rows = bridge.frames.tool_calls()[["round", "name", "injected", "result"]]
        kept = [list(row) for row in rows.itertuples(index=False)]
        rounds = [record.round for record in bridge.records]

    assert (joined(texts), uses, tokens, rounds) == ("Done.", [], (40, 17), [0, 1, 2])
    assert kept == [
        [0, "add", True, "3"],
        [0, "add", True, "7"],
        [1, "clock", True, "noon in UTC"],
    ]


def test_a_clients_own_parallel_calls_reach_it(ask: Any, streaming: bool):
    script = Script(calls(ToolCall("a", "mine", {"x": 1}), ToolCall("b", "mine", {"x": 2})))
    with Bridge(script, tools=[clock]) as bridge:
        _, uses, _ = ask(bridge, streaming, ["mine"])

    assert uses == [("mine", {"x": 1}), ("mine", {"x": 2})]


@pytest.mark.feature("gateway", 25, 41)
def test_what_goes_wrong_with_a_tool_is_told_to_the_model(ask: Any, streaming: bool):
    async def broken() -> str:
        raise LookupError("no such page")

    def refuse(call: ToolCall) -> str | None:
        return "not at night" if call.name == "clock" else None

    async def slow() -> None:
        await anyio.sleep_forever()

    wanted = (ToolCall("a", "broken"), ToolCall("b", "clock"), ToolCall("c", "slow"))
    script = Script(calls(*wanted), says("Sorry."))
    limits = ToolLimits(tool_timeout_s=0.2)
    tools: list[Any] = [broken, clock, slow]
    with Bridge(script, tools=tools, tool_gate=refuse, tool_limits=limits) as bridge:
        texts, _, _ = ask(bridge, streaming)
        told = bridge.records[1].ask()

    assert joined(texts) == "Sorry."
    assert told is not None
    results = [m.content for m in told.context.messages[-3:]]
    assert results == [
        (Text("Error: the tool failed with LookupError: no such page"),),
        (Text("Error: the call was refused: not at night"),),
        (Text("Error: the tool 'slow' did not answer within 0.2 s"),),
    ]


def test_a_long_result_is_cut(ask: Any, streaming: bool):
    script = Script(calls(ToolCall("a", "clock", {"zone": "x" * 50})), says("Long."))
    with Bridge(script, tools=[clock], tool_limits=ToolLimits(result_chars=10)) as bridge:
        ask(bridge, streaming)
        told = bridge.records[1].ask()

    assert told is not None
    cut = Text("noon in xx\n[48 more characters were left out]")
    assert told.context.messages[-1].content == (cut,)


@pytest.mark.feature("gateway", 25)
def test_a_model_that_never_answers_is_stopped(ask: Any, streaming: bool):
    script = Script(*[calls(ToolCall("a", "clock", {})) for _ in range(9)])
    with Bridge(script, tools=[clock], tool_limits=ToolLimits(rounds=3)) as bridge:
        with pytest.raises(Exception, match="called tools in 3 rounds"):
            ask(bridge, streaming)
        [interception] = bridge.interceptions

    assert (len(script.asked), interception.end) == (3, "bridge_limit")


def test_an_upstream_error_in_the_second_round_is_told_as_such(ask: Any, streaming: bool):
    script = Script(calls(ToolCall("a", "clock", {}), text="Well. "), Failure(529))
    with Bridge(script, tools=[clock]) as bridge:
        with pytest.raises(Exception, match="Overloaded"):
            ask(bridge, streaming)
        [interception] = bridge.interceptions

    assert interception.end != "completed"


def test_a_call_cut_by_the_token_limit_is_not_run(ask: Any, streaming: bool):
    cut = AssistantMessage(
        (Text("Well."), ToolCall("a", "clock", arguments_text='{"zo')),
        stop_reason="length",
        usage=Usage(1, output_tokens=2),
    )
    script = Script(cut)
    with Bridge(script, tools=[clock]) as bridge:
        texts, uses, tokens = ask(bridge, streaming)

    assert (texts, uses, tokens, len(script.asked)) == (["Well."], [], (1, 2), 1)


def test_a_tool_that_both_sides_have_is_refused(ask: Any, streaming: bool):
    with (
        Bridge(Script("No."), tools=[clock]) as bridge,
        pytest.raises(Exception, match="a tool called 'clock'"),
    ):
        ask(bridge, streaming, ["clock"])
