"""What `import llmbridge` costs in a process that has imported nothing yet."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping

from tests.bench.table import Plan, Table

PROGRAMS = {
    "nothing": "pass",
    "llmbridge": "import llmbridge",
    "httpx2": "import httpx2",
}


def startup(plan: Plan) -> Table:
    """A fresh process that imports one package and ends."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
    for _ in range(3 * plan.rounds):
        for name, code in PROGRAMS.items():
            seen[name].append(run("-c", code))
    figures = {
        name: {"CPU ms": statistics.median(cpu), "wall ms": statistics.median(wall)}
        for name, runs in seen.items()
        for cpu, wall in [zip(*runs, strict=True)]
    }
    return Table("Start of a process", figures, baseline="nothing")


def run(
    *arguments: str,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> tuple[float, float]:
    """CPU and wall time of a fresh Python process, in ms."""
    output = subprocess.DEVNULL if quiet else None
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=cwd, env=env, stdout=output)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{arguments!r} ended with {process.returncode}")
    return 1e3 * (used.ru_utime + used.ru_stime), 1e3 * wall
