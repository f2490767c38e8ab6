"""How well the words on a page can be told from what is behind them, as WCAG 2 measures it."""

from tests.browser.desk import Desk

READABLE = 4.5

_WORST = """(selector) => {
  const parts = (color) => {
    const numbers = (color.replace('srgb', '').match(/[\\d.]+/g) ?? []).map(Number);
    const rgb = numbers.slice(0, 3).map(v => color.startsWith('color(') ? v : v / 255);
    return [rgb, color === 'transparent' ? 0 : numbers[3] ?? 1];
  };
  const over = (color, base) => {
    const [rgb, alpha] = parts(color);
    return rgb.map((v, place) => alpha * v + (1 - alpha) * base[place]);
  };
  const behind = (element) => {
    if (!element) return [1, 1, 1];
    const color = getComputedStyle(element).backgroundColor;
    return parts(color)[1] === 1 ? parts(color)[0] : over(color, behind(element.parentElement));
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const worded = [...document.querySelectorAll(selector)].filter(element => element.ariaDisabled !== 'true' && element.offsetParent
    && [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim()));
  const found = worded.map(element => {
    const base = behind(element);
    const [low, high] = [light(over(getComputedStyle(element).color, base)), light(base)].sort((a, b) => a - b);
    return [(high + 0.05) / (low + 0.05), `${element.localName}.${element.className}: ${element.textContent.slice(0, 40)}`];
  });
  return found.sort((a, b) => a[0] - b[0])[0];
}"""


def hardest(desk: Desk, selector: str) -> tuple[float, str]:
    """The lowest contrast of these elements, and which one it is."""
    contrast, element = desk.page.evaluate(_WORST, selector)
    return float(contrast), str(element)
