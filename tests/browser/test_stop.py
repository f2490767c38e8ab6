"""The Stop button of the inspector, and what it does to the upstream."""

import pytest

from tests.browser import streaming
from tests.browser.desk import Desk

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(300)]

# Far more than anybody waits for.
CELLS = streaming.cells(words=50_000, rate=50)[:2]
ASK = "client = threading.Thread(target=ask)\nclient.start()"
ENDED = """
client.join(60)
(asked,), (got,) = provider_bridge.interceptions[-1:], bridge.interceptions[-1:]
print(asked.end, got.end, bool(bridge.records[-1].message.text), len(bridge.inflight))
"""
BUSY = """
until = time.monotonic() + 60
while bridge.inflight and time.monotonic() < until:
    pass
print("stopped" if time.monotonic() < until else "too late")
"""


def test_stop_ends_the_upstream_and_keeps_what_came(desk: Desk) -> None:
    desk.open(desk.write("stop", *CELLS, ASK, ENDED))
    for cell in range(3):
        desk.run(cell)
    desk.page.wait_for_selector(".llmb[data-status=live] [data-block]")

    desk.page.click("[data-part=stop]")
    desk.page.wait_for_selector(".llmb[data-status=stopped]")
    desk.run(3)

    assert desk.printed(3) == "client_gone interrupted True 0\n"


def test_stop_reaches_a_kernel_that_runs_a_cell(desk: Desk) -> None:
    desk.open(desk.write("busy", *CELLS, ASK, BUSY))
    for cell in range(3):
        desk.run(cell)
    desk.page.wait_for_selector(".llmb[data-status=live] [data-block]")

    desk.start(3)
    desk.page.click("[data-part=stop]")
    desk.wait()

    assert desk.printed(3) == "stopped\n"
