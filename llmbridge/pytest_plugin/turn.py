"""One test with its cassette: what it played, missed, recorded and left over."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from llmbridge.errors import BridgeError
from llmbridge.pytest_plugin.options import Wanted

if TYPE_CHECKING:
    from llmbridge.exchange.call import Handler
    from llmbridge.exchange.record import Record
    from llmbridge.pytest_plugin.recording import Recording
    from llmbridge.pytest_plugin.session_bridge import SessionBridge
    from llmbridge.pytest_plugin.watch import Scripts, Watch
    from llmbridge.upstreams.replay import Replay
    from llmbridge.upstreams.script import Script

_QUESTION_CHARS = 80


class Turn:
    """A test's turn at the run's server. Its bridge is made, and loaded, when somebody first asks for it."""

    def __init__(
        self,
        nodeid: str,
        path: Path,
        wanted: Wanted,
        make: "Callable[[Handler], SessionBridge]",
    ) -> None:
        self.nodeid = nodeid
        self.path = path
        self.wanted = wanted
        self.passed = False
        self.scripts: Scripts | None = None
        self.refused: list[str] = []
        self._make = make
        self._lock = RLock()
        self._bridge: SessionBridge | None = None
        self._watch: Watch | None = None
        self._replay: Replay | None = None
        self._recording: Recording | None = None
        self._broken: BridgeError | None = None
        self._told: Counter[str] = Counter()

    @property
    def opened(self) -> bool:
        """True once somebody asked for the bridge."""
        return self._bridge is not None

    @property
    def bridge(self) -> "SessionBridge":
        """The test's bridge, made now if it was not."""
        from llmbridge.pytest_plugin.watch import Watch  # noqa: PLC0415

        with self._lock:
            if self._bridge is None:
                upstream = self._upstream()
                self._watch = Watch(upstream, spends_keys=self.may_spend, strict=self.wanted.strict)
                self._bridge = self._make(self._watch)
            return self._bridge

    @property
    def may_record(self) -> bool:
        """True where calls may be recorded."""
        if self.scripts is not None or self.wanted.mode in ("none", "live", "verify"):
            return False
        return self.wanted.mode != "once" or self._recording is not None or not self.path.exists()

    @property
    def may_spend(self) -> bool:
        """True where calls may reach a provider."""
        return self.scripts is None and (self.may_record or self.wanted.mode in ("live", "verify"))

    def say(self, script: "Script | None" = None) -> None:
        """Answer by script from now on, instead of from recordings."""
        from llmbridge.pytest_plugin.watch import Scripts  # noqa: PLC0415

        with self._lock:
            if self.scripts is None:
                self.scripts = Scripts()
                if self._watch is not None:
                    self._watch.upstream, self._watch.spends_keys = self.scripts, False
            if script is not None:
                self.scripts.add(script)

    @property
    def recordings(self) -> "list[Record]":
        """What the cassette holds for this test to play."""
        _ = self.bridge
        return list(self._replay.store) if self._replay is not None else []

    @property
    def records(self) -> "Sequence[Record]":
        """What was asked and answered so far."""
        return self._bridge.records if self._bridge is not None else ()

    @property
    def played(self) -> "list[Record]":
        """Those of them that came from the cassette."""
        return [record for record in self.records if record.replayed]

    @property
    def misses(self) -> list[str]:
        """What nothing answered, and what was refused."""
        return [*(self._watch.problems if self._watch is not None else ()), *self.refused]

    @property
    def unused(self) -> list[str]:
        """Recordings that were not played and lines that were not said, in words."""
        if self.scripts is not None:
            return [repr(line) for line in self.scripts.left]
        if self.may_record or self._replay is None:
            return []
        return [_named(record) for record in self._replay.unused]

    @property
    def drift(self) -> list[str]:
        """In mode verify: how today's answers differ from the recordings, in words."""
        return [str(each) for each in self._replay.differences] if self._replay is not None else []

    def verdict(self) -> str | None:
        """Why a test that passed so far must not; None when all is well. What was told is not told again."""
        new = Counter(self.misses) - self._told
        self._told.update(new)
        if new and (self.wanted.strict or self.refused):
            return self._about_misses(new)
        return None

    def leftovers(self) -> str | None:
        """What the test should have played, in words."""
        if self.wanted.unused == "ignore" or (self.wanted.mode == "none" and self.misses):
            return None
        if not self.opened and self.scripts is None and self.path.exists():
            _ = self.bridge
        if self._broken is not None:
            return self._broken.message
        if not self.unused:
            return None
        lines = [f"  {each}" for each in self.unused]
        allow = 'or allow it with @pytest.mark.llm_cassette(unused="ignore")'
        if self.scripts is not None:
            return "\n".join(["the fake provider was not asked for:", *lines, f"ask, {allow}"])
        head = f"the cassette {self.path} holds what was not played:"
        return "\n".join([head, *lines, f"record it again with --llm-record=rewrite, {allow}"])

    async def let_go(self) -> None:
        """Close the connections that belong to the loop on which this runs."""
        if self._watch is not None:
            await self._watch.aclose()

    def finish(self) -> Path | None:
        """Close the bridge and settle the recording; where it is, if there is one."""
        if self._bridge is not None:
            self._bridge.close()
        if self._recording is None or self._replay is None:
            return None
        return self._recording.settle(self.passed, self._replay.recorded)

    def _about_misses(self, misses: Counter[str]) -> str:
        count = sum(misses.values())
        times = {message: f" ({n} times)" if n > 1 else "" for message, n in misses.items()}
        lines = [f"{message}{times[message]}" for message in misses]
        if self.scripts is None:
            there = "" if self.path.exists() else " (not there)"
            # What is only added to would keep what nobody asks for any more; what cannot be read cannot be added to.
            stale = self._replay is None or bool(self._replay.unused)
            mode = "once" if there else "rewrite" if stale else "new_episodes"
            lines += [
                f"cassette: {self.path}{there}",
                f"record:   pytest {self.nodeid!r} --llm-record={mode}",
            ]
        calls = "1 LLM call" if count == 1 else f"{count} LLM calls"
        return "\n".join([f"{calls} found no answer:", *lines])

    def _upstream(self) -> "Handler":
        from llmbridge.pytest_plugin.watch import Unanswering  # noqa: PLC0415
        from llmbridge.upstreams.live import Live  # noqa: PLC0415

        if self.scripts is not None:
            return self.scripts
        if self.wanted.mode == "live":
            return Live()
        try:
            self._replay = self._open()
        except BridgeError as error:
            self._broken = error
            self.refused.append(error.message)
            return Unanswering(error)
        return self._replay

    def _open(self) -> "Replay":
        from llmbridge.pytest_plugin.recording import Recording  # noqa: PLC0415
        from llmbridge.upstreams.replay import Replay  # noqa: PLC0415

        wanted = self.wanted
        source: Path | list[Record] = self.path if self.path.exists() else []
        if self.may_record:
            self._recording = Recording(self.path, afresh=wanted.mode == "rewrite")
            source = self._recording.draft
        return Replay(
            source,
            mode=wanted.mode,
            speed=wanted.speed,
            strict=wanted.strict,
            max_age=wanted.max_age,
            **wanted.matching,
        )


def _named(record: "Record") -> str:
    """A recording: its place in the file, as misses say it, and how its question begins."""
    from llmbridge.exchange.entry import asked, prompt_of  # noqa: PLC0415
    from llmbridge.exchange.printable import one_line  # noqa: PLC0415

    if record.request is None:
        return f"{record.interception_id}, {record!r}"
    ask = asked(record)
    spoken = ask is not None and ask.context.messages
    question = prompt_of(record) if spoken else f"{record.request.method} {record.request.url}"
    return f"{record.interception_id}, {one_line(question, _QUESTION_CHARS)!r}: {record!r}"
