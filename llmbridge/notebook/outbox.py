"""What is sent to a front end, and when: batches of events as they come, and now and then how everything stands.

A front end may miss any batch: it may come late, be reloaded, or have started before its script did. So batches carry
absolute places, and a keyframe says from time to time how things stand: nobody has to ask, which a busy kernel could not
answer. Together they are at most 22 messages a second, and a front end that nobody looks at gets fewer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from llmbridge.notebook.trace import Row, Trace, rows_json_size, to_json

BATCH_S = 0.06
HIDDEN_BATCH_S = 0.5
KEYFRAME_S = 1.0
SOON_S = 0.5
"""A block or an interception that ends brings a keyframe sooner, but not sooner than this."""

CHARS_PER_S = 256 * 1024
"""Keyframes of long texts come so much more seldom."""

THIN_ROWS = 2_500
"""So many events go into a keyframe one by one, and can be stepped through at once."""

BATCH_CHARS = 4 * 1024 * 1024
ABOUT_CHARS = 32 * 1024
HISTORY_CHARS = 1024 * 1024
RECORDING_CHARS = 256 * 1024


class Front(Protocol):
    """One widget, in however many views."""

    visible: bool

    def post(self, message: dict[str, Any]) -> None:
        """Send this to the views that are there now."""
        ...

    def keep(self, keyframe: str, recording: str) -> None:
        """Have this for views to come, too."""
        ...


class Door(Protocol):
    """Where a page may ask for a stop."""

    url: str


class Outbox:
    """Keeps count of what one front end was sent."""

    def __init__(
        self, front: Front, control: Door | None = None, recording_chars: int = RECORDING_CHARS
    ) -> None:
        self._front = front
        self._control = control
        self._recording_chars = recording_chars
        self._sent: dict[str, tuple[int, int]] = {}
        self._wanted: dict[str, int] = {}
        self._next_batch_s = self._kept_s = float("-inf")
        self._pause_s = KEYFRAME_S
        self._kept: tuple[int, tuple[tuple[str, int], ...]] | None = None
        self._ended: dict[str, int] = {}
        self._recorded: set[str] = set()
        self._recording = "[]"

    def want(self, id: str) -> None:
        """This front end lacks events of this interception."""
        self._wanted[id] = 0

    def begin(self, traces: Mapping[str, Trace]) -> None:
        """Put what is there already into a keyframe, where nobody can have missed it."""
        self._sent = {trace.id: (len(trace.rows), trace.version) for trace in traces.values()}
        self._keep(traces, float("-inf"))

    def flush(self, traces: Mapping[str, Trace], now_s: float) -> None:
        """Send what is due at this second."""
        if now_s >= self._next_batch_s and self._post(traces):
            self._next_batch_s = now_s + (BATCH_S if self._front.visible else HIDDEN_BATCH_S)
        self._keep(traces, now_s)

    def settled(self, traces: Mapping[str, Trace]) -> bool:
        """True when there is nothing left to send."""
        return not self._wanted and _state(traces) == self._kept

    def _post(self, traces: Mapping[str, Trace]) -> bool:
        batch: list[Any] = []
        left = BATCH_CHARS
        for trace in traces.values():
            place, version = self._sent.get(trace.id, (0, -1))
            if len(trace.rows) == place and trace.version == version:
                continue
            version, rows = trace.version, trace.rows[place:]
            end = place + len(rows)
            size = rows_json_size(rows)
            if size > left:
                # The keyframe will do.
                rows = []
            left -= size
            batch.append([trace.id, place, rows, trace.summary(), _about(trace, place)])
            self._sent[trace.id] = (end, version)
        if batch:
            self._front.post(
                {
                    "k": "events",
                    "j": to_json(batch),
                    "control": self._control.url if self._control else "",
                }
            )
            return True
        return self._post_history(traces)

    def _post_history(self, traces: Mapping[str, Trace]) -> bool:
        for id, place in tuple(self._wanted.items()):
            trace = traces.get(id)
            if trace is None:
                del self._wanted[id]
                continue
            part = _part(trace.rows[place:])
            told: dict[str, Any] = {"id": id, "from": place, "rows": part, "n": len(trace.rows)}
            if not place:
                told.update(request=trace.asked, response=trace.answered)
            self._front.post({"k": "history", "j": to_json(told)})
            self._wanted[id] = place + len(part)
            if self._wanted[id] >= len(trace.rows):
                del self._wanted[id]
            return True
        return False

    def _keep(self, traces: Mapping[str, Trace], now_s: float) -> None:
        state = _state(traces)
        if state == self._kept:
            return
        ended = self._kept is None or state[1] != self._kept[1]
        pause_s = SOON_S if ended and self._pause_s == KEYFRAME_S else self._pause_s
        if now_s < self._kept_s + pause_s:
            return
        self._kept, self._kept_s = state, now_s
        self._sent = {id: sent for id, sent in self._sent.items() if id in traces}
        self._record(traces)
        keyframe = to_json(self._keyframe(traces))
        self._pause_s = max(KEYFRAME_S, len(keyframe) / CHARS_PER_S)
        self._front.keep(keyframe, self._recording)

    def _keyframe(self, traces: Mapping[str, Trace]) -> list[dict[str, Any]]:
        """The list of interceptions, newest first, with what was said so far where the recording does not tell."""
        newest, left = list(traces.values())[::-1], self._recording_chars
        told: list[dict[str, Any]] = []
        for trace in newest:
            if trace.id not in self._recorded and (trace.live or left > 0):
                size = sum(len(block.text) for block in trace.blocks)
                few = len(trace.rows) < THIN_ROWS and size < left
                told.append(trace.thin() if few else trace.so_far())
                left -= size
            else:
                told.append(trace.summary())
        return told

    def _record(self, traces: Mapping[str, Trace]) -> None:
        """Put the newest that have ended into the recording, as far as there is room."""
        ended = {trace.id: trace.version for trace in traces.values() if not trace.live}
        if ended == self._ended:
            return
        self._ended, self._recorded, left = ended, set(), self._recording_chars
        parts: list[str] = []
        for id in reversed(ended):
            if traces[id].bytes <= left and len(whole := to_json(traces[id].whole())) <= left:
                parts.append(whole)
                self._recorded.add(id)
                left -= len(whole)
        self._recording = f"[{','.join(parts)}]"


def _state(traces: Mapping[str, Trace]) -> tuple[int, tuple[tuple[str, int], ...]]:
    """How many events there are, and what else has changed."""
    every = traces.values()
    return sum(len(trace.rows) for trace in every), tuple((each.id, each.version) for each in every)


def _about(trace: Trace, place: int) -> dict[str, Any]:
    """Request and answer, with the first events; a long request only when it is looked at."""
    told: dict[str, Any] = {}
    if place < 2:
        if trace.asked is not None and len(trace.asked["body"]) < ABOUT_CHARS:
            told["request"] = trace.asked
        if trace.answered is not None:
            told["response"] = trace.answered
    return told


def _part(rows: Sequence[Row]) -> list[Row]:
    """The first of these rows, as many as go into one message."""
    left, part = HISTORY_CHARS, list[Row]()
    for row in rows:
        left -= rows_json_size([row])
        if part and left < 0:
            break
        part.append(row)
    return part
