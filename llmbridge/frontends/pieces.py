"""A reply read piece by piece by sync code: from a loop in another thread, or right here where nothing is waited for."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from llmbridge.canon.events import Event
from llmbridge.errors import BridgeError, BridgeShutdown
from llmbridge.exchange.at_once import at_once
from llmbridge.exchange.call import Handle, Reply, Request
from llmbridge.exchange.codec import EventStream
from llmbridge.frontends.passing import CLOSE_LIMIT_S, let_go
from llmbridge.wire.dialect import Dialect

T = TypeVar("T")

AHEAD_BYTES = 256 * 1024
"""How much is fetched from another thread at one go, where all of it is there at once."""


class Pieces(Protocol):
    """One exchange, driven by sync code."""

    def open(self, handle: Handle, request: Request) -> Reply:
        """Ask, and wait for the head.

        Raises:
            TimeoutError: it took longer than the client's read timeout.
        """
        ...

    def read(self) -> bytes | None:
        """The next piece as the reply gives it; None after the last.

        Raises:
            BridgeError: the answer broke off, or the bridge was closed.
            TimeoutError: nothing came within the client's read timeout.
        """
        ...

    def close(self) -> None:
        """Give up what is left of the reply; doing it twice, or after the bridge, is fine."""
        ...


class PiecesHere:
    """An exchange that waits for nothing, made in the client's own thread, without a loop."""

    def __init__(self) -> None:
        self._reply: Reply | None = None

    def open(self, handle: Handle, request: Request) -> Reply:
        """Ask; the head is there."""
        self._reply = at_once(handle(request))
        self._reply.raise_loud()
        return self._reply

    def read(self) -> bytes | None:
        """The next piece as the reply gives it; None after the last.

        Raises:
            BridgeError: the answer broke off.
        """
        assert self._reply is not None, "opened before it is read"
        return at_once(_piece(self._reply))

    def close(self) -> None:
        """Give up what is left of the reply; doing it twice is fine."""
        if self._reply is not None and self._reply.end is None:
            at_once(let_go(self._reply))


async def _piece(reply: Reply) -> bytes | None:
    return await anext(reply, None)


class PiecesThere:
    """One exchange on the loop of a portal, driven from another thread.

    Opening and reading take turns with closing, so that a step that is given up unwinds before the reply is closed.
    """

    def __init__(self, portal: BlockingPortal, read_timeout_s: float | None) -> None:
        self._portal = portal
        self._timeout_s = read_timeout_s
        self._turn = anyio.Lock(fast_acquire=True)
        self._step: asyncio.Task[Any] | None = None
        self._reply: Reply | None = None
        self._closed = False
        self._ahead: deque[bytes | BridgeError | None] = deque()

    def open(self, handle: Handle, request: Request) -> Reply:
        """Ask, and wait for the head.

        Raises:
            TimeoutError: it took longer than the client's read timeout.
        """

        async def ask() -> Reply:
            self._step = asyncio.current_task()
            async with self._turn:
                self._reply = await handle(request)
                if self._reply.at_once:
                    await self._fetch(self._reply)
                return self._reply

        reply = self._wait(ask, self._timeout_s)
        # Here, in the client's thread: there it would end the loop of the portal.
        reply.raise_loud()
        return reply

    def read(self) -> bytes | None:
        """The next piece as the reply gives it; None after the last.

        Raises:
            BridgeError: the answer broke off, or the bridge was closed.
            TimeoutError: nothing came within the client's read timeout.
        """
        found = self._ahead.popleft() if self._ahead else self._wait(self._next, self._timeout_s)
        if isinstance(found, BridgeError):
            raise found
        return found

    def close(self) -> None:
        """Give up what is left of the reply; doing it twice, or after the bridge, is fine."""
        if self._closed or (self._reply is not None and self._reply.end is not None):
            return
        self._closed = True
        with suppress(BridgeShutdown):
            self._wait(self._close, None)

    async def _next(self) -> bytes | BridgeError | None:
        assert self._reply is not None, "opened before it is read"
        self._step = asyncio.current_task()
        async with self._turn:
            if not self._reply.at_once:
                return await anext(self._reply, None)
            await self._fetch(self._reply)
            return self._ahead.popleft()

    async def _fetch(self, reply: Reply) -> None:
        """Take what is there, so that not every piece crosses from one thread to the other alone."""
        size = 0
        try:
            while size < AHEAD_BYTES:
                piece = await anext(reply, None)
                self._ahead.append(piece)
                if piece is None:
                    return
                size += len(piece)
        except BridgeError as error:
            self._ahead.append(error)

    async def _close(self) -> None:
        # The step may still run, although its caller was interrupted or out of time.
        if self._step is not None:
            self._step.cancel("client_gone")
        with anyio.move_on_after(CLOSE_LIMIT_S):
            async with self._turn:
                if self._reply is not None and self._reply.end is None:
                    await let_go(self._reply)

    def _wait(self, step: Callable[[], Coroutine[object, object, T]], timeout_s: float | None) -> T:
        try:
            future = self._portal.start_task_soon(step)
        except RuntimeError as error:
            raise BridgeShutdown(f"the bridge cannot be reached: {error}") from error
        try:
            return future.result(timeout_s)
        except CancelledError:
            raise BridgeShutdown("the bridge was closed before the answer ended") from None


def pieces(portal: BlockingPortal | None, read_timeout_s: float | None) -> Pieces:
    """An exchange on the portal's loop, or in the thread of the caller where there is no portal."""
    return PiecesHere() if portal is None else PiecesThere(portal, read_timeout_s)


def events(exchange: Pieces, dialect: Dialect, handle: Handle, request: Request) -> Iterator[Event]:
    """What is answered, as canon's events; leaving early, also by an interrupt, lets go of the reply."""

    async def read() -> AsyncIterator[bytes]:
        # It waits in this thread, not for a loop.
        while (piece := exchange.read()) is not None:
            yield piece

    try:
        reply = exchange.open(handle, request)
        stream = EventStream(dialect, Reply(reply.status, reply.headers, read()))
        while (event := at_once(_event(stream))) is not None:
            yield event
    finally:
        exchange.close()


async def _event(stream: EventStream) -> Event | None:
    return await anext(stream, None)
