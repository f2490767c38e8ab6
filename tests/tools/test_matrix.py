"""One answer through three rounds of tools: every dialect, streamed and whole, sync and async, every kind of tool."""

from collections.abc import Iterator
from typing import Any

import pytest

from llmbridge import Bridge, Script
from llmbridge.canon.messages import AssistantMessage, Block, Text, ToolCall, ToolResult, Usage
from llmbridge.exchange.call import Call, Reply
from llmbridge.tools.mcp import mcp_server
from tests.exchange.sdk_talks import TALKS
from tests.tools.test_mcp import KEY, serving, stdio

QUESTION: Any = [{"role": "user", "content": "What is it like?"}]


def clock(zone: str = "UTC") -> str:
    """Tell the time."""
    return f"noon in {zone}"


class Stage:
    """A provider whose script is another for each test."""

    script = Script()

    async def __call__(self, call: Call) -> Reply:
        return await self.script(call)


STAGE = Stage()


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    with serving() as port:
        far = mcp_server("far", f"http://127.0.0.1:{port}/mcp", headers=KEY, allow="weather|refuse")
        near = stdio("near", allow="weather|process")
        with Bridge(STAGE, tools=[clock, near, far]) as made:
            yield made


def turn(*blocks: Block, tokens: int) -> AssistantMessage:
    called = any(isinstance(block, ToolCall) for block in blocks)
    usage = Usage(tokens, output_tokens=1)
    return AssistantMessage(blocks, stop_reason="tool_use" if called else "stop", usage=usage)


def city(id: str, name: str, where: str) -> ToolCall:
    return ToolCall(id, name, {"city": where})


THREE = (
    turn(
        Text("Let me see. "),
        ToolCall("a", "clock", {"zone": "CET"}),
        city("b", "bmcp_near_weather", "Oslo"),
        city("c", "bmcp_near_weather", "Rome"),
        tokens=10,
    ),
    turn(city("d", "bmcp_far_weather", "Bonn"), ToolCall("e", "bmcp_far_refuse"), tokens=20),
    turn(Text("Sunny."), tokens=30),
)
RAN = [
    ("a", 0, None, "noon in CET", None),
    ("b", 0, "near", "sun in Oslo", None),
    ("c", 0, "near", "sun in Rome", None),
    ("d", 1, "far", "sun in Bonn", None),
    ("e", 1, "far", None, "Error: no such city"),
]


def ran(bridge: Bridge) -> list[tuple[Any, ...]]:
    last = bridge.interceptions[-1].tool_runs
    told = [(run.tool_call_id, run.round, run.server, run.result, run.error) for run in last]
    return sorted(told)


@pytest.mark.feature("aibridge", 11, 16)
@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])
@pytest.mark.parametrize("kind", ["anthropic", "chat", "responses"])
@pytest.mark.feature("gateway", 25)
def test_three_rounds_are_one_answer_for_a_sync_sdk(bridge: Bridge, kind: str, streaming: bool):
    STAGE.script = Script(*THREE)

    heard = TALKS[kind](bridge, streaming).say("What is it like?")

    assert (heard.text, heard.calls, heard.tokens) == ("Let me see. Sunny.", [], (60, 3))
    assert ran(bridge) == RAN


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])
@pytest.mark.parametrize("kind", ["anthropic", "chat", "responses"])
@pytest.mark.feature("gateway", 25)
async def test_three_rounds_are_one_answer_for_an_async_sdk(
    bridge: Bridge, kind: str, streaming: bool
):
    STAGE.script = Script(*THREE)

    heard = await ASYNC[kind](bridge, streaming)

    assert heard == ("Let me see. Sunny.", (60, 3))
    assert ran(bridge) == RAN


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])
@pytest.mark.parametrize("kind", ["anthropic", "chat", "responses"])
@pytest.mark.feature("gateway", 25)
def test_calls_of_all_sides_in_one_answer(bridge: Bridge, kind: str, streaming: bool):
    mixed = turn(
        ToolCall("a", "clock"),
        ToolCall("mine", "mine"),
        city("b", "bmcp_near_weather", "Oslo"),
        ToolCall("too", "mine"),
        city("c", "bmcp_far_weather", "Rome"),
        tokens=10,
    )
    STAGE.script = Script(mixed, turn(Text("Sunny."), tokens=20))
    talk = TALKS[kind](bridge, streaming, ("mine",))

    first = talk.say("What is it like?")
    last = talk.bring({"mine": "blue", "too": "red"})

    assert (first.calls, first.tokens) == ([("mine", "mine"), ("too", "mine")], (10, 1))
    assert (last.text, last.tokens) == ("Sunny.", (20, 1))
    told = STAGE.script.asked[-1].context.messages
    results = {
        message.tool_call_id: message.content for message in told if isinstance(message, ToolResult)
    }
    assert results == {
        "a": (Text("noon in UTC"),),
        "b": (Text("sun in Oslo"),),
        "c": (Text("sun in Rome"),),
        "mine": (Text("blue"),),
        "too": (Text("red"),),
    }


async def anthropic(bridge: Bridge, streaming: bool) -> tuple[str, tuple[int, int]]:
    asked: Any = {"model": "claude-sonnet-5", "max_tokens": 100, "messages": QUESTION}
    client: Any = bridge.async_anthropic(max_retries=0)
    async with client:
        if streaming:
            async with client.messages.stream(**asked) as stream:
                message = await stream.get_final_message()
        else:
            message = await client.messages.create(**asked)
    text = "".join(block.text for block in message.content)
    return text, (message.usage.input_tokens, message.usage.output_tokens)


async def chat(bridge: Bridge, streaming: bool) -> tuple[str, tuple[int, int]]:
    asked: Any = {"model": "gpt-5-mini", "messages": QUESTION}
    client: Any = bridge.async_openai(max_retries=0)
    async with client:
        if streaming:
            asked["stream_options"] = {"include_usage": True}
            async with client.chat.completions.stream(**asked) as stream:
                completion = await stream.get_final_completion()
        else:
            completion = await client.chat.completions.create(**asked)
    usage = completion.usage
    return completion.choices[0].message.content, (usage.prompt_tokens, usage.completion_tokens)


async def responses(bridge: Bridge, streaming: bool) -> tuple[str, tuple[int, int]]:
    asked: Any = {"model": "gpt-5-mini", "input": QUESTION}
    client: Any = bridge.async_openai(max_retries=0)
    async with client:
        if streaming:
            async with client.responses.stream(**asked) as stream:
                response = await stream.get_final_response()
        else:
            response = await client.responses.create(**asked)
    return response.output_text, (response.usage.input_tokens, response.usage.output_tokens)


ASYNC = {"anthropic": anthropic, "chat": chat, "responses": responses}
