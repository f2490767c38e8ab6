"""The inspector in a notebook: a widget that shows interceptions while they stream, and steps through them afterwards.

Traits and messages are sent by the thread of the feed alone; what comes from the browser only leaves word there.
Nothing here prints or displays.
"""

# ipywidgets leaves most of its methods without a type.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportUntypedBaseClass=false, reportUnknownArgumentType=false

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, overload
from weakref import WeakSet

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.record import Record, Store
from llmbridge.frontends.cell import running_cell
from llmbridge.notebook.control import Control
from llmbridge.notebook.fallback import Bundle, Fallback
from llmbridge.notebook.feed import Feed
from llmbridge.notebook.outbox import RECORDING_CHARS, Outbox
from llmbridge.notebook.page import packed, page_html
from llmbridge.notebook.reading import trace_of_records
from llmbridge.notebook.static import static_html
from llmbridge.notebook.trace import Trace
from llmbridge.stores.cassette_write import dump

try:
    import anywidget
    import traitlets
except ModuleNotFoundError as error:  # pragma: no cover
    raise ConfigurationError("the inspector needs anywidget: pip install anywidget") from error

PLAYED_CHARS = 1024 * 1024
"""How large a recording may be that a player carries with it; of a larger one events come when they are asked for."""

_logger = logging.getLogger("llmbridge.notebook")

# As with servers: a cell that is run again finds what it has made before, which ipywidgets keeps until it is closed.
_of_cells: "WeakSet[Inspector]" = WeakSet()


@dataclass(frozen=True, slots=True)
class Source:
    """Where the interceptions come from that an inspector shows, and who does what it is asked for."""

    traces: Mapping[str, Trace]
    records: Callable[[str], Iterable[Record]]
    read: Callable[[], object] = lambda: None
    wake: Callable[[], object] | None = None
    closed: Callable[[], bool] = lambda: False
    stop: Callable[[str], object] = lambda id: None
    control: Control | None = None


class Inspector(anywidget.AnyWidget):
    """Interceptions in a notebook; `bridge.live()` and `record.play()` make one."""

    _esm = packed("live.js")
    _css = packed("live.css")
    keyframe = traitlets.Unicode("[]").tag(sync=True)
    recording = traitlets.Unicode("[]").tag(sync=True)
    mode = traitlets.Unicode("live").tag(sync=True)

    def __init__(
        self, source: Source, mode: str = "live", recording_chars: int = RECORDING_CHARS
    ) -> None:
        super().__init__(mode=mode)
        self.visible = True
        self.made_in = running_cell()
        self._source = source
        self._outbox = Outbox(self, source.control, recording_chars)
        self._fallback = Fallback(self._bundle, self._state, source.read, self._live)
        self._copies: list[str] = []
        self.on_msg(self._hear)

    def __repr__(self) -> str:
        traces = list(self._source.traces.values())
        return (
            f"Inspector({len(traces):,} interceptions, {sum(each.live for each in traces):,} live)"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self._bundle()

    def _ipython_display_(self) -> None:
        self._fallback.display()

    def _bundle(self) -> Bundle:
        """Everything that a front end may choose from; a saved notebook keeps the HTML."""
        widget, about = (None if self.closed else super()._repr_mimebundle_()) or ({}, {})
        html = str(static_html(self._source.traces, closed=self.mode == "closed"))
        return {**widget, "text/plain": repr(self), "text/html": html}, about

    @overload
    def to_html(self, path: None = None) -> str: ...
    @overload
    def to_html(self, path: str | os.PathLike[str]) -> None: ...
    def to_html(self, path: str | os.PathLike[str] | None = None) -> str | None:
        """One file for any browser that shows what has come so far, to be stepped through: written to `path`, else its text."""
        self._source.read()
        traces = list(self._source.traces.values())
        html = page_html(traces, str(self._esm), str(self._css))
        if path is None:
            return html
        Path(path).write_text(html, "utf-8")
        return None

    def close(self) -> None:
        """Leave the HTML where it was shown; what it was fed by ends with its last inspector."""
        super().close()
        self._fallback.close()
        if self._source.wake is not None:
            self._source.wake()

    def _live(self) -> bool:
        return any(trace.live for trace in list(self._source.traces.values()))

    def _state(self) -> object:
        return self.mode, [(each.id, each.version) for each in list(self._source.traces.values())]

    # What the feed calls, in its thread

    @property
    def closed(self) -> bool:
        """True when no front end can show it again."""
        return self.comm is None

    def begin(self) -> None:
        """Show what is there already."""
        self._outbox.begin(self._source.traces)

    def flush(self, traces: Mapping[str, Trace], now_s: float) -> bool:
        """Send what is due; True when nothing is left to send."""
        if self._source.closed():
            self.mode = "closed"
        while self._copies:
            self._copy(self._copies.pop(0))
        self._outbox.flush(traces, now_s)
        told = self._fallback.refresh(now_s)
        return told and self._outbox.settled(traces)

    def post(self, message: dict[str, Any]) -> None:
        """Send this to the views that are there now."""
        self.send(message)

    def keep(self, keyframe: str, recording: str) -> None:
        """Have this for views to come, too."""
        with self.hold_sync():
            self.keyframe = keyframe
            self.recording = recording

    # What the browser says, in whichever thread the kernel likes

    def _hear(self, _: object, message: Any, __: object = None) -> None:
        match message:
            case {"k": "want", "id": str(id)}:
                self._outbox.want(id)
            case {"k": "stop", "id": str(id)}:
                self._source.stop(id)
            case {"k": "cassette", "id": str(id)}:
                self._copies.append(id)
            case {"k": "visible", "v": bool(visible)}:
                self.visible = visible
                return
            case _:
                return
        if self._source.wake is not None and not self._source.closed():
            self._source.wake()
            return
        # Nothing else is under way, and no thread: answer at once.
        while not self.flush(self._source.traces, inf):
            pass

    def _copy(self, id: str) -> None:
        try:
            text = dump(self._source.records(id))
        except Exception:
            # The border to somebody's store.
            _logger.exception("the records of %s cannot be copied", id)
            text = ""
        self.post({"k": "cassette", "id": id, "text": text})


def play(records: Iterable[Record]) -> Inspector:
    """Step through recordings, one interception each."""
    rounds: dict[str, list[Record]] = {}
    for record in records:
        rounds.setdefault(record.interception_id, []).append(record)
    # The newest comes first in the list, and here it is the first.
    traces = {id: trace_of_records(each) for id, each in reversed(rounds.items())}
    player = Inspector(Source(traces, lambda id: rounds.get(id, ())), "play", PLAYED_CHARS)
    player.begin()
    return _instead(player)


def live(
    feed: Feed, store: Store, stop: Callable[[str], object], control: Control | None
) -> Inspector:
    """Show what passes a bridge from now on, and what its store has at hand."""
    source = Source(
        feed.traces,
        lambda id: store.records(interception_id=id),
        feed.read,
        feed.wake,
        lambda: feed.closed,
        stop,
        control,
    )
    inspector = Inspector(source, "closed" if feed.closed else "live")
    if feed.closed:
        feed.remember()
        inspector.begin()
    else:
        feed.show(inspector)
    return _instead(inspector)


def _instead(inspector: Inspector) -> Inspector:
    """Take the place of what an earlier run of this cell has made."""
    cell = inspector.made_in
    for other in tuple(_of_cells):
        if cell is not None and cell.reruns(other.made_in):
            other.close()
    _of_cells.add(inspector)
    return inspector
