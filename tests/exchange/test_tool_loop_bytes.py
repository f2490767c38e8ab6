"""llmbridge.exchange.tool_loop: what goes over the wire, and when."""

import json
from contextlib import aclosing

import anyio

from llmbridge import Bridge, Script
from llmbridge.canon.messages import AssistantMessage, Text, ToolCall, ToolSpec
from llmbridge.exchange.call import Headers, Request
from llmbridge.wire.anthropic_messages import ANTHROPIC_MESSAGES
from llmbridge.wire.openai_responses import OPENAI_RESPONSES
from llmbridge.wire.tool_turns import add_tools, add_turn

CALLING = AssistantMessage((Text("One moment."), ToolCall("a", "wait")), stop_reason="tool_use")


def chat(*, streaming: bool) -> Request:
    body = {"model": "m", "stream": streaming, "messages": [{"role": "user", "content": "Hi"}]}
    url = "http://localhost/v1/chat/completions"
    labelled = Headers((("content-type", "application/json"),))
    return Request("POST", url, labelled, json.dumps(body).encode())


async def test_text_before_a_call_comes_live_and_a_client_that_leaves_stops_the_tool():
    happened: list[str] = []
    started = anyio.Event()

    def seen(piece: bytes) -> None:
        if b"moment." in piece:
            happened.append("text")

    async def wait() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            happened.append("tool stopped")

    async with Bridge(Script(CALLING, "Done."), tools=[wait]) as bridge:
        reply = await bridge.handle(chat(streaming=True))
        async with aclosing(reply), anyio.create_task_group() as tasks:

            async def read() -> None:
                async for piece in reply:
                    seen(piece)

            tasks.start_soon(read)
            await started.wait()
            happened.append("tool runs")
            tasks.cancel_scope.cancel()

        assert happened == ["text", "tool runs", "tool stopped"]
        assert bridge.inflight == ()


async def test_a_whole_answer_without_our_tools_keeps_its_bytes():
    def wait() -> None: ...

    async with Bridge(Script("Hi."), tools=[wait]) as bridge:
        reply = await bridge.handle(chat(streaming=False))
        got = b"".join([piece async for piece in reply])

        assert got == bridge.records[0].body


def test_tools_are_added_sorted_and_before_those_of_an_anthropic_client():
    theirs = {"name": "mine", "input_schema": {}, "cache_control": {"type": "ephemeral"}}

    body = add_tools(ANTHROPIC_MESSAGES, {"tools": [theirs]}, [ToolSpec("b"), ToolSpec("a")])

    assert [tool["name"] for tool in body["tools"]] == ["a", "b", "mine"]


def test_a_turn_after_plain_input_keeps_it_and_lets_a_forced_call_go():
    call = AssistantMessage((ToolCall("a", "wait"),))

    body = add_turn(OPENAI_RESPONSES, {"input": "Hi", "tool_choice": "required"}, call, [])

    assert (body["input"][0], body["tool_choice"]) == ({"role": "user", "content": "Hi"}, "auto")
