"""What a stream function gives: events as they come, and the message at the end."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol, Self

from llmbridge.bridge import Bridge
from llmbridge.canon.events import Delta, Fail, Snapshot, Start
from llmbridge.exchange.call import Reply, Request
from llmbridge.exchange.codec import read_deltas
from llmbridge.providers import dialect_named
from llmbridge.streams.spelling import Message, Spelling, StreamEvent

_logger = logging.getLogger(__name__)

Signal = Callable[[], bool] | asyncio.Event
"""Says that the user wants no more: a function that is asked again and again, or an event."""

POLL_S = 0.02
"""How often a function is asked."""

ABORTED = "Request aborted by user"


class StreamResponse(Protocol):
    """Events to iterate over, and the whole message at their end."""

    async def result(self) -> Any:
        """The final message; waits for it."""
        ...

    def __aiter__(self) -> AsyncIterator[Any]: ...

    async def __anext__(self) -> Any: ...


StreamFn = Callable[[Any, Any, Any], Awaitable[StreamResponse]]
"""`await stream_fn(model, context, options)`."""


class Response:
    """A reply under way. It is asked for and read in a task of its own, however slowly events are taken.

    The last event is `done` or `error`; nothing is raised but what a bridge was told to raise, such as the miss of a
    replay with `on_miss="raise"`. `signal` ends it at any time, also while nothing comes.
    """

    def __init__(
        self,
        bridge: Bridge,
        request: Request,
        spelling: Spelling,
        dialect: str,
        *,
        own: bool,
        signal: Signal | None = None,
        refused: str = "{status}: {text}",
    ) -> None:
        self._bridge = bridge
        self._request = request
        self._spelling = spelling
        self._dialect = dialect_named(dialect)
        self._own = own
        self._signal = signal
        self._refused = refused
        self._snapshot = Snapshot()
        self._events: asyncio.Queue[StreamEvent | None] = asyncio.Queue()
        self._loud: BaseException | None = None
        self._closing = asyncio.Event()
        self._task = asyncio.ensure_future(self._work())

    def __repr__(self) -> str:
        state = "ended" if self._task.done() else "under way"
        return (
            f"<{type(self).__name__} {self._spelling.provider} {self._spelling.model!r}, {state}>"
        )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)
            if self._loud is not None:
                raise self._loud
            raise StopAsyncIteration
        return event

    async def result(self) -> Message:
        """The final message; what went wrong is in `stop_reason` and `error_message`."""
        await asyncio.wait([self._task])
        if self._loud is not None:
            raise self._loud
        return self._spelling.message(self._snapshot.message)

    async def aclose(self) -> None:
        """Stop here and let go of the upstream; what came so far is the message, which is then aborted."""
        self._closing.set()
        await asyncio.wait([self._task])

    async def _work(self) -> None:
        waits: list[Coroutine[Any, Any, object]] = [self._read(), self._closing.wait()]
        if self._signal is not None:
            waits.append(_raised(self._signal))
        tasks = [asyncio.ensure_future(each) for each in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            self._finish([each for each in outcomes if isinstance(each, BaseException)])
            try:
                if self._own:
                    await self._bridge.__aexit__(None, None, None)
            finally:
                self._events.put_nowait(None)

    async def _read(self) -> None:
        if self._unwanted():
            return
        reply = await self._bridge.handle(self._request)
        reply.raise_loud()
        async with aclosing(read_deltas(self._dialect, reply)) as deltas:
            async for delta in deltas:
                if isinstance(delta, Fail):
                    delta = self._told(reply, delta)
                self._put(delta)
                if self._unwanted():
                    return

    def _unwanted(self) -> bool:
        return self._closing.is_set() or (self._signal is not None and _is_set(self._signal))

    def _put(self, delta: Delta) -> None:
        self._events.put_nowait(self._spelling.event(self._snapshot.apply(delta)))

    def _told(self, reply: Reply, fail: Fail) -> Fail:
        if reply.status < 400:
            return fail
        text = self._refused.format(status=reply.status, text=fail.error)
        return Fail(fail.error_type, text, usage=fail.usage)

    def _finish(self, raised: list[BaseException]) -> None:
        """Whatever happened, there is a last event."""
        if self._snapshot.message.stop_reason is not None:
            return
        fail = Fail("aborted", ABORTED, "aborted")
        for error in raised:
            if isinstance(error, Exception):
                # A signal of the user's that fails, say: whoever waits must hear of it.
                _logger.error("%r failed", self, exc_info=error)
                fail = Fail("api_error", f"{type(error).__name__}: {error}")
            elif not isinstance(error, asyncio.CancelledError):
                self._loud = error
                return
        if self._snapshot.message == Snapshot().message:
            self._put(Start())
        self._put(fail)


def _is_set(signal: Signal) -> bool:
    return signal.is_set() if isinstance(signal, asyncio.Event) else bool(signal())


async def _raised(signal: Signal) -> None:
    if isinstance(signal, asyncio.Event):
        await signal.wait()
        return
    while not signal():  # noqa: ASYNC110  # a function can only be asked again
        await asyncio.sleep(POLL_S)
