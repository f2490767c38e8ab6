"""What happens on a bridge, decoded in a thread of its own and handed to inspectors.

The relay only puts what begins into a list; its chunks are read from where the recorder keeps them anyway. The thread
sleeps while nothing is under way, and ends with the last inspector.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from math import inf
from threading import Event, Lock, RLock, Thread
from time import monotonic as system_monotonic
from typing import Protocol

from llmbridge.exchange.record import Interception, Record, Store
from llmbridge.exchange.redact import Redactor
from llmbridge.exchange.watching import Exchange, Told, Watchers
from llmbridge.notebook.reading import Reader, Sent, trace_of_interception, update
from llmbridge.notebook.trace import Trace

TICK_S = 0.03
REMEMBERED = 50
MAX_TRACES = 100
MAX_BYTES = 64 * 1024 * 1024
"""What all traces may take; the oldest that have ended go first."""

_logger = logging.getLogger("llmbridge.notebook")


class Viewer(Protocol):
    """Who is shown the traces."""

    @property
    def closed(self) -> bool:
        """True when it will never show anything again."""
        ...

    def flush(self, traces: dict[str, Trace], now_s: float) -> bool:
        """Send what is due; True when nothing is left to send."""
        ...


class Feed:
    """The traces of a bridge, and who is shown them."""

    def __init__(
        self,
        watchers: Watchers,
        redactor: Redactor,
        sent: Sent,
        store: Store,
        inflight: Mapping[str, Interception],
        monotonic: Callable[[], float] = system_monotonic,
    ) -> None:
        self.traces: dict[str, Trace] = {}
        self._watchers = watchers
        self._redactor = redactor
        self._sent = sent
        self._inflight = inflight
        self._store = store
        self._monotonic = monotonic
        self._told: deque[Told] = deque()
        self._readers: list[Reader] = []
        self._viewers: list[Viewer] = []
        self._wake = Event()
        self._lock = Lock()
        # Whoever looks at the traces must not see one half taken in.
        self._reading = RLock()
        self._thread: Thread | None = None
        self._closing = Event()

    @property
    def closed(self) -> bool:
        """True when nothing more comes."""
        return self._closing.is_set()

    def show(self, viewer: Viewer) -> None:
        """Keep this one up to date until it is closed."""
        with self._lock:
            self._viewers.append(viewer)
            if self._thread is None and not self._closing.is_set():
                self._watchers.add(self._see)
                late: list[Told] = [*self._inflight.values(), *self._watchers.exchanges.values()]
                # What began meanwhile has been told by itself.
                told = set(map(id, tuple(self._told)))
                self._told.extend(each for each in late if id(each) not in told)
                self._thread = Thread(target=self._work, name="llmbridge live", daemon=True)
                self._thread.start()
        self.wake()

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    def close(self) -> None:
        """Show what is left, and end the thread. Twice is fine."""
        thread = self._thread
        self._closing.set()
        self._wake.set()
        if thread is not None:
            thread.join(timeout=2)

    def read(self) -> bool:
        """Take in what has come; True when nothing is under way. From any thread."""
        with self._reading:
            while self._told:
                what = self._told.popleft()
                try:
                    self._hear(what)
                except Exception:
                    # One call that cannot be shown must not hide the others.
                    _logger.exception("%r cannot be shown", what)
            self._readers = [reader for reader in self._readers if not _through(reader)]
            self._forget()
            return not self._readers

    def tick(self, now_s: float) -> bool:
        """Read what came, show what is due; True when it is quiet."""
        with self._reading:
            return self._show(self.read(), now_s)

    def _show(self, quiet: bool, now_s: float) -> bool:
        for viewer in tuple(self._viewers):
            try:
                quiet = viewer.flush(self.traces, now_s) and quiet
            except Exception:
                # The border to a front end, which may be gone for good.
                _logger.debug("%r is not shown anything any more", viewer, exc_info=True)
                self._viewers.remove(viewer)
            else:
                if viewer.closed:
                    self._viewers.remove(viewer)
        return quiet and not self._told

    def _see(self, what: Told) -> None:
        self._told.append(what)
        self._wake.set()

    def _hear(self, what: Told) -> None:
        if isinstance(what, Exchange):
            trace = self._trace(what.call.id)
            # One exchange of an interception is over before the next begins.
            self._read_out(trace)
            self._readers.append(Reader(trace, what, self._redactor, self._sent))
            return
        trace = self._trace(what.id)
        if what.end is not None:
            # What was said comes before how it ended.
            self._read_out(trace)
        update(trace, what)
        trace.ask(what.request)

    def _read_out(self, trace: Trace) -> None:
        for reader in [reader for reader in self._readers if reader.trace is trace]:
            _through(reader)
            self._readers.remove(reader)

    def _trace(self, id: str) -> Trace:
        if id not in self.traces:
            self.traces[id] = Trace(id)
        return self.traces[id]

    def _forget(self) -> None:
        """Let go of the oldest that have ended, where there is too much."""
        size = sum(trace.bytes for trace in self.traces.values())
        for trace in tuple(self.traces.values()):
            if len(self.traces) <= MAX_TRACES and size <= MAX_BYTES:
                return
            if not trace.live:
                size -= trace.bytes
                del self.traces[trace.id]

    def _work(self) -> None:
        self.remember()
        while True:
            self._wake.wait()
            self._wake.clear()
            while not self.tick(self._monotonic()) and not self._closing.wait(TICK_S):
                pass
            with self._lock:
                if self._viewers and not self._closing.is_set():
                    continue
                self._watchers.remove(self._see)
                self._thread = None
            # The last word is not held back.
            self.tick(self._monotonic() + 3600)
            return

    def remember(self) -> None:
        """Show what happened before, where the store has it at hand."""
        if not getattr(self._store, "at_once", False):
            return
        try:
            rounds: dict[str, list[Record]] = {}
            for record in self._store.records():
                rounds.setdefault(record.interception_id, []).append(record)
            past = {
                each.id: trace_of_interception(each, rounds.get(each.id, ()))
                for each in self._store.interceptions()[-REMEMBERED:]
                if each.id not in self.traces and each.end is not None
            }
            with self._reading:
                every = sorted({**self.traces, **past}.values(), key=_began)
                self.traces.clear()
                self.traces.update((trace.id, trace) for trace in every)
        except Exception:
            # The border to somebody's store.
            _logger.exception("what happened before cannot be shown")


def _began(trace: Trace) -> float:
    return float(trace.facts.get("started", inf))


def _through(reader: Reader) -> bool:
    """Read on; True when there is nothing more to read."""
    try:
        return reader.read()
    except Exception:
        # A codec that trips over one answer: what came before it stays.
        _logger.exception("%r cannot be shown further", reader.trace)
        return True
