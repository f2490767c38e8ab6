"""A project whose tests stand on the plugin: an agent that gives up on nothing, its tests, their cassettes."""

import sys
from collections.abc import Mapping
from pathlib import Path

import anthropic
import genai_prices
import openai
import pytest

import llmbridge.frontends.server
import llmbridge.pytest_plugin.asked
import llmbridge.pytest_plugin.gate
import llmbridge.stores.cassette
from llmbridge import Bridge, Script
from llmbridge.stores.cassette_path import cassette_path
from llmbridge.upstreams.lines import Line

LOADED = (anthropic, genai_prices, openai, llmbridge)
"""A run in this process forgets what it imported, and must not import these again."""

AGENT = """
import openai

client = openai.OpenAI(max_retries=0)   # made at import, as many do

def ask(question, tries=2):
    for _ in range(tries):
        try:
            reply = client.responses.create(model="gpt-5-mini", input=question)
            return reply.output_text
        except Exception:
            pass
    return "I do not know."
"""

BARE_AGENT = """
import json, os, urllib.request

def ask(question):
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/responses",
        json.dumps({"model": "gpt-5-mini", "input": question}).encode(),
        {
            "content-type": "application/json",
            "authorization": "Bearer " + os.environ.get("OPENAI_API_KEY", ""),
        },
    )
    try:
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)["output"][0]["content"][0]["text"]
    except Exception:
        return "I do not know."
"""
"""The same without an SDK, which takes a second to load."""

KEY = "sk-proj-Zt81mQ0vXh5LrBnYw3Kd"

NOON = {"What time is it?": "It is noon."}


class Project:
    """Writes files, records cassettes by asking a script, and runs pytest."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.write("agent.py", AGENT)
        pytester.syspathinsert()

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def tests(self, text: str, name: str = "test_agent.py") -> None:
        self.write(name, f"import os\nimport pytest\nfrom agent import ask\n\n{text}")

    def cassette(self, name: str, asked: Mapping[str, Line] = NOON) -> Path:
        """The cassette of a test in test_agent.py, with these questions and answers."""
        path = cassette_path(self.path / "cassettes" / "test_agent", name)
        with Bridge(Script(*asked.values()), store=path) as bridge:
            for question in asked:
                bridge.openai().responses.create(model="gpt-5-mini", input=question)
        return path

    def run(self, *arguments: str) -> pytest.RunResult:
        """In this process: the SDKs are there already. Other plugins stay out."""
        return self.pytester.runpytest_inprocess(*_ALONE, *arguments, plugins=[_AgentsEnd()])

    def run_apart(self, *arguments: str) -> pytest.RunResult:
        """In a process of its own, with every plugin there is, and with the agent that starts fast."""
        if (self.path / "agent.py").read_text() == AGENT:
            self.write("agent.py", BARE_AGENT)
        return self.pytester.runpytest_subprocess(*arguments)


class _AgentsEnd:
    """Closes the agent's client, which in a process of its own would end with that."""

    def pytest_unconfigure(self) -> None:
        client = getattr(sys.modules.get("agent"), "client", None)
        if client is not None:
            client.close()


_ALONE = (
    "-W",
    "default",
    "-p",
    "no:asyncio",
    "-p",
    "no:recording",
    "-p",
    "no:xdist",
    "-p",
    "no:hypothesispytest",
)


def outcomes(result: pytest.RunResult) -> dict[str, int]:
    """How many tests had which outcome; nothing else."""
    counted = result.parseoutcomes()
    return {name: count for name, count in counted.items() if name not in ("warning", "warnings")}
