"""One event loop in a background thread: how sync code and the server reach the async core."""

import atexit
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from importlib.util import find_spec
from threading import Event, Lock, Thread

import anyio
from anyio.from_thread import BlockingPortal


class Portal:
    """Opens when first needed; `last` is run on the loop before it closes.

    The thread is a daemon, so that a forgotten bridge does not hold up the exit, and is closed at the exit all the same.
    """

    def __init__(self, last: Callable[[], Awaitable[None]] | None = None) -> None:
        self._last = [last] if last is not None else []
        self._lock = Lock()
        self._portal: BlockingPortal | None = None
        self._thread: Thread | None = None

    def open(self) -> BlockingPortal:
        """The portal to the loop, which runs when this returns."""
        with self._lock:
            if self._portal is None:
                ready = Event()
                self._thread = Thread(
                    target=self._run, args=(ready,), name="llmbridge", daemon=True
                )
                self._thread.start()
                ready.wait()
                atexit.register(self.close)
            assert self._portal is not None, "the thread sets it before it says ready"
            return self._portal

    def before_end(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run this on the loop before it closes, and before what was said so far."""
        self._last.append(step)

    def close(self) -> None:
        """End loop and thread. Nothing happens where none runs."""
        atexit.unregister(self.close)
        with self._lock:
            portal, thread = self._portal, self._thread
            self._portal = self._thread = None
        if portal is None or thread is None:
            return
        # Last one first, each of them also where one before has failed.
        with ExitStack() as ending:
            ending.callback(thread.join)
            ending.callback(lambda: portal.call(portal.stop))
            for step in self._last:
                ending.callback(portal.call, step)

    def _run(self, ready: Event) -> None:
        # Its timers are twice as punctual under load, and head and body leave in one write.
        fast = find_spec("uvloop") is not None
        anyio.run(self._main, ready, backend_options={"use_uvloop": fast})

    async def _main(self, ready: Event) -> None:
        async with BlockingPortal() as portal:
            self._portal = portal
            ready.set()
            await portal.sleep_until_stopped()
