import json

import pytest

from llmbridge.exchange.call import Caller
from llmbridge.frontends.guessing import client_of, session_in_body, session_in_fields

UUID = "0b9c1c3e-1111-4222-8333-444455556666"


@pytest.mark.parametrize(
    ("agent", "client"),
    [
        ("mux/0.1", "Mux"),
        ("claude-cli/2.0.1 (external, cli)", "Claude Code"),
        ("Claude-Code/1", "Claude Code"),
        ("codex_cli_rs/0.30 (x)", "Codex"),
        ("Zed/0.200", "Zed"),
        ("GitHubCopilotChat/0.31", "GitHub Copilot (VS Code)"),
        ("copilot/1.0", "GitHub Copilot (CLI)"),
        ("Kilo-Code/4.1", "Kilo Code"),
        ("Roo-Code/3", "Roo Code"),
        ("coder-agents/1", "Coder Agents"),
        ("Charm Crush/0.1", "Charm Crush"),
        ("OpenAI/Python 3.52.0", "OpenAI/Python"),
        ("my-claude/1", "my-claude/1"),
        ("", None),
    ],
)
@pytest.mark.feature("gateway", 18)
def test_a_program_is_known_by_how_its_user_agent_begins(agent: str, client: str | None) -> None:
    assert client_of({"user-agent": agent}) == client


@pytest.mark.parametrize(
    ("fields", "client"),
    [
        ({"originator": " Kilo-Code "}, "Kilo Code"),
        ({"originator": "roo-code", "user-agent": "node"}, "Roo Code"),
        ({"originator": "codex_cli_rs", "user-agent": "node/1"}, "node/1"),
        ({"x-cursor-client-version": "1", "user-agent": "connect-es/1"}, "Cursor"),
    ],
)
@pytest.mark.feature("gateway", 18)
def test_some_programs_are_known_by_another_field(fields: dict[str, str], client: str) -> None:
    assert client_of(fields) == client


@pytest.mark.parametrize(
    "name",
    [
        "x-llmbridge-session",
        "x-claude-code-session-id",
        "session_id",
        "x-mux-workspace-id",
        "x-interaction-id",
        "x-client-session-id",
        "x-kilocode-taskid",
        "x-coder-chat-id",
    ],
)
@pytest.mark.feature("gateway", 18)
def test_a_session_is_named_by_the_programs_own_field(name: str) -> None:
    assert session_in_fields({name: f" {UUID} "}) == UUID
    assert session_in_fields({name: " "}) is None


@pytest.mark.parametrize(
    ("user", "session"),
    [
        (f"user_abc_account__session_{UUID}", UUID),
        (json.dumps({"device_id": "d", "session_id": UUID}), UUID),
        (json.dumps({"device_id": "d", "session_id": " "}), None),
        ("user_abc", None),
        ("{not json", None),
        (7, None),
        (None, None),
    ],
)
@pytest.mark.feature("gateway", 18)
def test_claude_code_may_say_its_session_inside_the_users_id(
    user: object, session: str | None
) -> None:
    body = json.dumps({"model": "m", "metadata": {"user_id": user}}).encode()

    assert session_in_body(Caller(client="Claude Code"), body) == session
    assert session_in_body(Caller(client="Zed"), body) is None
    assert session_in_body(Caller(client="Claude Code", session_id="own"), body) == "own"


@pytest.mark.parametrize(
    "body", [b"", b"user_id", b'{"metadata": 5, "user_id": 1}', b"\xff user_id"]
)
def test_a_body_that_is_something_else_says_nothing(body: bytes) -> None:
    assert session_in_body(Caller(client="Claude Code"), body) is None
