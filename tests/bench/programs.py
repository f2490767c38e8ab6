"""The programs under measure: compiled when needed, started, loaded, and ended by us alone.

The server under test has one core, the fake provider and the load share another. Everything is
on the loopback interface. A program lives as long as its standard input is open, so none outlives
the run that started it.
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / ".bench"

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]


class BenchError(Exception):
    """A benchmark that cannot be run here, or a measurement that is none."""


@dataclass(frozen=True, slots=True)
class Program:
    """A running server: where it listens, and which process it is."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def cpu_s(self) -> float:
        """CPU time used so far by all its threads."""
        # Linux: the CPU clock of another process is named by its inverted id.
        return time.clock_gettime((~self.process.pid << 3) | 2)

    @property
    def peak_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def compiled(name: str) -> Path:
    """The C program of that name, built anew when its source has changed."""
    if sys.platform != "linux":
        raise BenchError(
            "the network benchmarks need Linux: their load generator is built on epoll"
        )
    sources, program = [HERE / f"{name}.c", HERE / "net.h"], BUILD / name
    if program.exists() and program.stat().st_mtime > max(s.stat().st_mtime for s in sources):
        return program
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise BenchError("the network benchmarks need a C compiler: install gcc, or set CC")
    BUILD.mkdir(exist_ok=True)
    # Whole at once: tests in another process may want the same program.
    made = BUILD / f"{name}.{os.getpid()}"
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(made), str(sources[0])]
    subprocess.run(command, check=True)
    made.replace(program)
    return program


def pin(pid: int, core: int) -> None:
    if len(CORES) > 1:
        os.sched_setaffinity(pid, {core})


@contextlib.contextmanager
def running(name: str, command: Sequence[str], core: int) -> Iterator[Program]:
    """Start a server that prints its port, alone or at the end of its URL, and end it.

    Its standard error goes to `.bench/NAME.log`.
    """
    BUILD.mkdir(exist_ok=True)
    log = BUILD / f"{name}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env=os.environ | {"ANTHROPIC_API_KEY": "sk-bench", "OPENAI_API_KEY": "sk-bench"},
        )
    pin(process.pid, core)
    try:
        line = process.stdout.readline() if process.stdout else b""
        port = line.strip().rpartition(b":")[2]
        if not port.isdigit():
            raise BenchError(f"{name} did not start; {log} ends:\n{tail(log)}")
        yield Program(name, int(port), process)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def tail(log: Path, lines: int = 12) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def fake_provider() -> contextlib.AbstractContextManager[Program]:
    return running("direct", [str(compiled("fakeup"))], LOAD_CORE)


def python_server(
    name: str, module: str, *arguments: str
) -> contextlib.AbstractContextManager[Program]:
    """A server that is `python -m tests.bench.MODULE ARGUMENTS`, on a core of its own."""
    command = [sys.executable, "-m", f"tests.bench.{module}", *arguments]
    return running(name, command, SERVER_CORE)


@dataclass(frozen=True, slots=True)
class Load:
    """What clients ask for, and how many of them ask at once."""

    model: str
    connections: int = 32
    streaming: bool = True
    path: str = "/v1/messages"
    events: int = 0
    """How many events make a reply whole; with any other number the measurement is none."""
    ramp_ms: int = 0

    @property
    def body(self) -> str:
        question = [{"role": "user", "content": "hi"}]
        return json.dumps(
            {"model": self.model, "max_tokens": 64, "stream": self.streaming, "messages": question}
        )


def measure(server: Program, load: Load, seconds: float) -> dict[str, float]:
    """Put one load on a server: loadgen's figures, and the CPU time each reply and event cost.

    A figure without a sample is left out.

    Raises:
        BenchError: a reply failed or was not whole, so this would be no measurement.
    """
    command = [str(compiled("loadgen")), "--port", str(server.port), "--path", load.path]
    command += ["--body", load.body, "--connections", str(load.connections)]
    command += ["--seconds", str(seconds), "--warmup", str(min(0.4, seconds / 2))]
    command += ["--ramp-ms", str(load.ramp_ms)]
    command += ["--expect", str(load.events)]

    used = server.cpu_s
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    pin(process.pid, LOAD_CORE)
    output, _ = process.communicate()
    used = server.cpu_s - used

    printed = json.loads(output)
    if printed["errors"] or not printed["all_requests"] + printed["all_events"]:
        reason = printed["error"] or "no reply came"
        log = BUILD / f"{server.name}.log"
        raise BenchError(
            f"{server.name}, {load}: {printed['errors']} errors, the first: {reason}; {log} ends:\n{tail(log)}"
        )
    figures: dict[str, float] = {k: v for k, v in printed.items() if isinstance(v, int | float)}
    for unit in ("request", "event"):
        if count := printed[f"all_{unit}s"]:
            figures[f"cpu_us_{unit}"] = 1e6 * used / count
    return figures


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    names = set[str].intersection(*(set(r) for r in rounds))
    return {name: statistics.median(r[name] for r in rounds) for name in names}


def interleaved(
    servers: Sequence[Program], loads: dict[str, Load], seconds: float, rounds: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Every server under every load, in turn in each round: figures by server name and load name.

    What disturbs the machine for a while then disturbs all rows alike.
    """
    seen: dict[str, dict[str, list[dict[str, float]]]]
    seen = {s.name: {name: [] for name in loads} for s in servers}
    for _ in range(rounds):
        for name, load in loads.items():
            for server in servers:
                seen[server.name][name].append(measure(server, load, seconds))
    return {s: {name: medians(r) for name, r in by.items()} for s, by in seen.items()}
