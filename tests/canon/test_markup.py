from html.parser import HTMLParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmbridge.canon.markup import LIMIT_ROWS, facts, panel, preformatted, table, text


class Seen(HTMLParser):
    """What a browser would find: the tags with their attributes, and the visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Any]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_comes_out_as_the_same_text_and_no_markup(value: str) -> None:
    seen = Seen(text(value, len(value)))

    assert (seen.tags, seen.text) == ([], value)


def test_html_is_not_escaped_twice() -> None:
    assert panel("a < b", preformatted("c")).count("&lt;") == 1


def test_a_long_text_says_how_much_is_left_out() -> None:
    assert text("abcdef", 4) == "abcd… (2 more characters)"


def test_a_lone_surrogate_can_be_sent() -> None:
    assert text("a\ud800") == "a\\ud800"


def test_an_unknown_fact_is_left_out() -> None:
    assert facts(known=0, unknown=None) == "<p><small>known: 0</small></p>"


def test_a_long_table_says_how_many_rows_are_left_out() -> None:
    html = table(("n",), ((number,) for number in range(LIMIT_ROWS + 3)))

    assert (html.count("<tr>"), "3 more" in html) == (LIMIT_ROWS + 1, True)
