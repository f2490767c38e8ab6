"""MCP servers of a configuration file: `llmbridge serve` runs their tools for the official SDKs."""

import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from llmbridge import Bridge, Script, calls
from llmbridge.canon.messages import Text, ToolResult
from llmbridge.configuration import Configuration
from llmbridge.errors import ConfigurationError
from tests.test_cli import ready_url, running
from tests.tools.test_mcp import KEY, STDIO, serving


@pytest.mark.feature("aibridge", 16)
def test_a_server_started_with_a_file_answers_every_sdk_with_the_tools(tmp_path: Path):
    script = Script(*TURNS)
    with serving() as port, Bridge(script) as provider:
        upstream = provider.serve(token=None).url
        path = tmp_path / "llmbridge.json"
        path.write_text(json.dumps(described(upstream, port)))
        keys = {"ANTHROPIC_API_KEY": "none", "OPENAI_API_KEY": "none"}
        with running("serve", "--config", str(path), "--port", "0", **keys) as process:
            url = ready_url(process)
            heard = [ask_anthropic(url), ask_chat(url), ask_responses(url)]
        told = [ask.context.messages[-1] for ask in script.asked[1::2]]
        offered = [tuple(spec.name for spec in ask.context.tools) for ask in script.asked]

    assert heard == ["Sun.", "Rain.", "Snow."]
    results = [each.content for each in told if isinstance(each, ToolResult)]
    assert results == [(Text("sun in Oslo"),), (Text("sun in Rome"),), (Text("sun in Bonn"),)]
    assert set(offered) == {("bmcp_far_weather", "bmcp_near_weather")}


TURNS = (
    calls("bmcp_near_weather", city="Oslo"),
    "Sun.",
    calls("bmcp_far_weather", city="Rome"),
    "Rain.",
    calls("bmcp_near_weather", city="Bonn"),
    "Snow.",
)


def described(upstream: str, port: int) -> dict[str, Any]:
    return {
        "no_token": True,
        "upstream": {"anthropic": upstream, "openai": f"{upstream}/v1"},
        "mcp_servers": [
            {"name": "near", "command": list(STDIO), "allow": "^weather$", "required": True},
            {
                "name": "far",
                "url": f"http://127.0.0.1:{port}/mcp",
                "headers": KEY,
                "allow": "^weather$",
            },
        ],
        "tool_limits": {"rounds": 3},
    }


def ask_anthropic(url: str) -> str:
    asked: Any = {"role": "user", "content": "Hi"}
    with (
        anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client,
        client.messages.stream(model="claude-sonnet-5", max_tokens=9, messages=[asked]) as stream,
    ):
        return stream.get_final_text()


def ask_chat(url: str) -> str | None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        completion = client.chat.completions.create(
            model="gpt-5-mini", messages=[{"role": "user", "content": "Hi"}]
        )
    return completion.choices[0].message.content


def ask_responses(url: str) -> str:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        return client.responses.create(model="gpt-5-mini", input="Hi").output_text


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "mcp_servers[0]: 'sky' needs a command or a url"),
        (
            {"command": ["x"], "url": "http://h/"},
            "'sky' needs a command or a url: give one of them",
        ),
        ({"url": "h"}, "mcp_servers[0]: 'h' is no URL"),
        ({"url": "http://h/", "env": {"A": "b"}}, "env and cwd do nothing"),
        ({"command": ["x"], "allow": "("}, "'(' is no regular expression"),
        ({"command": "npx x"}, "mcp_servers[0].command is 'npx x': give a list"),
        (
            {"command": ["x"], "alow": "a"},
            "there is no key 'mcp_servers[0].alow': do you mean 'allow'?",
        ),
    ],
)
def test_a_mistake_in_a_server_is_told_with_its_place(tmp_path: Path, row: Any, words: str):
    path = tmp_path / "llmbridge.json"
    path.write_text(json.dumps({"mcp_servers": [{"name": "sky", **row}]}))

    with pytest.raises(ConfigurationError) as told:
        Configuration.load(path)

    assert words in told.value.message
