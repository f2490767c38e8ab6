"""What the tool loop needs of tools: what there is, and a way to run one; a gate that may refuse."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from anyio.from_thread import BlockingPortal

from llmbridge.canon.messages import ToolCall, ToolResult, ToolSpec
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.options import check_count


@runtime_checkable
class Toolbox(Protocol):
    """Tools that the bridge runs itself. One that is a server has a `name`, which records keep."""

    def specs(self) -> Sequence[ToolSpec]:
        """What is on offer, by names that no two tools share."""
        ...

    async def call(self, call: ToolCall) -> ToolResult:
        """Run one; a failure of the tool is a result with `is_error`."""
        ...


@runtime_checkable
class SessionToolbox(Toolbox, Protocol):
    """A toolbox that holds connections, on the bridge's own loop from its start to its close."""

    def start(self, portal: BlockingPortal) -> None:
        """Begin to connect; `specs` waits for the end of it."""
        ...

    async def aclose(self) -> None:
        """Let go of everything; runs on that loop, and raises nothing."""
        ...


Gate = Callable[[ToolCall], str | Awaitable[str | None] | None]
"""Says why a call is refused, or None; the model is told the reason."""


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """How far the bridge goes with tools for one answer; `memory_bytes` is for what it hid in all of them.

    Raises:
        ConfigurationError: a limit that nothing could keep to.
    """

    rounds: int = 10
    tool_timeout_s: float = 60
    result_chars: int = 100_000
    memory_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        check_count("rounds", self.rounds, 1)
        check_count("result_chars", self.result_chars, 0)
        check_count("memory_bytes", self.memory_bytes, 0)
        _check_seconds("tool_timeout_s", self.tool_timeout_s)


def _check_seconds(name: str, given: object) -> None:
    if not isinstance(given, int | float) or not given > 0:
        raise ConfigurationError(f"{name}={given!r}: give seconds, more than 0")


@dataclass(frozen=True, slots=True)
class ToolRun:
    """One call of a tool of the bridge, as it went: `error` is what the model was told, or why it was not run."""

    tool_call_id: str
    name: str
    round: int
    server: str | None
    started_at: datetime | None
    duration_s: float | None
    result: str | None = None
    error: str | None = None
