"""What the inspector costs a notebook: 500 deltas a second through a real server, with it and without."""

import json
import tempfile
from pathlib import Path

from tests.bench.programs import BenchError
from tests.bench.table import Plan, Table
from tests.browser import streaming
from tests.browser.chromium import NO_CHROMIUM, Watched, browser, chromium
from tests.browser.desk import Desk
from tests.browser.jupyter import jupyterlab
from tests.browser.streaming import Counted

RATE = 500
STREAM = """
began, cpu = time.monotonic(), time.process_time()
ask()
print(json.dumps([time.monotonic() - began, time.process_time() - cpu]))
"""
_COUNT = """() => {
  window.frames_seen = [];
  const frame = (now) => { window.frames_seen.push(now); window.counting = requestAnimationFrame(frame); };
  frame(performance.now());
}"""
_COUNTED = """() => {
  cancelAnimationFrame(window.counting);
  const gaps = window.frames_seen.slice(1).map((now, place) => now - window.frames_seen[place]).sort((a, b) => a - b);
  return [gaps.length, gaps[Math.floor(gaps.length * 0.95)]];
}"""


def inspector(plan: Plan) -> Table:
    """One stream for each, in one JupyterLab; client, provider and bridge share the kernel's process."""
    path = chromium()
    if path is None:
        raise BenchError(NO_CHROMIUM)
    words = int(RATE * max(2.0, 10 * plan.seconds))
    setup, show = streaming.cells(words=words, rate=RATE)[:2]
    with (
        tempfile.TemporaryDirectory() as home,
        jupyterlab(Path(home)) as lab,
        browser(path) as launched,
    ):
        figures: dict[str, dict[str, float]] = {}
        for name, cell in {"without": "None", "inspector": show}.items():
            desk = Desk(lab, Watched(launched.new_context(viewport={"width": 1200, "height": 900})))
            figures[name] = _measured(desk, name, setup, cell)
            desk.close()
    return Table(
        f"{RATE} deltas a second in JupyterLab",
        figures,
        baseline="without",
        note="kernel CPU holds the client, the fake provider and the bridge, too",
    )


def _measured(desk: Desk, name: str, *cells: str) -> dict[str, float]:
    counted = Counted(desk)
    desk.open(desk.write(name, *cells, STREAM))
    desk.run(0)
    desk.run(1)
    before, bytes_before = counted.messages, counted.bytes
    desk.page.evaluate(_COUNT)
    desk.run(2)
    frames, slow_ms = desk.page.evaluate(_COUNTED)
    seconds, cpu_s = json.loads(desk.printed(2))
    return {
        "kernel CPU, % of a core": 100 * cpu_s / seconds,
        "messages a second": (counted.messages - before) / seconds,
        "kB a second": (counted.bytes - bytes_before) / seconds / 1000,
        "frames a second": frames / seconds,
        "95% of frames within, ms": slow_ms,
    }
