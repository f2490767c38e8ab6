"""CPU time of functions, measured in turns so that a busy neighbour disturbs all alike."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping

from tests.bench.table import Plan

Work = Callable[[], object]


def turn(work: Work, seconds: float) -> float:
    """CPU seconds of one call, over as many calls as take that long."""
    gc.collect()
    calls, used, began = 0, 0.0, time.process_time()
    while used < seconds or not calls:
        work()
        calls += 1
        used = time.process_time() - began
    return used / calls


def cpu_s(works: Mapping[str, Work], plan: Plan) -> dict[str, float]:
    """The median of each function's turns: CPU seconds a call."""
    turns: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(plan.rounds):
        for name, work in works.items():
            turns[name].append(turn(work, plan.turn_s))
    return {name: statistics.median(seen) for name, seen in turns.items()}


class Costs:
    """CPU us of a unit of work: `figures[subject][measure]`, filled one measure at a time."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.figures: dict[str, dict[str, float]] = {}

    def measure(self, name: str, units: float, works: Mapping[str, Work]) -> None:
        """Time every subject's way to do the same `units` of work."""
        for subject, seconds in cpu_s(works, self.plan).items():
            self.figures.setdefault(subject, {})[name] = 1e6 * seconds / units
