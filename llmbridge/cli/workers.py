"""Several processes that serve one port: started together, started again when one dies, ended together."""

import logging
import os
import signal
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from threading import Event, Thread
from time import monotonic

from llmbridge.cli.signals import on_stop
from llmbridge.errors import BridgeError, ConfigurationError

STOP_S = 15.0
"""So long a worker may take to end its replies and to write what it has; then it is killed."""
FIRST_REST_S = 0.1
LONGEST_REST_S = 30.0
"""How long a worker that dies is not started again: longer each time, until one has lived for so long."""

COUNTS = "PROMETHEUS_MULTIPROC_DIR"
"""The folder where the workers of one server add their counts; prometheus-client reads the variable."""

_logger = logging.getLogger("llmbridge")

Work = Callable[[Event, Callable[[], None]], None]
"""Serves until the event is set, and calls the function when it is ready. It is sent to another process."""


@dataclass(slots=True)
class _Worker:
    """A place for a process, and the process that has it now."""

    number: int
    process: SpawnProcess
    told: Connection
    began_s: float
    rest_s: float = FIRST_REST_S
    due_s: float | None = None
    """When it is to be started again; None while it runs."""


class Workers:
    """So many processes that do the same work, until a signal comes."""

    def __init__(self, count: int, work: Work) -> None:
        self._work = work
        self._processes = get_context("spawn")
        self._ended, self._end = self._processes.Pipe(duplex=False)
        on_stop(lambda: self._end.send_bytes(b"."))
        self._workers = [self._start(number) for number in range(1, count + 1)]

    @property
    def pids(self) -> list[int]:
        """Of those that run."""
        return [worker.process.pid or 0 for worker in self._workers if worker.due_s is None]

    def wait_until_ready(self) -> bool:
        """Return when all of them serve; False when a signal came before.

        Raises:
            ConfigurationError: one of them could not; the others are ended.
        """
        for worker in self._workers:
            if self._ended in wait([worker.told, self._ended]):
                self.stop()
                return False
            if not _is_ready(worker):
                self.stop()
                raise ConfigurationError("a worker could not start; it says why above")
        return True

    def keep(self) -> None:
        """Start again those that die, until a signal comes."""
        while self._ended not in wait(self._watched(), self._rest_s()):
            for worker in self._workers:
                if worker.due_s is None and worker.process.exitcode is not None:
                    self._bury(worker)
                elif worker.due_s is not None and monotonic() >= worker.due_s:
                    self._renew(worker)

    def end(self) -> None:
        """Stop them.

        Raises:
            BridgeError: one of them could not end as it should, such as with rows that no database took.
        """
        if not self.stop():
            raise BridgeError("a worker could not end as it should; it says why above")

    def stop(self) -> bool:
        """Ask them all to end, and wait; who does not is killed. True when all ended well."""
        well = True
        for worker in self._workers:
            worker.process.terminate()
        until_s = monotonic() + STOP_S
        for worker in self._workers:
            worker.process.join(max(0.0, until_s - monotonic()))
            if worker.process.exitcode is None:
                _logger.error("worker %d did not end and was killed", worker.number)
                worker.process.kill()
                worker.process.join()
            # One that has died before was told of then, and one that was only starting had nothing to lose.
            well &= worker.due_s is not None or worker.process.exitcode in (0, -signal.SIGTERM)
            worker.told.close()
        self._workers.clear()
        return well

    def _start(self, number: int) -> _Worker:
        told, tell = self._processes.Pipe(duplex=False)
        process = self._processes.Process(
            target=_run, args=(self._work, tell), name=f"llmbridge worker {number}", daemon=True
        )
        process.start()
        tell.close()
        return _Worker(number, process, told, monotonic())

    def _bury(self, worker: _Worker) -> None:
        lived_s = monotonic() - worker.began_s
        worker.rest_s = FIRST_REST_S if lived_s > LONGEST_REST_S else worker.rest_s
        worker.due_s = monotonic() + worker.rest_s
        worker.told.close()
        _forget_gauges(worker.process.pid)
        _logger.error(
            "worker %d (process %d) died, %s; another starts in %.1f s",
            worker.number,
            worker.process.pid,
            _how(worker.process.exitcode or 0),
            worker.rest_s,
        )

    def _renew(self, worker: _Worker) -> None:
        fresh = self._start(worker.number)
        worker.process, worker.told = fresh.process, fresh.told
        worker.began_s, worker.due_s = fresh.began_s, None
        worker.rest_s = min(2 * worker.rest_s, LONGEST_REST_S)

    def _watched(self) -> list[int | Connection]:
        """What wakes us: a signal, or a death."""
        alive = (worker for worker in self._workers if worker.due_s is None)
        return [self._ended, *(worker.process.sentinel for worker in alive)]

    def _rest_s(self) -> float | None:
        due = [worker.due_s for worker in self._workers if worker.due_s is not None]
        return max(0.0, min(due) - monotonic()) if due else None


@contextmanager
def counting_together() -> Generator[None]:
    """Let processes that start here add their counts for Prometheus, also those of workers that are no more."""
    before = os.environ.get(COUNTS)
    with tempfile.TemporaryDirectory(prefix="llmbridge-counts-") as folder:
        os.environ[COUNTS] = folder
        try:
            yield
        finally:
            del os.environ[COUNTS]
            if before is not None:
                os.environ[COUNTS] = before


def _is_ready(worker: _Worker) -> bool:
    try:
        worker.told.recv_bytes()
    except EOFError:
        return False
    return True


def _how(exitcode: int) -> str:
    return f"exit code {exitcode}" if exitcode >= 0 else f"signal {-exitcode}"


def _forget_gauges(pid: int | None) -> None:
    if COUNTS in os.environ:
        import_module("prometheus_client.multiprocess").mark_process_dead(pid)


def _run(work: Work, tell: Connection) -> None:
    """What a worker does."""
    stop = Event()
    on_stop(stop.set)
    # Ctrl-C in a terminal is for all of its processes; the first one tells us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_outlive_nobody, args=(stop,), daemon=True).start()
    try:
        work(stop, lambda: tell.send_bytes(b"."))
    except BridgeError as error:
        _logger.error("%s", error.message)
        raise SystemExit(1) from None


def _outlive_nobody(stop: Event) -> None:
    first = parent_process()
    assert first is not None
    first.join()
    stop.set()
