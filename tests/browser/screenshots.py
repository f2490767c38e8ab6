"""Pictures of the inspector in JupyterLab: `python -m tests.browser.screenshots` writes those in `docs/images/`."""

import io
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser.chromium import NO_CHROMIUM, Watched, browser, chromium
from tests.browser.desk import Desk
from tests.browser.jupyter import jupyterlab

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"

SETUP = """
import threading
from pathlib import Path

import httpx2
import llmbridge
from llmbridge import Bridge, Replay

replay = Replay(Path(llmbridge.__file__).parent / "demo", speed=SPEED)
bridge = Bridge(replay)
server = bridge.serve()

def ask(record):
    path = record.request.url.partition("://")[2].partition("/")[2]
    headers = dict(record.request.headers.pairs)
    with httpx2.stream(
        "POST", f"{server.url}/{record.provider}/{path}", content=record.request.body, headers=headers
    ) as answer:
        for _ in answer.iter_raw():
            pass

clients = [threading.Thread(target=ask, args=(record,)) for record in replay.store]
"""
LIVE = "bridge.live()"
ASK = """
for number, client in enumerate(clients):
    client.start()
    while len(bridge.interceptions) <= number:
        pass
"""
WAIT = "for client in clients:\n    client.join()"


def take(desk: Desk, to: Path, speed: float = 1) -> None:
    """The inspector while replies stream, in the light theme, and scrubbed back, in the dark one."""
    setup = SETUP.replace("SPEED", str(speed))
    desk.open(desk.write("pictures", setup, LIVE, ASK, WAIT))
    desk.theme("Light")
    for cell in range(3):
        desk.run(cell)
    # The first one asked thinks, speaks and calls a tool.
    option = desk.page.locator("[role=option]", has_text="claude").last
    option.click()
    desk.page.wait_for_function("+document.querySelector('.llmb').dataset.shown >= 30")
    _picture(desk, to / "inspector-light.png")
    desk.run(3)
    desk.theme("Dark")
    option.click()
    desk.page.wait_for_selector(".llmb[data-status=done]")
    for _ in range(6):
        desk.page.click("[data-part=back]")
    _picture(desk, to / "inspector-dark.png")


def _picture(desk: Desk, path: Path) -> None:
    """A PNG of the widget, in few colors."""
    desk.page.mouse.move(0, 0)
    whole = Image.open(io.BytesIO(desk.page.locator(".llmb").screenshot()))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.convert("RGB").quantize(128).save(path, optimize=True)


def main() -> None:
    """Write the pictures of the documentation."""
    path = chromium()
    if path is None:
        raise SystemExit(NO_CHROMIUM)
    with (
        tempfile.TemporaryDirectory() as home,
        jupyterlab(Path(home)) as lab,
        browser(path) as launched,
    ):
        desk = Desk(lab, Watched(launched.new_context(viewport={"width": 1280, "height": 1000})))
        take(desk, IMAGES)
        desk.close()


if __name__ == "__main__":
    main()
