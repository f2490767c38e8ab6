"""A notebook that streams through a bridge while a page of JupyterLab watches, and what the page says of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.browser.desk import WAIT_MS, Desk

if TYPE_CHECKING:
    from playwright.sync_api import WebSocket

KEY = "sk-ant-api03-FAKEfakeFAKE0001"
"""The provider's key. No cell spells it out, so it comes to a page only where something leaks."""

SETUP = """
import json, threading, time

import httpx2
from llmbridge import Bridge, Script, Thinking, calls, reply
from llmbridge.canon.events import Snapshot

def words(name, count):
    return " ".join(f"{{name}}{{number}}" for number in range(count))

key = "-".join(["sk", "ant", "api03", "FAKEfakeFAKE0001"])
said = reply(
    Thinking(words("thought", {thoughts})),
    words("word", {words}),
    calls("plan", steps=words("step", {steps}).split(" "), note=words("note", {notes})),
)
provider_bridge = Bridge(Script(said, tps={rate}, ttft=0.3), environ={{}})
provider = provider_bridge.serve()
bridge = Bridge(
    base_urls={{"anthropic": f"{{provider.url}}/anthropic"}}, environ={{"ANTHROPIC_API_KEY": key}}
)
server = bridge.serve()

def ask():
    asked = {{"role": "user", "content": "Count."}}
    with httpx2.stream(
        "POST",
        f"{{server.url}}/anthropic/v1/messages",
        json={{"model": "claude-sonnet-5", "max_tokens": 9999, "stream": True, "messages": [asked]}},
        headers={{"x-api-key": server.token}},
        timeout=60,
    ) as answer:
        for _ in answer.iter_bytes():
            pass

client = threading.Thread(target=ask)
"""
SHOW = "inspector = bridge.live()\ninspector"
START = "client.start()"
BUSY = """
busy_until = time.monotonic() + {busy_s}
while time.monotonic() < busy_until:
    pass
"""
TRUTH = """
client.join()
(record,) = bridge.records
steps = [step for step in record.steps() if step[1] is not None]

def at(count):
    snapshot = Snapshot()
    for _, _, deltas in steps[:count]:
        for delta in deltas:
            snapshot.apply(delta)
    return [
        [type(block).__name__, getattr(block, "arguments", None) or block.text]
        for block in snapshot.message.content
    ]

print(json.dumps({{"events": len(steps), "at": {{count: at(count) for count in {moments}(len(steps))}}}}))
"""

# What a view shows: text as it is, arguments parsed.
_VIEW = """(view) => {
  const part = (name) => view.querySelector(`[data-part=${name}]`);
  const kinds = {text: 'Text', thinking: 'Thinking', tool: 'ToolCall'};
  const panel = part('panel-message').getBoundingClientRect();
  const blocks = [...view.querySelectorAll('[data-block]')].map(block => {
    const text = block.querySelector('[data-part=text]').textContent;
    const tool = block.dataset.kind === 'tool';
    return [kinds[block.dataset.kind], tool ? JSON.parse(text) : text];
  });
  const marks = [...view.querySelectorAll('mark')].filter(mark => mark.textContent);
  const seen = marks.map(mark => mark.getBoundingClientRect())
    .every(box => box.bottom <= panel.bottom + 1 && box.top >= panel.top - 1);
  return {
    status: view.dataset.status, events: +view.dataset.events, shown: +view.dataset.shown,
    blocks, fresh: marks.map(mark => mark.textContent).join(''), seen,
  };
}"""
# Notes when the number of events changes, in the page itself: asking from outside would miss steps.
_WATCH = """() => {
  const view = document.querySelector('.llmb');
  window.steps = [];
  const note = () => {
    const events = +view.dataset.events;
    if (events !== window.steps.at(-1)?.[1]) window.steps.push([performance.now() / 1000, events]);
  };
  new MutationObserver(note).observe(view, {attributes: true, attributeFilter: ['data-events']});
}"""
_SCRUB = """([view, count]) => {
  const slider = view.querySelector('[data-part=slider]');
  slider.value = count;
  slider.dispatchEvent(new Event('input', {bubbles: true}));
}"""


@dataclass(frozen=True, slots=True)
class View:
    """What stands in a view of the inspector. `fresh` is what the last event brought, `seen` that it is in sight."""

    status: str
    events: int
    shown: int
    blocks: list[list[Any]]
    fresh: str
    seen: bool


def cells(
    *,
    words: int,
    thoughts: int = 0,
    steps: int = 0,
    notes: int = 0,
    rate: float = 500,
    busy_s: float = 0,
) -> Sequence[str]:
    """The cells of such a notebook, all but the last, which tells what is true."""
    setup = SETUP.format(words=words, thoughts=thoughts, steps=steps, notes=notes, rate=rate)
    return (setup, SHOW, START, BUSY.format(busy_s=busy_s))


class Counted:
    """Counts the messages about widgets that a page gets and sends, and those of any kind that hold the key."""

    def __init__(self, desk: Desk) -> None:
        self.messages = 0
        self.bytes = 0
        self.leaks = 0
        self.sent = 0
        desk.page.on("websocket", self._socket)

    def _socket(self, socket: "WebSocket") -> None:
        socket.on("framereceived", self._frame)
        socket.on("framesent", self._told)

    def _told(self, payload: str | bytes) -> None:
        data = payload if isinstance(payload, bytes) else payload.encode()
        self.sent += b'"comm_msg"' in data[:2000]

    def _frame(self, payload: str | bytes) -> None:
        data = payload if isinstance(payload, bytes) else payload.encode()
        self.leaks += KEY.encode() in data
        if b'"comm_msg"' in data[:2000]:
            self.messages += 1
            self.bytes += len(data)


def watch(desk: Desk) -> None:
    """Note from now on when events come into sight."""
    desk.page.wait_for_selector(".llmb")
    desk.page.evaluate(_WATCH)


def steps(desk: Desk) -> list[tuple[float, int]]:
    """When how many events were there, since `watch`."""
    return [(when, events) for when, events in desk.page.evaluate("window.steps")]


def now_s(desk: Desk) -> float:
    """The time in `steps`."""
    return float(desk.page.evaluate("performance.now() / 1000"))


def view(desk: Desk, place: int = 0) -> View:
    """What the view at this place shows."""
    return View(**desk.page.locator(".llmb").nth(place).evaluate(_VIEW))


def finished(desk: Desk, place: int = 0) -> View:
    """The same, once the stream is at its end there."""
    found = desk.page.locator(".llmb").nth(place)
    handle = found.element_handle()
    desk.page.wait_for_function(
        "view => view.dataset.status === 'done' && view.dataset.events === view.dataset.shown",
        arg=handle,
        timeout=WAIT_MS,
    )
    return view(desk, place)


def scrub(desk: Desk, count: int, place: int = 0) -> View:
    """What the view shows after this many events."""
    # Of a page behind another a browser may draw nothing, and what is drawn is waited for.
    desk.page.bring_to_front()
    found = desk.page.locator(".llmb").nth(place).element_handle()
    desk.page.evaluate(_SCRUB, [found, count])
    desk.page.wait_for_function(
        "([view, count]) => +view.dataset.shown === count", arg=[found, count], polling=20
    )
    return view(desk, place)


def truth(desk: Desk, place: int) -> dict[str, Any]:
    """What the cell at this place printed: the number of events, and the message after some of them."""
    return dict(json.loads(desk.printed(place)))
