"""llmbridge stands between LLM clients and LLM providers: relay, replay, record, and look at what streams."""

from typing import TYPE_CHECKING

from llmbridge.bridge import Bridge
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
from llmbridge.exchange.call import Call, Handler, Headers, Interceptor, Reply, Request
from llmbridge.exchange.record import Interception, Record, Store
from llmbridge.providers import Provider
from llmbridge.stores.memory import MemoryStore
from llmbridge.upstreams.live import Live
from llmbridge.upstreams.replay import Replay
from llmbridge.upstreams.script import Script, calls, reply

if TYPE_CHECKING:
    from llmbridge.stores.cassette import Cassette

__version__ = "0.1.0"

__all__ = [
    "AssistantMessage",
    "Bridge",
    "BridgeError",
    "Call",
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
    "Provider",
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
    "fold",
    "reply",
    "unfold",
]


def __getattr__(name: str) -> object:
    """`Cassette`, loaded with the YAML it reads when somebody asks for it."""
    if name == "Cassette":
        from llmbridge.stores.cassette import Cassette  # noqa: PLC0415

        return Cassette
    raise AttributeError(f"module 'llmbridge' has no attribute {name!r}")
