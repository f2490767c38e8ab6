"""Stream functions for the newer releases of tinyagent, which take events of its own classes alone."""

from collections.abc import AsyncIterator
from typing import Any

from llmbridge.streams.response import StreamFn, StreamResponse


def for_tinyagent(stream_fn: StreamFn) -> StreamFn:
    """The same stream function with tinyagent's events and messages: `AgentOptions(stream_fn=for_tinyagent(...))`.

    Raises:
        ImportError: tinyagent is not installed.
    """
    from tinyagent.agent_types import (  # noqa: PLC0415  # only for those who have it
        AssistantMessage,
        AssistantMessageEvent,
    )

    class Adapted:
        """One response with events of tinyagent's classes."""

        def __init__(self, response: StreamResponse) -> None:
            self._response = response

        async def result(self) -> Any:
            return AssistantMessage(**await self._response.result())

        def __aiter__(self) -> AsyncIterator[Any]:
            return self

        async def __anext__(self) -> Any:
            return AssistantMessageEvent(**await self._response.__anext__())

    async def adapted(model: Any, context: Any, options: Any) -> StreamResponse:
        return Adapted(await stream_fn(model, context, options))

    return adapted
