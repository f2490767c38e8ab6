"""What a model, a tool or a provider wrote is text: in the inspector, in a saved notebook, and in the page made of it."""

from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbconvert.exporters import HTMLExporter

from tests.browser.chromium import Watched
from tests.browser.desk import Desk
from tests.browser.jupyter import Lab
from tests.canon.test_markup import Seen
from tests.notebook.test_reprs import texts

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(300)]

SETUP = """
from llmbridge import Bridge, Context, Model, Script, Text, Thinking, ToolCall, UserMessage, fail, reply
from tests.notebook.test_reprs import texts

lines = []
for text in texts():
    lines += [reply(Thinking(text), text, ToolCall("c1", text, {text: [text]})), fail(500, message=text)]
bridge = Bridge(Script(*lines), environ={})
for text in texts():
    for _ in range(2):
        asked = Context(text, (UserMessage((Text(text),)),))
        list(bridge.stream_sync(Model("anthropic", text), asked))
inspector = bridge.live()
"""
SHOW = "inspector"
PLAY = "for record in bridge.records[::2]:\n    display(record.play())"
TAGS = {
    "article",
    "aside",
    "b",
    "button",
    "canvas",
    "code",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "h3",
    "header",
    "i",
    "input",
}
TAGS |= {
    "label",
    "li",
    "mark",
    "nav",
    "ol",
    "output",
    "option",
    "p",
    "path",
    "pre",
    "section",
    "select",
    "span",
    "strong",
    "summary",
}
TAGS |= {"svg", "table", "tbody", "td", "th", "thead", "tr", "ul"}
TABS = ("message", "events", "request", "response", "usage")
_LOOK = """(tab) => {
  const view = document.querySelector('.llmb');
  view.querySelector(`[data-part=tab-${tab}]`).click();
  return new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() => resolve({
    tags: [...new Set([...document.querySelectorAll('.llmb *')].map(element => element.localName))],
    handlers: [...document.querySelectorAll('.llmb *')].flatMap(element => [...element.attributes])
      .filter(each => each.name.startsWith('on') || /^\\\\s*javascript:/i.test(each.value)).map(each => each.name),
    blocks: [...view.querySelectorAll('[data-block] [data-part=text]')].map(each => each.textContent),
    names: [...view.querySelectorAll('[data-kind=tool] .head code')].map(each => each.textContent),
    title: view.querySelector('[data-part=title]').textContent,
    panel: view.querySelector(`[data-part=panel-${tab}]`).textContent,
  }))));
}"""


@pytest.fixture(scope="module")
def shown(desk: Desk) -> Desk:
    """A notebook with every hostile text in every place that a model or a provider can fill."""
    desk.open(desk.write("hostile", SETUP, SHOW, PLAY))
    desk.run()
    desk.page.wait_for_selector(".llmb [data-part=panel-message]")
    return desk


def test_the_inspector_shows_hostile_texts_as_they_are(shown: Desk) -> None:
    options = shown.page.locator(".llmb").first.locator("[role=option]")
    assert options.count() == 2 * len(texts())

    for place, text in enumerate(texts()):
        # The newest stands first.
        options.nth(options.count() - 1 - 2 * place).click()
        looks = {tab: shown.page.evaluate(_LOOK, tab) for tab in TABS}

        assert {tag for look in looks.values() for tag in look["tags"]} <= TAGS
        assert [look["handlers"] for look in looks.values()] == [[]] * len(TABS)
        thinking, said, arguments = looks["message"]["blocks"]
        assert (thinking, said, looks["message"]["names"]) == (text, text, [text])
        assert eval(arguments) == {text: [text]}  # JSON of strings alone
        assert text in looks["message"]["title"]


def test_the_inspector_shows_hostile_errors_as_they_are(shown: Desk) -> None:
    options = shown.page.locator(".llmb").first.locator("[role=option]")

    for place, text in enumerate(texts()):
        options.nth(options.count() - 2 - 2 * place).click()
        look = shown.page.evaluate(_LOOK, "message")

        assert set(look["tags"]) <= TAGS
        assert [block for block in look["blocks"] if text in block] != []


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_saved_notebook_shows_them_without_a_kernel(
    shown: Desk, lab: Lab, chrome: "Browser", scripts: bool
) -> None:
    shown.save()
    notebook: Any = nbformat.read(lab.folder / "hostile.ipynb", as_version=4)
    html, _ = HTMLExporter().from_notebook_node(notebook)
    (lab.folder / "hostile.html").write_text(html, "utf-8")
    context = chrome.new_context(java_script_enabled=scripts, offline=True)
    watched = Watched(context)
    page = watched.page()

    page.goto((lab.folder / "hostile.html").as_uri())
    seen = page.inner_text("body")
    context.close()

    assert "widgets" not in notebook.metadata
    assert [text for text in texts() if text not in seen] == []
    assert [each for each in watched.trespasses() if "cdn" not in each] == []
    parsed = Seen(html)
    assert [tag for tag, _ in parsed.tags if tag in ("iframe", "svg", "img", "object")] == []


def test_a_notebook_of_somebody_else_shows_them_as_text(shown: Desk, lab: Lab) -> None:
    shown.save()
    kept = (lab.folder / "hostile.ipynb").read_text("utf-8")
    # What was changed elsewhere is not trusted here.
    (lab.folder / "elsewhere.ipynb").write_text(kept.replace("import Bridge", "import  Bridge"))

    shown.open("elsewhere.ipynb")
    seen = shown.page.inner_text(".jp-Notebook")

    assert shown.page.locator(".llmb").count() == 0
    assert [text for text in texts() if text not in seen] == []
