"""A thread that writes after others, so that nobody waits for the disk."""

import atexit
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Thread
from time import monotonic

_REST = 9
"""So many times as long as a write took, the next one waits: a large file costs a tenth of the time at most."""

_LONGEST_REST_S = 1.0


class Writer:
    """Calls `write` soon after `wake`, once for all that came meanwhile; its thread lives while there is work."""

    def __init__(self, write: Callable[[], None], name: str) -> None:
        self._write = write
        self._name = name
        self._changed = Condition()
        self._thread: Thread | None = None
        self._due = False
        self._hurried = False

    def wake(self) -> None:
        """There is something to write. Never waits."""
        with self._changed:
            self._due = True
            # A forked process has the thread's name, not the thread.
            if self._thread is None or not self._thread.is_alive():
                self._start()

    def finish(self) -> None:
        """Return when all is written and the thread has ended."""
        with self._changed:
            thread = self._thread
            self._hurried = thread is not None
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    def _start(self) -> None:
        thread = Thread(target=self._run, name=self._name, daemon=True)
        # A process that ends has no new threads; who flushes writes by himself.
        with suppress(RuntimeError):
            thread.start()
            self._thread = thread
            atexit.register(self.finish)

    def _run(self) -> None:
        while self._has_work():
            begun = monotonic()
            self._write()
            rest_s = min(_REST * (monotonic() - begun), _LONGEST_REST_S)
            with self._changed:
                self._changed.wait_for(lambda: self._hurried, rest_s)

    def _has_work(self) -> bool:
        with self._changed:
            if self._due:
                self._due = False
                return True
            self._thread = None
            self._hurried = False
        atexit.unregister(self.finish)
        return False
