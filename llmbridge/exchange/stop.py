"""The wish that one call ends, said from anywhere: it reaches whichever task waits for the call's next piece."""

import asyncio
from contextlib import suppress

from llmbridge.errors import Stopped

STOPPED = "the call was stopped here"


class Stop:
    """`ask` cancels the task that has entered and not left, and lets none in from then on."""

    __slots__ = ("_asked", "_loop", "_sent", "_task")

    def __init__(self) -> None:
        self._asked = False
        self._sent: asyncio.Task[object] | None = None
        self._task: asyncio.Task[object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def ask(self) -> None:
        """End the call; from any thread."""
        self._asked = True
        if self._loop is not None:
            with suppress(RuntimeError):  # The loop is closed, and the call with it.
                self._loop.call_soon_threadsafe(self._cancel)

    def enter(self) -> bool:
        """This task is going to wait; False where it must not."""
        if self._asked:
            return False
        try:
            self._task = asyncio.current_task()
        except RuntimeError:
            # A call that waits for nothing may be driven without a loop.
            return True
        if self._task is not None:
            self._loop = self._task.get_loop()
        return True

    def leave(self) -> None:
        """It waits no more."""
        self._task = None

    def came(self) -> bool:
        """True where a cancellation was ours; it is taken back, and one from elsewhere goes on."""
        self._task = None
        sent, self._sent = self._sent, None
        return sent is not None and not sent.uncancel()

    def _cancel(self) -> None:
        if self._task is not None and self._sent is None and self._task.cancel(Stopped.end):
            self._sent = self._task
