"""What a run played, recorded, missed and left over, and what that did not cost; in one line."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmbridge.exchange.record import Record
    from llmbridge.pytest_plugin.turn import Turn

_COUNTS = ("played", "recorded", "scripted", "live", "missed", "unused")


class Tally:
    """Counts of a run, which workers send each other as plain values."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.tokens = 0
        self.cost_usd = 0.0
        self.notes: list[str] = []

    def add(self, turn: "Turn", recording: Path | None) -> None:
        """Count a turn that is over."""
        for record in turn.records:
            self.counts[_kind(turn, record)] += 1
            if record.replayed:
                self._spare(record)
        self.counts["missed"] += len(turn.misses)
        self.counts["unused"] += len(turn.unused)
        if recording is not None:
            self.notes.append(f"{'recorded' if turn.passed else 'set aside'} {recording}")
        if turn.misses:
            self.notes.append(f"missed in {turn.nodeid}: {len(turn.misses)}")

    def plain(self) -> dict[str, Any]:
        """All of it, for another process."""
        return {
            "counts": dict(self.counts),
            "tokens": self.tokens,
            "cost_usd": self.cost_usd,
            "notes": self.notes,
        }

    def take(self, plain: Mapping[str, Any]) -> None:
        """Add what another process counted."""
        self.counts.update(plain["counts"])
        self.tokens += plain["tokens"]
        self.cost_usd += plain["cost_usd"]
        self.notes += plain["notes"]

    def line(self) -> str:
        """All counts that are not zero; empty where there are none."""
        parts = [f"{self.counts[name]:,} {name}" for name in _COUNTS if self.counts[name]]
        if not parts:
            return ""
        if self.tokens:
            cost = f"${self.cost_usd:.4f}" if self.cost_usd < 1 else f"${self.cost_usd:,.2f}"
            parts.append(f"{self.tokens:,} tokens and {cost} not spent")
        return f"llmbridge: {', '.join(parts)}"

    def _spare(self, record: "Record") -> None:
        from llmbridge.exchange.pricing import cost_usd  # noqa: PLC0415

        usage = record.message.usage if record.message is not None else None
        if usage is None:
            return
        self.tokens += usage.total_tokens or 0
        self.cost_usd += cost_usd(record.provider, record.model, usage, record.started_at) or 0


def _kind(turn: "Turn", record: "Record") -> str:
    if record.replayed:
        return "played"
    if turn.scripts is not None:
        return "scripted"
    return "recorded" if turn.may_record else "live"
