"""A real tinyagent `Agent` with a tool, on our stream function and on our `/api/stream`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tinyagent

from llmbridge import streams
from llmbridge.bridge import Bridge
from llmbridge.upstreams.lines import calls
from llmbridge.upstreams.script import Script
from tests.streams.fetched import fetched


async def clock(call_id: str, arguments: dict[str, Any], *_: object) -> tinyagent.AgentToolResult:
    said = tinyagent.TextContent(text=f"noon in {arguments['zone']}")
    return tinyagent.AgentToolResult(content=[said])


CLOCK = tinyagent.AgentTool(
    name="clock",
    description="The time",
    parameters={"type": "object", "properties": {"zone": {"type": "string"}}},
    label="Clock",
    execute=clock,
)


def said(bridge: Bridge) -> list[Any]:
    """What the provider was told in the second round, last message."""
    ask = bridge.records[1].ask()
    assert ask is not None
    return [part.text for part in ask.context.messages[-1].content]  # type: ignore[union-attr]


async def talk(stream_fn: Any, model: Any) -> Any:
    agent = tinyagent.Agent(tinyagent.AgentOptions(stream_fn=stream_fn))
    agent.set_model(model)
    agent.set_tools([CLOCK])
    return await agent.prompt_text("What time is it in Rome?")


Way = Callable[[str], tuple[Any, Any]]


def by_function(url: str) -> tuple[Any, Any]:
    model = streams.OpenAICompatModel("openai", "gpt-x", base_url=f"{url}/v1")

    async def ask(_: Any, context: Any, options: Any) -> streams.StreamResponse:
        return await streams.stream_openai_compat(model, context, options)

    return streams.for_tinyagent(ask), tinyagent.Model(provider="openai", id="gpt-x")


def by_proxy(url: str) -> tuple[Any, Any]:
    async def ask(model: Any, context: Any, options: Any) -> Any:
        wanted = tinyagent.ProxyStreamOptions(auth_token="secret-1", proxy_url=url)
        return await tinyagent.stream_proxy(model, context, wanted)

    return ask, tinyagent.Model(provider="anthropic", id="claude-x", api="anthropic-messages")


def by_our_proxy_client(url: str) -> tuple[Any, Any]:
    async def ask(model: Any, context: Any, options: Any) -> streams.StreamResponse:
        return await streams.stream_proxy(
            model, context, streams.ProxyStreamOptions("secret-1", url)
        )

    model = tinyagent.Model(provider="openai", id="gpt-x", api="openai-responses")
    return streams.for_tinyagent(ask), model


@pytest.mark.feature("tinyagent", 6, 8, 13, 15)
@pytest.mark.parametrize("way", [by_function, by_proxy, by_our_proxy_client])
async def test_an_agent_uses_its_tool(way: Way) -> None:
    script = Script(calls("clock", zone="Rome"), "It is noon in Rome.")
    with Bridge(script, environ={}) as bridge, bridge.serve(token=None) as server:
        answer = await talk(*way(server.url))

        assert answer == "It is noon in Rome."
        assert said(bridge) == ["noon in Rome"]


@pytest.fixture(scope="session")
def plain() -> Path:
    """A folder with the last tinyagent that takes plain dicts, which pip fetches the first time."""
    install = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--retries", "0")
    return fetched("tinyagent-1.2.0", *install, "tiny-agent-os==1.2.0", "--target")


@pytest.mark.feature("tinyagent", 6, 13, 15)
@pytest.mark.parametrize("way", ["function", "proxy"])
def test_an_agent_that_takes_plain_dicts_uses_its_tool(plain: Path, way: str) -> None:
    script = Script(calls("clock", zone="Rome"), "It is noon in Rome.")
    root = Path(__file__).parents[2]
    with Bridge(script, environ={}) as bridge, bridge.serve(token=None) as server:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("plain_agent.py")), server.url, way],
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(plain), str(root)))},
            capture_output=True,
            check=False,
            timeout=60,
        )

        assert done.stdout.decode() == "It is noon in Rome.", done.stderr.decode()
        assert said(bridge) == ["noon in Rome"]
