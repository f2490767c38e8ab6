"""A front end without a browser: it takes messages and keyframes as live.js does, and folds them in its own way."""

import json
from dataclasses import dataclass, field
from typing import Any

from llmbridge.notebook.trace import Trace


@dataclass
class Page:
    """What one view knows. `deaf` misses the messages, as a page does that is not loaded yet."""

    visible: bool = True
    deaf: bool = False
    now_s: float = 0.0
    sent_s: list[float] = field(default_factory=list)
    posted: list[dict[str, Any]] = field(default_factory=list)
    keyframe: list[dict[str, Any]] = field(default_factory=list)
    recording: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, list[Any]] = field(default_factory=dict)
    base: dict[str, int] = field(default_factory=dict)
    said: dict[str, list[str]] = field(default_factory=dict)
    everything: str = ""

    def post(self, message: dict[str, Any]) -> None:
        self.sent_s.append(self.now_s)
        self.posted.append(message)
        self.everything += message["j"]
        if self.deaf:
            return
        for id, place, rows, _, _ in json.loads(message["j"]) if message["k"] == "events" else ():
            self.extend(id, place, rows)

    def keep(self, keyframe: str, recording: str) -> None:
        self.sent_s.append(self.now_s)
        self.everything += keyframe + recording
        self.keyframe, self.recording = json.loads(keyframe), json.loads(recording)
        for told in self.keyframe:
            if told["n"] > self.count(told["id"]):
                if "rows" in told:
                    self.begin(told["id"], 0, [])
                    self.extend(told["id"], 0, told["rows"])
                elif "blocks" in told:
                    self.begin(told["id"], told["n"], [text for _, text, _ in told["blocks"]])
        for whole in self.recording:
            if whole["n"] > self.count(whole["id"]):
                self.begin(whole["id"], 0, [])
                self.extend(whole["id"], 0, whole["rows"])

    def begin(self, id: str, base: int, said: list[str]) -> None:
        self.base[id], self.rows[id], self.said[id] = base, [], said

    def count(self, id: str) -> int:
        return self.base.get(id, 0) + len(self.rows.get(id, ()))

    def extend(self, id: str, place: int, rows: list[Any]) -> None:
        if id not in self.rows:
            self.begin(id, 0, [])
        if place > self.count(id):
            return
        for row in rows[self.count(id) - place :]:
            self.rows[id].append(row)
            for step in row[4]:
                if step[0] == "b":
                    self.said[id].append("")
                elif step[0] == "d":
                    self.said[id][step[1]] += step[2]

    def text(self, id: str) -> str:
        return "".join(self.said.get(id, ()))


def busiest_second(seconds: list[float]) -> int:
    """How many of these moments fall into one second, at most."""
    return max(sum(1 for each in seconds if at <= each < at + 1.0) for at in seconds)


def text_of(trace: Trace) -> str:
    return "".join(block.text for block in trace.blocks)
