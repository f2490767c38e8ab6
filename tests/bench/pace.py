"""How exactly a recording is replayed at its recorded pace, one stream and many."""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench.programs import LOAD_CORE, ROOT, BenchError, Program, pin, python_server
from tests.bench.sessions import chat_events, chat_exchange, write_cassette
from tests.bench.table import Plan, Table

REFERENCE = "asyncio, absolute deadlines"
STREAMS = (1, 32, 200)
DELTAS = 50
HEAD_MS, FIRST_MS, GAP_MS = 40, 50, 10


def pace(plan: Plan) -> Table:
    """Lateness of each event at speed=1, beside a server that only waits and writes."""
    events = list(chat_events(DELTAS))
    due_ms = [FIRST_MS + GAP_MS * place for place in range(len(events))]
    exchange = replace(chat_exchange(0, DELTAS), noted=timing(events, due_ms))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = write_cassette(Path(folder) / "session.yaml", [exchange])
        schedule = Path(folder) / "schedule.json"
        pieces = list(zip(due_ms, (event.decode() for event in events), strict=True))
        schedule.write_text(json.dumps({"request": exchange.request, "pieces": pieces}))
        servers = [
            stack.enter_context(python_server(REFERENCE, "punctual", str(schedule))),
            stack.enter_context(python_server("llmbridge", "served", "pace", str(path))),
        ]
        seen: dict[str, dict[int, list[dict[str, float]]]]
        seen = {server.name: {count: [] for count in STREAMS} for server in servers}
        for _ in range(plan.rounds):
            for count in STREAMS:
                for server in servers:
                    seen[server.name][count].append(lateness(server, schedule, count))
    figures = {
        name: {
            f"{count:,} at once: {measure}": statistics.median(run[measure] for run in runs)
            for count, runs in by.items()
            for measure in runs[0]
        }
        for name, by in seen.items()
    }
    note = f"{len(events)} events, {FIRST_MS} ms to the first, then {GAP_MS} ms each; joined: sent with the one before; aims: p95 under 5 ms at 32, 15 ms at 200"
    return Table("Lateness at speed=1", figures, baseline=REFERENCE, note=note)


def timing(events: list[bytes], due_ms: list[int]) -> dict[str, object]:
    """What a recorder would have noted beside the answer."""
    waits = [later - earlier for earlier, later in pairwise([HEAD_MS, *due_ms])]
    chunks = " ".join(f"{wait}:{len(event)}" for wait, event in zip(waits, events, strict=True))
    return {"v": 1, "head_ms": HEAD_MS, "chunks": chunks}


def lateness(server: Program, schedule: Path, count: int) -> dict[str, float]:
    """Ask once, `count` streams at a time: quantiles in ms, and the server's CPU time of an event.

    Raises:
        BenchError: an answer was not the recorded one.
    """
    used = server.cpu_s
    came = heard(server, schedule, count)
    used = server.cpu_s - used
    late_ms: list[float] = sorted(came["late_ms"])
    quantiles = statistics.quantiles(late_ms, n=20)
    return {
        "p50 ms": quantiles[9],
        "p95 ms": quantiles[18],
        "max ms": late_ms[-1],
        "joined %": 100 * came["joined"] / len(late_ms),
        "CPU us/event": 1e6 * used / len(late_ms),
    }


def heard(server: Program, schedule: Path, count: int) -> Any:
    """What `count` clients at once, in a process of their own, heard of this schedule.

    Raises:
        BenchError: an answer has other bytes.
    """
    command = [sys.executable, "-m", "tests.bench.punctuality", str(server.port), str(schedule)]
    process = subprocess.Popen(
        [*command, str(count)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    pin(process.pid, LOAD_CORE)
    output, problem = process.communicate()
    if process.returncode:
        reason = problem.decode().strip().rpartition("\n")[2]
        raise BenchError(f"{server.name}, {count} streams: {reason}")
    return json.loads(output)
