"""The command line of the benchmarks: run them, show their tables."""

import importlib
import json
import platform
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.bench.programs import BenchError
from tests.bench.table import Plan, Table

# Where each benchmark lives: a function that takes a Plan and gives a Table, imported when it runs.
BENCHMARKS = {
    "relay": "relay",
    "wires": "relay",
    "replay": "replay",
    "inprocess": "inprocess",
    "pace": "pace",
    "fidelity": "fidelity",
    "sse": "wire",
    "decode": "wire",
    "snapshot": "canon",
    "arguments": "canon",
    "cassette": "cassette",
    "startup": "startup",
    "functions": "functions",
    "plugin": "plugin",
    "tools": "tools",
    "inspector": "inspector",
    "recording": "stores",
    "stores": "stores",
    "soaks": "stores",
    "kills": "stores",
    "analysis": "analysis",
    "exporting": "analysis",
}

NAMES = ", ".join(BENCHMARKS)


def main(
    only: Annotated[
        str | None, typer.Option(metavar="NAME,...", help=f"Run these alone: {NAMES}.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of one network measurement.")] = 0.8,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; the median is shown.")] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="One short round: a look, not a result.")
    ] = False,
    to: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file too.")
    ] = None,
) -> None:
    """Measure llmbridge, always beside a baseline of the same run.

    Trust CPU time and ratios first: other work on the machine moves rates and latencies, but moves
    all rows of a table alike. The network benchmarks put the server under test on one core, the
    fake provider and the load on another; nothing leaves the loopback interface.
    """
    console = Console()
    plan = Plan(seconds=0.3, rounds=1) if quick else Plan(seconds, rounds)
    chosen = only.split(",") if only else list(BENCHMARKS)
    if unknown := set(chosen) - set(BENCHMARKS):
        raise typer.BadParameter(f"no benchmark is called {unknown.pop()!r}; there are {NAMES}")
    tables = {}
    for name in chosen:
        began = time.monotonic()
        module = importlib.import_module(f"tests.bench.{BENCHMARKS[name]}")
        try:
            tables[name] = getattr(module, name)(plan)
        except BenchError as problem:
            console.print(f"{name}: {problem}\n", style="red", markup=False)
            continue
        console.print(tables[name].rendered())
        console.print(f"{name}: {time.monotonic() - began:.0f} s\n", style="dim")
    if to is not None:
        to.write_text(json.dumps(as_json(plan, tables), indent=1) + "\n")
    if len(tables) < len(chosen):
        raise typer.Exit(1)


def as_json(plan: Plan, tables: dict[str, Table]) -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "seconds": plan.seconds,
        "rounds": plan.rounds,
        "tables": {name: table.as_json() for name, table in tables.items()},
    }


if __name__ == "__main__":
    typer.run(main)
