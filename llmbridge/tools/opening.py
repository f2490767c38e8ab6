"""Toolboxes on their way into a bridge: those with sessions are started together."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from anyio.from_thread import BlockingPortal

from llmbridge.exchange.options import check_kind
from llmbridge.exchange.tool_loop import ToolLoop
from llmbridge.exchange.toolbox import Gate, SessionToolbox, Toolbox, ToolLimits


class Portal(Protocol):
    """The bridge's own loop."""

    def open(self) -> BlockingPortal:
        """The way to it; it runs from here."""
        ...

    def before_end(self, step: Callable[[], Awaitable[None]]) -> None:
        """What is to be run before it ends."""
        ...

    def close(self) -> None:
        """End it."""
        ...


def tool_loop(
    toolboxes: Sequence[Toolbox], gate: Gate | None, limits: ToolLimits | None, portal: Portal
) -> ToolLoop:
    """The tool loop, once each toolbox knows its tools; where that fails, nothing stays open.

    Raises:
        ConfigurationError: limits that are none, two tools of one name, or a server that has to be there and is not.
    """
    check_kind("tool_limits", limits, ToolLimits)
    try:
        for box in toolboxes:
            if isinstance(box, SessionToolbox):
                box.start(portal.open())
                portal.before_end(box.aclose)
        return ToolLoop(toolboxes, gate, limits)
    except BaseException:
        portal.close()
        raise
