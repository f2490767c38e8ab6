import json

import pytest

from llmbridge.bridge import Bridge
from llmbridge.canon.messages import Ask, AssistantMessage, Text, Thinking, ToolCall
from llmbridge.exchange.call import Headers, Reply, Request
from llmbridge.upstreams.script import Script, calls, reply

PATHS = ("/v1/messages", "/v1/chat/completions", "/v1/responses")
every_path = pytest.mark.parametrize("path", PATHS)
both = pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])


async def ask(bridge: Bridge, path: str, streaming: bool = False, text: str = "hi") -> Reply:
    said = [{"role": "user", "content": text}]
    body = {"model": "m", "messages": said, "input": text, "max_tokens": 9, "stream": streaming}
    return await bridge.handle(
        Request("POST", f"http://bridge{path}", Headers(), json.dumps(body).encode())
    )


async def said(
    script: Script, path: str, streaming: bool = False, times: int = 1
) -> list[AssistantMessage]:
    bridge = Bridge(script, environ={})
    for _ in range(times):
        async for _ in await ask(bridge, path, streaming):
            pass
    return [message for record in bridge.records if (message := record.message)]


@both
@every_path
async def test_a_line_is_said_in_the_clients_own_dialect(path: str, streaming: bool) -> None:
    (message,) = await said(Script("Hello there"), path, streaming)

    assert (message.text, message.stop_reason, message.model) == ("Hello there", "stop", "m")


@both
@every_path
async def test_lines_follow_each_other(path: str, streaming: bool) -> None:
    script = Script("one", calls("clock", zone="UTC"), reply(Thinking("hm"), "It is noon."))

    messages = await said(script, path, streaming, times=3)

    assert [
        (m.thinking, m.text, [(c.name, c.arguments) for c in m.tool_calls], m.stop_reason)
        for m in messages
    ] == [
        ("", "one", [], "stop"),
        ("", "", [("clock", {"zone": "UTC"})], "tool_use"),
        ("hm", "It is noon.", [], "stop"),
    ]


async def test_several_tools_can_be_called_at_once() -> None:
    both_calls = reply(ToolCall("a", "clock"), ToolCall("b", "weather", {"city": "Lisbon"}))

    (message,) = await said(Script(both_calls), PATHS[1])

    assert [(call.id, call.name) for call in message.tool_calls] == [
        ("a", "clock"),
        ("b", "weather"),
    ]


async def test_a_line_may_be_a_function_of_what_was_asked() -> None:
    def echo(asked: Ask) -> str:
        (message,) = asked.context.messages
        return "".join(part.text for part in message.content if isinstance(part, Text)).upper()

    (message,) = await said(Script(echo), PATHS[0])

    assert message.text == "HI"


async def test_the_same_script_gives_the_same_bytes() -> None:
    first, second = Bridge(Script("Hello"), environ={}), Bridge(Script("Hello"), environ={})
    for bridge in (first, second):
        async for _ in await ask(bridge, PATHS[1], streaming=True):
            pass

    assert first.records[0].body == second.records[0].body


async def test_a_script_that_runs_out_says_so() -> None:
    reply = await ask(Bridge(Script(), environ={}), PATHS[1])

    error = json.loads(b"".join([chunk async for chunk in reply]))["error"]
    assert (reply.status, error["message"]) == (
        400,
        "the script's lines are all said (0) and it was asked once more: add one",
    )


async def test_a_script_cannot_embed() -> None:
    reply = await ask(Bridge(Script("x"), environ={}), "/v1/embeddings")

    assert reply.status == 400
