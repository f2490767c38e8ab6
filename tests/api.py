"""The public names for `docs/reference/api.md`: how each is called, what it is, and what its members do."""

import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import llmbridge
from llmbridge.exchange import toolbox
from llmbridge.notebook import plots
from llmbridge.tools import mcp

# Every public name has its place here.
SECTIONS = {
    "The bridge": "Bridge Person Budget RateLimit Provider Calliope CalliopeProxy",
    "Where replies come from": "Live Replay Script reply calls fail repeat when faults",
    "Where calls are kept": "Cassette MemoryStore Store Interception Record",
    "What is asked": "Model Context UserMessage ToolResult ToolSpec Image",
    "What is answered": "AssistantMessage Text Thinking ToolCall Usage Event Snapshot fold unfold",
    "Calls on their way": "Request Headers Call Reply Handler Interceptor BridgeError",
}
BEYOND: dict[str, tuple[ModuleType, tuple[str, ...]]] = {
    "llmbridge.tools.mcp": (mcp, ("mcp_server",)),
    "llmbridge.exchange.toolbox": (toolbox, ("Toolbox", "ToolLimits")),
    "llmbridge.notebook.plots": (
        plots,
        ("timeline", "gaps", "first_bytes", "usage", "cache_hits", "tools"),
    ),
}
"""Modules whose names are imported from where they live."""


def api_tables() -> str:
    """Each section with its names."""
    return "\n\n".join(_parts())


def _parts() -> Iterator[str]:
    for title, names in SECTIONS.items():
        yield f"## {title}"
        for name in names.split():
            yield from _told(name, getattr(llmbridge, name))
    for module, (where, names_there) in BEYOND.items():
        yield f"## `{module}`"
        for name in names_there:
            yield from _told(name, getattr(where, name))


def _told(name: str, value: Any) -> Iterator[str]:
    yield f"### {name}"
    if isinstance(value, ModuleType):
        yield _about(value)
        yield _table(_members(value))
    elif inspect.isclass(value):
        if not getattr(value, "_is_protocol", False):
            yield f"`{name}{_signature(value)}`"
        yield _about(value)
        yield _table(_members(value))
    elif callable(value) and inspect.isfunction(value):
        yield f"`{name}{_signature(value)}`"
        yield _about(value)
    else:
        # An alias has no docstring.
        yield f"`{re.sub(r'[a-z_.]+[.]', '', str(value))}`"


def _about(value: object) -> str:
    """The docstring, its errors as a list."""
    text = inspect.getdoc(value) or ""
    lines = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(re.sub(r"^Raises: ", "Raises ", line) for line in lines)


def _members(value: Any) -> Iterator[tuple[str, str]]:
    public = [name for name in vars(value) if not name.startswith("_")]
    inherited = [
        name
        for base in getattr(value, "__mro__", ())[1:]
        if base.__module__.startswith("llmbridge")
        for name in vars(base)
        if not name.startswith("_") and name not in public
    ]
    for name in dict.fromkeys([*public, *inherited]):
        member = inspect.getattr_static(value, name)
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        # What a module imported is not its own, and data says what it is in the signature.
        if isinstance(value, ModuleType) and getattr(member, "__module__", "") != value.__name__:
            continue
        about = (inspect.getdoc(member) or "").split("\n\n")[0]
        if inspect.isfunction(member):
            yield f"`{name}{_signature(member)}`", " ".join(about.split())
        elif isinstance(member, property) or hasattr(member, "func"):
            yield f"`{name}`", " ".join(about.split())


def _signature(value: Any) -> str:
    """What can be given and what is given otherwise; the types are in the code."""
    given = inspect.signature(value)
    shown = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in given.parameters.items()
        if name not in ("self", "cls")
    ]
    told = str(given.replace(parameters=shown, return_annotation=inspect.Signature.empty))
    # Where a default is made anew each time, or is an object, nobody reads its repr.
    return re.sub(r"=<[^>]*>|=[A-Z]\w*\(.*?\)(?=[,)])", "=...", told)


def _table(rows: Iterator[tuple[str, str]]) -> str:
    lines = [f"| {call.replace('|', chr(92) + '|')} | {about} |" for call, about in rows]
    return "\n".join(["| member | meaning |", "| --- | --- |", *lines]) if lines else ""
