"""What JupyterLab makes of the HTML of our values, as a person sees it who ran the cell."""

import pytest

from tests.browser.contrast import READABLE, hardest
from tests.browser.desk import Desk
from tests.notebook.test_reprs import SHOWN, TAGS, texts

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(300)]

# Everything that a cell may end with, with every hostile text in every place that a model can fill.
CELL = """
from IPython.display import display
from tests.notebook.test_reprs import SHOWN, texts
from tests.samples import record

for hostile in texts():
    for make in SHOWN:
        display(make(hostile))
display(record("anthropic.messages", "thinking_tool_call.sse"))
"""
OUTPUTS = ".jp-OutputArea .jp-RenderedHTML"
LOOK = """(selector) => {
  const outputs = [...document.querySelectorAll(selector)];
  const elements = outputs.flatMap(output => [...output.querySelectorAll('*')]);
  return {
    outputs: outputs.length,
    tags: [...new Set(elements.map(element => element.localName))],
    text: outputs.map(output => output.textContent).join('\\n'),
  };
}"""


def test_hostile_values_are_text_and_readable_in_both_themes(desk: Desk) -> None:
    desk.open(desk.write("reprs", CELL))
    desk.run()

    seen = desk.page.evaluate(LOOK, OUTPUTS)
    contrasts = []
    for theme in ("Light", "Dark"):
        desk.theme(theme)
        contrasts.append(hardest(desk, f"{OUTPUTS} *"))

    assert seen["outputs"] == len(texts()) * len(SHOWN) + 1
    assert set(seen["tags"]) <= TAGS
    assert [text for text in texts() if text not in seen["text"]] == []
    assert [each for each in contrasts if each[0] < READABLE] == []
