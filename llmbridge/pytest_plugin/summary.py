"""What a run played, recorded, missed and left over, and what that did not cost; in one line."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmbridge.exchange.record import Record
    from llmbridge.pytest_plugin.orphans import Orphans
    from llmbridge.pytest_plugin.turn import Turn

_COUNTS = ("played", "verified", "recorded", "scripted", "live", "missed", "unused")


class Tally:
    """Counts of a run, which workers send each other as plain values."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.tokens = 0
        self.cost_usd = 0.0
        self.unpriced = 0
        self.notes: list[str] = []
        self.looked = self.partly = False
        self.candidates: set[str] = set()
        self.opened: set[str] = set()

    def add(self, turn: "Turn", recording: Path | None) -> None:
        """Count a turn that is over."""
        for record in turn.records:
            kind = _kind(turn, record)
            self.counts[kind] += 1
            if kind == "played":
                self._spare(record)
        self.counts["missed"] += len(turn.misses)
        self.counts["unused"] += len(turn.unused)
        if recording is not None:
            self.notes.append(f"{'recorded' if turn.passed else 'set aside'} {recording}")
        if turn.misses:
            self.notes.append(f"missed in {turn.nodeid}: {len(turn.misses)}")

    def look(self, orphans: "Orphans") -> None:
        """Take what was found of cassettes that are nobody's."""
        self.looked, self.partly = True, self.partly or orphans.partly
        self.candidates |= orphans.candidates
        self.opened |= orphans.opened

    def plain(self) -> dict[str, Any]:
        """All of it, for another process."""
        return {
            "counts": dict(self.counts),
            "tokens": self.tokens,
            "cost_usd": self.cost_usd,
            "unpriced": self.unpriced,
            "notes": self.notes,
            "looked": self.looked,
            "partly": self.partly,
            "candidates": sorted(self.candidates),
            "opened": sorted(self.opened & self.candidates),
        }

    def take(self, plain: Mapping[str, Any]) -> None:
        """Add what another process counted."""
        self.counts.update(plain["counts"])
        self.tokens += plain["tokens"]
        self.cost_usd += plain["cost_usd"]
        self.unpriced += plain["unpriced"]
        self.notes += plain["notes"]
        self.looked, self.partly = self.looked or plain["looked"], self.partly or plain["partly"]
        self.candidates.update(plain["candidates"])
        self.opened.update(plain["opened"])

    def orphans(self, here: Path) -> Iterator[str]:
        """A line for each cassette that no test has, its path from `here` on."""
        if not self.looked:
            return
        if self.partly:
            yield "llmbridge: no orphans are told, since not all tests ran: run the whole suite"
            return
        found = sorted(self.candidates - self.opened)
        yield f"llmbridge: {len(found)} cassettes that no test has{':' if found else ''}"
        for path in map(Path, found):
            yield f"  {path.relative_to(here) if path.is_relative_to(here) else path}"

    def line(self) -> str:
        """All counts that are not zero; empty where there are none."""
        parts = [f"{self.counts[name]:,} {name}" for name in _COUNTS if self.counts[name]]
        if not parts:
            return ""
        if self.tokens:
            parts.append(f"{self.tokens:,} tokens{self._money()} not spent")
        return f"llmbridge: {', '.join(parts)}"

    def _money(self) -> str:
        cost = f"${self.cost_usd:.4f}" if self.cost_usd < 1 else f"${self.cost_usd:,.2f}"
        if cost == "$0.0000":
            return "" if self.unpriced else " and less than $0.0001"
        return f" and {'at least ' if self.unpriced else ''}{cost}"

    def _spare(self, record: "Record") -> None:
        from llmbridge.exchange.rows import cost_of  # noqa: PLC0415

        message = record.message
        tokens = message.usage.total_tokens if message is not None and message.usage else None
        if message is None or not tokens:
            return
        self.tokens += tokens
        cost = cost_of(record, message)
        self.cost_usd += cost or 0
        self.unpriced += cost is None


def _kind(turn: "Turn", record: "Record") -> str:
    if record.replayed:
        # To verify is to ask as well: nothing was saved.
        return "verified" if turn.wanted.mode == "verify" else "played"
    if turn.scripts is not None:
        return "scripted"
    return "recorded" if turn.may_record else "live"
