"""What the pytest plugin adds to a run of one test, in a fresh process that loads no other plugin."""

import os
import statistics
import tempfile
from pathlib import Path

from tests.bench.startup import run
from tests.bench.table import Plan, Table

PLUGIN = ("-p", "llmbridge.pytest_plugin")
NOTHING = "def test_it(): ...\n"
CALL = """
import os, urllib.request

def test_it(fake_llm):
    fake_llm("It is noon.")
    head = {"content-type": "application/json"}
    body = b'{"model": "gpt-5-mini", "input": "What time is it?"}'
    url = os.environ["OPENAI_BASE_URL"] + "/responses"
    assert b"noon" in urllib.request.urlopen(urllib.request.Request(url, body, head)).read()
"""
RUNS = {
    "without": (NOTHING, ()),
    "not used": (NOTHING, PLUGIN),
    "covering": (NOTHING, (*PLUGIN, "--llm-record=none")),
    "one call": (CALL, PLUGIN),
}


def plugin(plan: Plan) -> Table:
    """A run of pytest without the plugin, with it, with the SDKs led to it, and with one call answered."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in RUNS}
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(plan.rounds + 1):
            for name, (test, arguments) in RUNS.items():
                Path(folder, "test_it.py").write_text(test)
                words = ("-m", "pytest", "-q", "--no-summary", *arguments, "-p", "no:cacheprovider")
                cost = run(*words, cwd=folder, env=environ, quiet=True)
                seen[name].append(cost)
    figures = {
        # The first run of each also compiles.
        name: {"CPU ms": statistics.median(cpu[1:]), "wall ms": statistics.median(wall[1:])}
        for name, runs in seen.items()
        for cpu, wall in [zip(*runs, strict=True)]
    }
    return Table("A run of pytest", figures, baseline="without")
