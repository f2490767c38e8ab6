"""End calls from outside: somebody has seen enough, and the upstream is let go of."""

import asyncio
from collections.abc import Awaitable, Callable

from llmbridge.errors import Stopped
from llmbridge.exchange.call import Call, Handler, Reply
from llmbridge.exchange.stop import STOPPED, Stop


class Stops:
    """An interceptor that knows the calls under way, and ends them when it is told to.

    `waits` says whether any call may have to wait for something.
    """

    def __init__(self, waits: Callable[[], bool] = lambda: True) -> None:
        self._waits = waits
        self._open: dict[str, Stop] = {}

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        """Forward the call.

        Raises:
            Stopped: it was ended before there was an answer.
        """
        # Nobody can be faster than a call that waits for nothing.
        return self._open_to_stop(call, forward) if self._waits() else forward(call)

    async def _open_to_stop(self, call: Call, forward: Handler) -> Reply:
        stop = self._open[call.id] = Stop()
        stop.enter()
        try:
            reply = await forward(call)
        except asyncio.CancelledError:
            self._forget(call.id)
            if stop.came():
                raise Stopped(STOPPED) from None
            raise
        except BaseException:
            stop.came()
            self._forget(call.id)
            raise
        stop.leave()
        if reply.at_once:
            self._forget(call.id)
            return reply
        reply.stop = stop
        return reply.watch(lambda ended: self._forget(call.id))

    def stop(self, id: str) -> bool:
        """End the call of this id, from any thread; False where none is under way."""
        stop = self._open.get(id)
        if stop is not None:
            stop.ask()
        return stop is not None

    def _forget(self, id: str) -> None:
        self._open.pop(id, None)
