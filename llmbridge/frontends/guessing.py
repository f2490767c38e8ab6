"""Which program asks, and in which of its sessions, as far as its request gives that away.

Source: aibridge, `client.go` and `session.go`.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from llmbridge.exchange.call import Caller
from llmbridge.wire.fast_json import loads_object, typed

OUR_SESSION = "x-llmbridge-session"

CLAUDE_CODE = "Claude Code"
_AGENTS = (
    ("mux/", "Mux"),
    ("claude", CLAUDE_CODE),
    ("codex", "Codex"),
    ("zed/", "Zed"),
    ("githubcopilotchat/", "GitHub Copilot (VS Code)"),
    ("copilot/", "GitHub Copilot (CLI)"),
    ("kilo-code/", "Kilo Code"),
    ("roo-code/", "Roo Code"),
    ("coder-agents/", "Coder Agents"),
    ("charm crush/", "Charm Crush"),
)
_ORIGINATORS = {"kilo-code": "Kilo Code", "roo-code": "Roo Code"}
_SESSION_FIELDS = (
    OUR_SESSION,
    "x-claude-code-session-id",
    "session_id",
    "x-mux-workspace-id",
    "x-interaction-id",
    "x-client-session-id",
    "x-kilocode-taskid",
    "x-coder-chat-id",
)


class _Metadata(msgspec.Struct):
    user_id: Any = None


class _Body(msgspec.Struct):
    metadata: _Metadata | None = None


_body = typed(_Body)


def client_of(fields: Mapping[str, str]) -> str | None:
    """The program's name, where it is a known one; else the first word of its User-Agent."""
    agent = fields.get("user-agent", "")
    known = _known(agent) or _ORIGINATORS.get(fields.get("originator", "").strip().lower())
    if known is None and "x-cursor-client-version" in fields:
        known = "Cursor"
    return known or next(iter(agent.split(maxsplit=1)), None)


def session_in_fields(fields: Mapping[str, str]) -> str | None:
    """The session that a field names."""
    return first_of(_SESSION_FIELDS, fields)


def session_in_body(caller: Caller, body: bytes) -> str | None:
    """The caller's session, also where Claude Code says it inside the user's id, as its versions before fields did."""
    if caller.session_id is not None or caller.client != CLAUDE_CODE or b"user_id" not in body:
        return caller.session_id
    try:
        metadata = _body(body).metadata
    except ValueError:
        return None
    user = metadata.user_id if metadata else None
    if not isinstance(user, str):
        return None
    if user.lstrip().startswith("{"):
        session: object = loads_object(user).get("session_id")
    else:
        session = user.partition("_session_")[2]
    return (session.strip() or None) if isinstance(session, str) else None


def first_of(names: Iterable[str], fields: Mapping[str, str]) -> str | None:
    """The first of these fields that says something."""
    for name in names:
        if name in fields and (value := fields[name].strip()):
            return value
    return None


@lru_cache(maxsize=256)
def _known(agent: str) -> str | None:
    lower = agent.lower()
    return next((name for start, name in _AGENTS if lower.startswith(start)), None)
