"""A bare page that shows an inspector: live.js as a widget has it, over a model that a test feeds."""

from typing import TYPE_CHECKING, Any

from llmbridge.notebook.widgets import Inspector
from tests.browser.chromium import Watched

if TYPE_CHECKING:
    from playwright.sync_api import Page

# What anywidget gives a script, and a count of what it sends.
_MODEL = """
const listeners = {};
window.sent = [];
window.state = {keyframe: '[]', recording: '[]', mode: 'live'};
window.model = {
  get: name => state[name],
  set: (name, value) => { state[name] = value; (listeners['change:' + name] ?? []).forEach(run => run()); },
  save_changes: () => {},
  on: (name, run) => { (listeners[name] ??= []).push(run); },
  off: (name, run) => { listeners[name] = (listeners[name] ?? []).filter(other => other !== run); },
  send: message => { if (message.k !== 'visible') sent.push(message); },
};
window.tell = message => (listeners['msg:custom'] ?? []).forEach(run => run(message));
window.load = async (script, state) => {
  Object.assign(window.state, state);
  const url = URL.createObjectURL(new Blob([script], {type: 'text/javascript'}));
  window.inspector = await import(url);
  window.widget = await window.inspector.default();
  await window.widget.initialize({model});
};
window.view = async () => {
  const el = document.body.appendChild(document.createElement('div'));
  return await window.widget.render({model, el});
};
window.painted = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
"""


class Bare:
    """The page, and the kernel's side of its model: an `Outbox` can post into it."""

    def __init__(self, watched: Watched, **state: Any) -> None:
        self.visible = True
        self.page: Page = watched.page()
        # Narrow enough for one panel at a time.
        self.page.set_viewport_size({"width": 1000, "height": 800})
        self.page.set_content("<!doctype html><body></body>")
        self.page.add_style_tag(content=str(Inspector._css))
        self.page.add_script_tag(content=_MODEL)
        self.page.evaluate("([script, state]) => load(script, state)", [str(Inspector._esm), state])

    def view(self) -> None:
        """Show it, once more."""
        self.page.evaluate("async () => { await view(); await painted(); }")

    def post(self, message: dict[str, Any]) -> None:
        """What an outbox sends."""
        self.page.evaluate("async message => { tell(message); await painted(); }", message)

    def keep(self, keyframe: str, recording: str) -> None:
        """What an outbox keeps."""
        self.page.evaluate(
            "async ([k, r]) => { model.set('keyframe', k); model.set('recording', r); await painted(); }",
            [keyframe, recording],
        )

    def go(self, count: int) -> None:
        """Scrub to after this many events."""
        self.page.locator("[data-part=slider]").fill(str(count))
        self.page.evaluate("() => painted()")

    def tab(self, name: str) -> None:
        """Show this panel."""
        self.page.click(f"[data-part=tab-{name}]")
        self.page.evaluate("() => painted()")

    @property
    def blocks(self) -> list[list[str]]:
        """Kind and text of each block that is seen."""
        shown: list[list[str]] = self.page.evaluate(
            """() => [...document.querySelectorAll('.llmb [data-part=panel-message] [data-block]')].map(
              block => [block.dataset.kind, block.querySelector('[data-part=text]').textContent])"""
        )
        return shown

    @property
    def known(self) -> dict[str, str]:
        """What the first view says of itself."""
        said: dict[str, str] = self.page.evaluate(
            "() => ({...document.querySelector('.llmb').dataset})"
        )
        return said

    @property
    def sent(self) -> list[dict[str, Any]]:
        """What the page has sent to the kernel."""
        said: list[dict[str, Any]] = self.page.evaluate("() => sent")
        return said
