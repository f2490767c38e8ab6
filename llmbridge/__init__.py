"""llmbridge stands between LLM clients and LLM providers: relay, replay, record, and look at what streams."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmbridge import frames as frames
    from llmbridge import notebook as notebook
    from llmbridge.bridge import Bridge
    from llmbridge.calliope import CalliopeProxy
    from llmbridge.canon.events import Event, Snapshot, fold, unfold
    from llmbridge.canon.messages import (
        AssistantMessage,
        Context,
        Image,
        Model,
        Text,
        Thinking,
        ToolCall,
        ToolResult,
        ToolSpec,
        Usage,
        UserMessage,
    )
    from llmbridge.errors import BridgeError
    from llmbridge.exchange import faults
    from llmbridge.exchange.budgets import Budget
    from llmbridge.exchange.call import Call, Handler, Headers, Interceptor, Reply, Request
    from llmbridge.exchange.rate_limits import RateLimit
    from llmbridge.exchange.record import Interception, Record, Store
    from llmbridge.frontends.calliope import Calliope
    from llmbridge.frontends.people import Person
    from llmbridge.providers import Provider
    from llmbridge.stores.cassette import Cassette
    from llmbridge.stores.memory import MemoryStore
    from llmbridge.upstreams.lines import calls, fail, repeat, reply, when
    from llmbridge.upstreams.live import Live
    from llmbridge.upstreams.replay import Replay
    from llmbridge.upstreams.script import Script

__version__ = "0.1.0"

# Where each name lives. It is imported when first asked for: pytest loads the plugin, and so this file, in every run.
_HOMES = {
    "bridge": "Bridge",
    "calliope": "CalliopeProxy",
    "canon.events": "Event Snapshot fold unfold",
    "canon.messages": "AssistantMessage Context Image Model Text Thinking ToolCall ToolResult ToolSpec Usage UserMessage",
    "errors": "BridgeError",
    "exchange.budgets": "Budget",
    "exchange.call": "Call Handler Headers Interceptor Reply Request",
    "exchange.faults": "faults",
    "exchange.rate_limits": "RateLimit",
    "exchange.record": "Interception Record Store",
    "frontends.calliope": "Calliope",
    "frontends.people": "Person",
    "providers": "Provider",
    "stores.cassette": "Cassette",
    "stores.memory": "MemoryStore",
    "upstreams.lines": "calls fail repeat reply when",
    "upstreams.live": "Live",
    "upstreams.replay": "Replay",
    "upstreams.script": "Script",
}
_MODULES = frozenset({"frames", "notebook"})
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "AssistantMessage",
    "Bridge",
    "BridgeError",
    "Budget",
    "Call",
    "Calliope",
    "CalliopeProxy",
    "Cassette",
    "Context",
    "Event",
    "Handler",
    "Headers",
    "Image",
    "Interception",
    "Interceptor",
    "Live",
    "MemoryStore",
    "Model",
    "Person",
    "Provider",
    "RateLimit",
    "Record",
    "Replay",
    "Reply",
    "Request",
    "Script",
    "Snapshot",
    "Store",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "Usage",
    "UserMessage",
    "calls",
    "fail",
    "faults",
    "fold",
    "repeat",
    "reply",
    "unfold",
    "when",
]


def __getattr__(name: str) -> Any:
    """A public name, with the module that it lives in loaded now."""
    if name in _MODULES:
        return import_module(f"llmbridge.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'llmbridge' has no attribute {name!r}")
    home = import_module(f"llmbridge.{_HOME[name]}")
    # One name is that of a module.
    value = home if home.__name__.endswith(f".{name}") else getattr(home, name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext llmbridge` calls: from now on `shell` knows the magic `%%llm`."""
    magic = import_module("llmbridge.magic").Magic(shell)
    shell.register_magic_function(magic, "line_cell", "llm")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
