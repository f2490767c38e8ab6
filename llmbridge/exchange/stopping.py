"""End calls from outside: somebody has seen enough, and the upstream is let go of."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType

from llmbridge.errors import Stopped
from llmbridge.exchange.call import Call, Handler, Reply


class Stops:
    """An interceptor that knows the calls under way, and ends them when it is told to."""

    def __init__(self) -> None:
        self._open: dict[str, _Stop] = {}

    async def __call__(self, call: Call, forward: Handler) -> Reply:
        """Forward the call.

        Raises:
            Stopped: it was ended before there was an answer.
        """
        stop = self._open[call.id] = _Stop()
        try:
            with stop:
                reply = await forward(call)
        except BaseException:
            del self._open[call.id]
            raise
        if reply.at_once:
            # Nobody can be faster.
            del self._open[call.id]
            return reply
        return reply.through(
            lambda source: _Chunks(source, stop), lambda ended: self._forget(call.id)
        )

    def stop(self, id: str) -> bool:
        """End the call of this id, from any thread; False where none is under way."""
        stop = self._open.get(id)
        if stop is not None:
            stop.ask()
        return stop is not None

    def _forget(self, id: str) -> None:
        self._open.pop(id, None)


class _Stop:
    """Cancels whichever task waits inside its `with` block, and lets none in from then on."""

    __slots__ = ("_asked", "_loop", "_sent", "_task")

    def __init__(self) -> None:
        self._asked = self._sent = False
        self._task: asyncio.Task[object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def ask(self) -> None:
        self._asked = True
        if self._loop is not None:
            with suppress(RuntimeError):  # The loop is closed, and the call with it.
                self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None and not self._sent:
            self._sent = self._task.cancel()

    def __enter__(self) -> None:
        if self._asked:
            raise _stopped()
        if self._loop is None:
            # None: a call that waits for nothing is driven without a loop.
            with suppress(RuntimeError):
                self._loop = asyncio.get_running_loop()
        if self._loop is not None:
            self._task = asyncio.current_task()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if task is None or not self._sent:
            return
        self._sent = False
        if task.uncancel():
            return  # Somebody else wants the task to end.
        if kind is None or kind is asyncio.CancelledError:
            raise _stopped() from None


class _Chunks:
    """A reply's chunks, which can be stopped. No generator: every chunk passes here."""

    __slots__ = ("_reply", "_stop")

    def __init__(self, reply: Reply, stop: _Stop) -> None:
        self._reply = reply
        self._stop = stop

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            with self._stop:
                return await self._reply.__anext__()
        except Stopped as stopped:
            await self._reply.aclose(stopped.end)
            raise


def _stopped() -> Stopped:
    return Stopped("the call was stopped here")
