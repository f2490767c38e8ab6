"""How true a recording is to the live stream: while it is made, and when it is replayed at its pace."""

import json
import statistics
import tempfile
from pathlib import Path

from tests.bench.pace import heard
from tests.bench.programs import Program, python_server
from tests.bench.sessions import chat_events, chat_exchange
from tests.bench.table import Plan, Table

Lateness = list[float]
"""By how many ms each event came later than the provider meant to send it."""

LIVE = "live"
DELTAS = 20
CALLS = 4
FIRST_MS, GAP_MS = 20, 50
"""Slow enough that no two events share a packet."""


def fidelity(plan: Plan) -> Table:
    """Arrival of each event: from a provider, through a bridge that records it, and from what that recorded."""
    events = [event.decode() for event in chat_events(DELTAS)]
    pieces = [[FIRST_MS + GAP_MS * place, event] for place, event in enumerate(events)]
    asked = chat_exchange(0, DELTAS).request
    runs: dict[str, list[dict[str, float]]] = {LIVE: [], "while recording": [], "replayed": []}
    with tempfile.TemporaryDirectory() as folder:
        schedule = Path(folder) / "schedule.json"
        schedule.write_text(json.dumps({"request": asked, "pieces": pieces}))
        for turn in range(plan.rounds):
            seen = one_round(schedule, Path(folder) / f"{turn}.yaml")
            for name, (first, *later) in seen.items():
                cold = {"first event of a process, ms": FIRST_MS + first[0]}
                runs[name] += [
                    measured(*pair) | cold for pair in zip(later, seen[LIVE][1:], strict=True)
                ]
    figures = {
        name: {measure: statistics.median(run[measure] for run in by) for measure in by[0]}
        for name, by in runs.items()
    }
    note = (
        f"{len(events)} events, {GAP_MS} ms apart, the same bytes each time;"
        " aims: first event within 30 ms of live, p95 under 5 ms"
    )
    return Table("Fidelity", figures, baseline=LIVE, note=note)


def one_round(schedule: Path, cassette: Path) -> dict[str, list[Lateness]]:
    """Some calls of each, one after the other."""

    def calls(server: Program) -> list[Lateness]:
        return [heard(server, schedule, 1)["late_ms"] for _ in range(CALLS)]

    with python_server(LIVE, "punctual", str(schedule)) as provider:
        live = calls(provider)
        url = f"http://127.0.0.1:{provider.port}"
        with python_server("recording", "served", "record", str(cassette), url) as bridge:
            recorded = calls(bridge)
    with python_server("replaying", "served", "pace", str(cassette)) as bridge:
        return {LIVE: live, "while recording": recorded, "replayed": calls(bridge)}


def measured(late_ms: Lateness, live_ms: Lateness) -> dict[str, float]:
    """When the first event came, and how far the others are from where the live ones were, counted from the first."""
    off = sorted(
        abs((mine - late_ms[0]) - (its - live_ms[0]))
        for mine, its in zip(late_ms, live_ms, strict=True)
    )
    return {
        "first event, ms": FIRST_MS + late_ms[0],
        "off by, p50 ms": statistics.median(off),
        "off by, p95 ms": statistics.quantiles(off, n=20)[18],
        "off by, max ms": off[-1],
    }
