"""Edits of a request that carry tools: offer them, and tell the model what its calls came to.

All else in the body stays as the client sent it.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from llmbridge.canon.messages import (
    Ask,
    AssistantMessage,
    Context,
    JsonObject,
    ToolResult,
    ToolSpec,
)
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.loose_json import is_list, is_object

_TURNS: Mapping[str, str] = MappingProxyType(
    {"anthropic.messages": "messages", "openai.chat": "messages", "openai.responses": "input"}
)
"""Where a dialect keeps the conversation."""

_FORCED = ("required", "any")


def takes_tools(dialect: Dialect) -> bool:
    """True where these edits are known."""
    return dialect.name in _TURNS


def add_tools(dialect: Dialect, body: JsonObject, specs: Sequence[ToolSpec]) -> dict[str, Any]:
    """The body with these tools beside the client's own, always in the same order, so that prompt caches hold."""
    ordered = tuple(sorted(specs, key=lambda spec: spec.name))
    added = dialect.encode_request(Ask(context=Context(tools=ordered)))["tools"]
    theirs = body.get("tools")
    own = theirs if is_list(theirs) else []
    # Anthropic's clients mark the last of their tools as the end of a cached prefix: nothing may come after it.
    first = dialect.name == "anthropic.messages"
    return {**body, "tools": [*added, *own] if first else [*own, *added]}


def add_turn(
    dialect: Dialect, body: JsonObject, said: AssistantMessage, results: Sequence[ToolResult]
) -> dict[str, Any]:
    """The body with what the assistant said and the results of its calls at the end of the conversation.

    A choice that forces a call is let go, since a call was made: it would be forced for ever.
    """
    key = _TURNS[dialect.name]
    ask = Ask(context=Context(messages=(said, *results)))
    before = body.get(key)
    if isinstance(before, str):
        before = [{"role": "user", "content": before}]
    turns = [*(before if is_list(before) else []), *dialect.encode_request(ask)[key]]
    longer: dict[str, Any] = {**body, key: turns}
    choice = body.get("tool_choice")
    if choice in _FORCED:
        longer["tool_choice"] = "auto"
    elif is_object(choice) and choice.get("type") in _FORCED:
        longer["tool_choice"] = {**choice, "type": "auto"}
    return longer
