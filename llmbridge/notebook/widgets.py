"""The inspector in a notebook: a widget that shows interceptions while they stream, and steps through them afterwards.

Traits and messages are sent by the thread of the feed alone; what comes from the browser only leaves word there.
Nothing here prints or displays.
"""

# ipywidgets leaves most of its methods without a type.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportUntypedBaseClass=false, reportUnknownArgumentType=false

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.record import Record, Store
from llmbridge.notebook.feed import Feed
from llmbridge.notebook.outbox import Outbox
from llmbridge.notebook.reading import trace_of_records
from llmbridge.notebook.static import static_html
from llmbridge.notebook.trace import Trace
from llmbridge.stores.cassette_write import dump

try:
    import anywidget
    import traitlets
except ModuleNotFoundError as error:  # pragma: no cover
    raise ConfigurationError("the inspector needs anywidget: pip install anywidget") from error

PLAYED_CHARS = 4 * 1024 * 1024
"""How large a recording may be that a player carries with it; of a larger one events come when they are asked for."""

_HERE = Path(__file__).parent
_INDENT = re.compile(r"^\s+", re.MULTILINE)
_COMMENT = re.compile(r"^(?:// |/\*\* ).*\n", re.MULTILINE)


def _packed(name: str) -> str:
    """The file without comments and indents: every widget carries it along."""
    text = (_HERE / name).read_text("utf-8")
    return _COMMENT.sub("", _INDENT.sub("", text))


class Inspector(anywidget.AnyWidget):
    """Interceptions in a notebook; `bridge.live()` and `record.play()` make one."""

    _esm = _packed("live.js")
    _css = _packed("live.css")
    keyframe = traitlets.Unicode("[]").tag(sync=True)
    recording = traitlets.Unicode("[]").tag(sync=True)
    mode = traitlets.Unicode("live").tag(sync=True)

    def __init__(
        self,
        traces: Mapping[str, Trace],
        *,
        mode: str = "live",
        wake: Callable[[], object] | None = None,
        stop: Callable[[str], object] | None = None,
        cassette: Callable[[str], str] | None = None,
        recording_chars: int | None = None,
    ) -> None:
        super().__init__(mode=mode)
        self.visible = True
        self.traces = traces
        self._wake = wake or self._send_all
        self._stop = stop
        self._cassette = cassette
        self._outbox = (
            Outbox(self)
            if recording_chars is None
            else Outbox(self, recording_chars=recording_chars)
        )
        self._copies: list[str] = []
        self.on_msg(self._hear)

    def __repr__(self) -> str:
        live = sum(trace.live for trace in self.traces.values())
        return f"Inspector({len(self.traces):,} interceptions, {live:,} live)"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, about = bundle
        return {**data, "text/plain": repr(self), "text/html": str(static_html(self.traces))}, about

    # What the feed calls, in its thread

    @property
    def closed(self) -> bool:
        """True when no front end can show it again."""
        return self.comm is None

    def begin(self) -> None:
        """Show what is there already."""
        self._outbox.begin(self.traces)

    def flush(self, traces: Mapping[str, Trace], now_s: float) -> bool:
        """Send what is due; True when nothing is left to send."""
        while self._copies:
            self._copy(self._copies.pop(0))
        self._outbox.flush(traces, now_s)
        return self._outbox.settled(traces)

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
            case {"k": "stop", "id": str(id)} if self._stop is not None:
                self._stop(id)
            case {"k": "cassette", "id": str(id)} if self._cassette is not None:
                self._copies.append(id)
            case {"k": "visible", "v": bool(visible)}:
                self.visible = visible
                return
            case _:
                return
        self._wake()

    def _send_all(self) -> None:
        """Answer at once: nothing else is under way in a player."""
        for minute in count(1):
            if self.flush(self.traces, minute * 60.0):
                return

    def _copy(self, id: str) -> None:
        if self._cassette is not None:
            self.post({"k": "cassette", "id": id, "text": self._cassette(id)})


def play(records: Iterable[Record]) -> Inspector:
    """Step through recordings, one interception each."""
    rounds: dict[str, list[Record]] = {}
    for record in records:
        rounds.setdefault(record.interception_id, []).append(record)
    traces = {id: trace_of_records(each) for id, each in rounds.items()}
    player = Inspector(
        traces,
        mode="play",
        cassette=lambda id: dump(rounds[id]) if id in rounds else "",
        recording_chars=PLAYED_CHARS,
    )
    player.begin()
    return player


def live(feed: Feed, store: Store, stop: Callable[[str], object]) -> Inspector:
    """Show what passes a bridge from now on, and what its store has at hand."""
    inspector = Inspector(
        feed.traces,
        wake=feed.wake,
        stop=stop,
        cassette=lambda id: dump(store.records(interception_id=id)),
    )
    feed.show(inspector)
    return inspector
