"""What a benchmark gives back: figures of each subject, beside a baseline of the same run."""

from collections.abc import Mapping
from dataclasses import dataclass

import rich.table


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run may take."""

    seconds: float
    """The length of one network measurement."""
    rounds: int

    @property
    def turn_s(self) -> float:
        """The length of one turn of a function that is timed in a loop."""
        return self.seconds / 8


@dataclass(frozen=True, slots=True)
class Table:
    """`figures[subject][measure]`; every figure is also shown as a multiple of the baseline's."""

    title: str
    figures: Mapping[str, Mapping[str, float]]
    baseline: str
    note: str = ""

    @property
    def measures(self) -> list[str]:
        return list(dict.fromkeys(m for by in self.figures.values() for m in by))

    def ratio(self, subject: str, measure: str) -> float | None:
        value = self.figures[subject].get(measure)
        base = self.figures[self.baseline].get(measure)
        return None if subject == self.baseline or value is None or not base else value / base

    def rendered(self) -> rich.table.Table:
        table = rich.table.Table(caption=self.note, caption_justify="left")
        table.add_column(self.title)
        for subject in self.figures:
            table.add_column(subject, justify="right")
        for measure in self.measures:
            table.add_row(measure, *(self._cell(s, measure) for s in self.figures))
        return table

    def _cell(self, subject: str, measure: str) -> str:
        ratio = self.ratio(subject, measure)
        multiple = (
            "" if ratio is None else f" ({ratio:.2g}x)" if ratio < 100 else f" ({ratio:.0f}x)"
        )
        return shown(self.figures[subject].get(measure)) + multiple

    def as_json(self) -> dict[str, object]:
        ratios = {s: {m: self.ratio(s, m) for m in by} for s, by in self.figures.items()}
        return {"figures": self.figures, "baseline": self.baseline, "ratios": ratios}


def shown(value: float | None) -> str:
    """A figure in three places or so: 12,345, 123, 12.3, 1.23, 0.123."""
    if value is None:
        return "-"
    size = abs(value)
    places = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or not size else 3
    return f"{value:,.{places}f}"
