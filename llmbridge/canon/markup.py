"""Values as a small piece of HTML for a notebook: bare tags, so that every theme and every preview can show it.

Whatever a caller or a provider wrote is text here and never markup: each function escapes what it is given, unless
it is `Html` already. No style but one, no script, no link, no image.
"""

from collections.abc import Iterable, Sequence
from html import escape

LIMIT_CHARS = 4_000
"""What is shown of one text; how much is left out is said."""

LIMIT_ROWS = 20

# JupyterLab cuts words of preformatted text, and leaves no room below it.
WRAPPED = "white-space: pre-wrap; word-break: normal; overflow-wrap: anywhere; margin: 0 0 0.6em"


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def text(value: object, limit_chars: int = LIMIT_CHARS) -> Html:
    """The value as escaped text; nothing for None."""
    if isinstance(value, Html):
        return value
    # A lone surrogate cannot go to the front end.
    told = "" if value is None else str(value).encode(errors="backslashreplace").decode()
    more = len(told) - limit_chars
    return Html(escape(told[:limit_chars]) + (f"… ({more:,} more characters)" if more > 0 else ""))


def panel(title: object, *parts: Html) -> Html:
    """A title with what belongs to it."""
    return Html(f"<div><p><strong>{text(title, 200)}</strong></p>{''.join(parts)}</div>")


def facts(**known: object) -> Html:
    """One line of names and values; what is None is left out."""
    told = (f"{text(name)}: {text(value)}" for name, value in known.items() if value is not None)
    return Html(f"<p><small>{' · '.join(told)}</small></p>")


def preformatted(value: object, limit_chars: int = LIMIT_CHARS) -> Html:
    """Text with its line breaks, wrapped where it is too wide."""
    # The parser drops a line feed that comes first.
    return Html(f'<pre style="{WRAPPED}">\n{text(value, limit_chars)}</pre>')


def labelled(label: object, value: object, limit_chars: int = LIMIT_CHARS) -> Html:
    """A text under its label."""
    return Html(f"<p><em>{text(label, 200)}</em></p>{preformatted(value, limit_chars)}")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """The first rows as a table, and how many there are beyond."""
    every = list(rows)
    cells = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{text(value, 200)}</td>' for value in row)}</tr>"
        for row in every[:LIMIT_ROWS]
    )
    more = len(every) - LIMIT_ROWS
    note = f"<p><small>{more:,} more</small></p>" if more > 0 else ""
    return Html(f"<table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>{note}")
