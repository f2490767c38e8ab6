"""One thread that writes to a database: in batches, at once where somebody waits, and again after a failure."""

import atexit
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition, Thread

from llmbridge.errors import StoreUnavailable
from llmbridge.exchange.record import Interception, Record
from llmbridge.stores.sql_digests import Digest

_logger = logging.getLogger(__name__)

Item = Interception | Record | Digest

BATCH = 100
WINDOW_S = 0.05
"""A batch is written when it has this many rows, or when its first row has waited this long."""

_IDLE_S = 1.0
"""The thread ends after so long without work."""

_RETRY_S = 1.0
"""After a failure so long passes before what is left is tried again, unless somebody waits."""


@dataclass(eq=False, slots=True)
class Job:
    """What to write, and who waits for it."""

    item: Item
    number: int
    """Of this writer's jobs: what is tried again keeps it."""
    waiter: "Future[None] | None" = None


class SqlWriter:
    """Gives `write` batches of jobs, in order. A start that fails is its waiter's affair; all else is kept until it is written."""

    def __init__(self, write: Callable[[Sequence[Job]], None], name: str) -> None:
        self._write = write
        self._name = name
        self._changed = Condition()
        self._jobs: deque[Job] = deque()
        self._put = self._done = self._digests = 0
        self._hurried = 0
        self._failure: StoreUnavailable | None = None
        self._tries = self._failed = 0
        self._ending = False
        self._thread: Thread | None = None

    @property
    def pending(self) -> int:
        """Rows that are not in the database yet; digests, which can be made again, are not among them."""
        return self._put - self._done - self._digests

    def put(self, item: Item) -> None:
        """Write this soon. Never waits."""
        self._take(item)

    def put_now(self, item: Item) -> "Future[None]":
        """Write this at once, and tell when it is durable."""
        future: Future[None] = Future()
        self._take(item, future)
        return future

    def flush(self) -> None:
        """Return when all that was put before is durable.

        Raises:
            StoreUnavailable: it cannot be written now; it is kept, and tried again.
        """
        with self._changed:
            goal, tries = self._put, self._tries
            self._start()
            self._hurried += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: self._done >= goal or self._failed > tries)
            finally:
                self._hurried -= 1
            if self._done < goal:
                raise StoreUnavailable(
                    f"{self.pending:,} rows wait in memory: {self._failure}"
                ) from self._failure

    def finish(self) -> None:
        """Flush, and end the thread; it starts again with the next row.

        Raises:
            StoreUnavailable: some rows cannot be written, and are lost with the process.
        """
        try:
            self.flush()
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{self.pending:,} rows are lost: {self._failure}") from error
        finally:
            with self._changed:
                thread, self._ending = self._thread, True
                self._changed.notify_all()
            if thread is not None:
                thread.join()
            self._ending = False
            atexit.unregister(self._last)

    def _take(self, item: Item, waiter: "Future[None] | None" = None) -> None:
        with self._changed:
            self._put += 1
            self._digests += isinstance(item, Digest)
            self._jobs.append(Job(item, self._put, waiter))
            self._hurried += waiter is not None
            self._start()
            if waiter is not None or len(self._jobs) in (1, BATCH):
                self._changed.notify_all()

    def _start(self) -> None:
        # A forked process has the thread's name, not the thread.
        if self._put > self._done and (self._thread is None or not self._thread.is_alive()):
            self._thread = Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
            atexit.unregister(self._last)
            atexit.register(self._last)

    def _last(self) -> None:
        """What a process that ends does for rows that nobody flushed."""
        try:
            self.finish()
        except StoreUnavailable as error:
            _logger.error("%s", error.message)

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            self._try(batch)

    def _next(self) -> list[Job] | None:
        """The next batch; None when there is no more work."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._jobs or self._ending, _IDLE_S) or (
                self._ending and (self._failure or not self._jobs)
            ):
                self._thread = None
                return None
            rest_s = _RETRY_S if self._failure else WINDOW_S
            self._changed.wait_for(self._is_due, rest_s)
            self._tries += 1
            batch = [self._jobs.popleft() for _ in range(min(BATCH, len(self._jobs)))]
            waited = [job for job in batch if job.waiter is not None]
            self._hurried -= len(waited)
            withdrawn = [
                job
                for job in waited
                if job.waiter and not job.waiter.set_running_or_notify_cancel()
            ]
            self._done += len(withdrawn)
            return [job for job in batch if job not in withdrawn]

    def _is_due(self) -> bool:
        full = len(self._jobs) >= BATCH and not self._failure
        return self._hurried > 0 or self._ending or full

    def _try(self, batch: list[Job]) -> None:
        try:
            self._write(batch)
        except StoreUnavailable as error:
            if self._failure is None:
                _logger.error("%s; what came is kept in memory", error.message)
            # A start is refused, and all else waits for a better time.
            starts = [job for job in batch if job.waiter is not None]
            self._settle(batch, starts + self._starts_behind(), error)
        except Exception as error:
            # The border: one row that no database takes must not hold up the others.
            if len(batch) > 1:
                for job in batch:
                    self._try([job])
            else:
                _logger.exception("%r cannot be stored", batch[0].item)
                self._settle(batch, batch, None, error)
        else:
            self._settle(batch, batch, None)

    def _starts_behind(self) -> list[Job]:
        """Take the other starts out of the queue: behind rows that cannot be written they would wait for ever."""
        with self._changed:
            starts = [job for job in self._jobs if job.waiter is not None]
            self._jobs = deque(job for job in self._jobs if job.waiter is None)
            self._hurried -= len(starts)
        for job in starts:
            # One that nobody waits for any more is not to be told.
            if job.waiter and not job.waiter.set_running_or_notify_cancel():
                job.waiter = None
        return starts

    def _settle(
        self,
        batch: list[Job],
        settled: list[Job],
        failure: StoreUnavailable | None,
        refusal: Exception | None = None,
    ) -> None:
        with self._changed:
            self._jobs.extendleft(job for job in reversed(batch) if job not in settled)
            self._done += len(settled)
            self._digests -= sum(isinstance(job.item, Digest) for job in settled)
            self._failure = failure
            if failure is not None:
                self._failed = self._tries
            self._changed.notify_all()
        for job in settled:
            if job.waiter is None:
                continue
            if reason := failure or refusal:
                job.waiter.set_exception(reason)
            else:
                job.waiter.set_result(None)
