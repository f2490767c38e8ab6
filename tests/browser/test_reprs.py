"""What JupyterLab makes of the HTML of our values, as a person sees it who ran the cell."""

from typing import Any

import pytest

from tests.browser.desk import Desk
from tests.notebook.test_reprs import SHOWN, TAGS, texts

pytestmark = pytest.mark.xdist_group("browser")

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
# Elements below the outputs, and the lowest contrast of a text with what is behind it (WCAG 2).
LOOK = """() => {
  const light = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map(Number)
      .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if (!/, 0\\)$|transparent/.test(color)) return light(color);
    }
    return 1;
  };
  const outputs = [...window.panel.node.querySelectorAll('.jp-OutputArea .jp-RenderedHTML')];
  const elements = outputs.flatMap(output => [...output.querySelectorAll('*')]);
  const contrast = elements.map(element => {
    const [low, high] = [light(getComputedStyle(element).color), behind(element)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  });
  return {
    outputs: outputs.length,
    tags: [...new Set(elements.map(element => element.localName))],
    contrast: Math.min(...contrast),
    text: outputs.map(output => output.textContent).join('\\n'),
  };
}"""


@pytest.fixture
def look(desk: Desk) -> Any:
    """The page with these outputs, in a theme."""
    desk.open(desk.write("reprs", CELL))
    desk.run()

    def looked(theme: str) -> Any:
        desk.theme(theme)
        return desk.page.evaluate(LOOK)

    return looked


def test_hostile_values_are_text_and_readable_in_both_themes(look: Any) -> None:
    light, dark = look("Light"), look("Dark")

    assert light["outputs"] == len(texts()) * len(SHOWN) + 1
    assert set(light["tags"]) <= TAGS
    assert [text for text in texts() if text not in light["text"]] == []
    assert min(light["contrast"], dark["contrast"]) > 4.5
