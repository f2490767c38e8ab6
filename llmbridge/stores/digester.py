"""Calls that end are read in a thread of their own, beside those who relay and who write."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition, Thread, current_thread, main_thread

from llmbridge.exchange.record import Interception, Record

_logger = logging.getLogger(__name__)

MOST = 1000
"""So many calls wait for their digest; what comes then is left to who reads it."""

_IDLE_S = 1.0
"""The thread ends after so long without work."""

Ended = tuple[Interception, Sequence[Record]]


class Digester:
    """Gives `digest` every call that ends, with its records; what fails or is too much stays undigested."""

    def __init__(self, digest: Callable[[Interception, Sequence[Record]], None], name: str) -> None:
        self._digest = digest
        self._name = name
        self._changed = Condition()
        self._open: dict[str, list[Record]] = {}
        self._ended: deque[Ended] = deque()
        self._taken = self._done = 0
        self._thread: Thread | None = None

    def begin(self, interception: Interception) -> None:
        """Expect the records of this call."""
        self._open[interception.id] = []

    def add(self, record: Record) -> None:
        """Keep it until its call ends."""
        records = self._open.get(record.interception_id)
        if records is not None:
            records.append(record)

    def end(self, interception: Interception) -> None:
        """Digest it soon, if all of it was seen. Never waits."""
        records = self._open.pop(interception.id, None)
        if records is None or len(self._ended) >= MOST:
            return
        with self._changed:
            self._ended.append((interception, records))
            self._taken += 1
            if self._thread is None:
                self._thread = Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            elif len(self._ended) == 1:
                self._changed.notify_all()

    def wait(self) -> None:
        """Return when all that has ended so far is digested."""
        with self._changed:
            goal = self._taken
            self._changed.wait_for(lambda: self._done >= goal)

    def finish(self) -> None:
        """Wait, and end the thread; it starts again with the next call."""
        with self._changed:
            self._changed.wait_for(lambda: self._done == self._taken)
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (ended := self._next()) is not None:
            try:
                self._digest(*ended)
            except Exception:
                # The border: one answer that nobody can read must not cost the digests of others. A program that ends
                # leaves them to who reads.
                if main_thread().is_alive():
                    _logger.exception("interception %r stays undigested", ended[0].id)
            with self._changed:
                self._done += 1
                self._changed.notify_all()

    def _next(self) -> Ended | None:
        with self._changed:
            mine = current_thread()
            self._changed.wait_for(lambda: self._ended or self._thread is not mine, _IDLE_S)
            if not self._ended or self._thread is not mine:
                self._thread = None if self._thread is mine else self._thread
                return None
            return self._ended.popleft()
