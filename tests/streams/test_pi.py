"""pi's own proxy client, from npm, at our `/api/stream`."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from llmbridge.bridge import Bridge
from llmbridge.canon.messages import Usage
from llmbridge.upstreams.lines import calls, fail, reply
from llmbridge.upstreams.script import Script
from tests.streams.fetched import fetched

HERE = Path(__file__).parent
PACKAGE, VERSION = "@mariozechner/pi-agent-core", "0.73.1"


@pytest.fixture(scope="session")
def pi() -> Path:
    """The folder of pi's packages, which npm fetches the first time."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"pi's client needs {' and '.join(missing)}: install Node.js with npm")
    quiet = ("--no-audit", "--no-fund", "--silent", "--fetch-retries=0")
    return fetched(f"pi-{VERSION}", "npm", "install", *quiet, f"{PACKAGE}@{VERSION}", "--prefix")


def run(pi: Path, program: str, url: str, *arguments: str) -> Any:
    command = ["node", str(HERE / program), str(pi), url, "secret-1", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def ask(pi: Path, url: str, abort: str = "") -> dict[str, Any]:
    heard: dict[str, Any] = run(pi, "pi.mjs", url, abort)
    return heard


@pytest.mark.feature("tinyagent", 16)
def test_pi_hears_text_tools_usage_and_cost(pi: Path) -> None:
    answer = reply("Let me look.", calls("clock", zone="é"), usage=Usage(7, None, None, 5))
    with Bridge(Script(answer), environ={}) as bridge, bridge.serve(token="secret-1") as server:
        heard = ask(pi, server.url)

    message = heard["message"]
    assert list(dict.fromkeys(heard["types"])) == [
        *("start", "text_start", "text_delta", "text_end"),
        *("toolcall_start", "toolcall_delta", "toolcall_end", "done"),
    ]
    assert [block.get("text") or block.get("arguments") for block in message["content"]] == [
        "Let me look.",
        {"zone": "é"},
    ]
    assert (message["stopReason"], message["usage"]["totalTokens"]) == ("toolUse", 12)
    assert message["usage"]["cost"]["total"] == pytest.approx((7 * 3 + 5 * 15) / 1e6)


def test_pi_hears_why_it_was_refused(pi: Path) -> None:
    script = Script(fail(429, message="slow down"))
    with Bridge(script, environ={}) as bridge, bridge.serve(token="secret-1") as server:
        heard = ask(pi, server.url)

    assert (heard["types"], heard["message"]["errorMessage"]) == (
        ["error"],
        "Proxy error: slow down",
    )


def test_pi_may_leave_in_the_middle(pi: Path) -> None:
    script = Script("word " * 200, tps=50)
    with Bridge(script, environ={}) as bridge, bridge.serve(token="secret-1") as server:
        heard = ask(pi, server.url, "abort")

        assert heard["message"]["stopReason"] == "aborted"


@pytest.mark.feature("tinyagent", 15, 16)
@pytest.mark.parametrize(
    ("provider", "model", "dialect"),
    [
        ("anthropic", "claude-sonnet-4-5", "anthropic.messages"),
        ("openai", "gpt-5-mini", "openai.responses"),
        ("google", "gemini-2.5-flash", "google.gemini"),
    ],
)
def test_pi_s_agent_uses_its_tool(pi: Path, provider: str, model: str, dialect: str) -> None:
    script = Script(calls("clock", zone="Rome"), "It is noon in Rome.")
    with Bridge(script, environ={}) as bridge, bridge.serve(token="secret-1") as server:
        transcript = run(pi, "pi_agent.mjs", server.url, provider, model)

    assert [turn["role"] for turn in transcript] == ["user", "assistant", "toolResult", "assistant"]
    assert transcript[2]["content"] == [{"type": "text", "text": "noon in Rome"}]
    assert (transcript[3]["stopReason"], transcript[3]["content"][0]["text"]) == (
        "stop",
        "It is noon in Rome.",
    )
    assert [record.dialect for record in bridge.records] == [dialect] * 2
