"""How commands speak: tables and colours on a terminal, plain lines in a pipe, JSON where it is asked for.

What a cassette holds goes through `printable` and into `Text`, never into markup.
"""

import json
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from llmbridge.exchange.printable import one_line, printable

FINE, FINDINGS, BAD_INPUT = 0, 1, 2
"""Exit codes."""


def console_for(*, live: bool) -> Console:
    """Standard output for text that may hold anything: no markup, and `?` for what its encoding lacks."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    return Console(
        force_terminal=None if live else False,
        soft_wrap=not live,
        highlight=False,
        markup=False,
        emoji=False,
    )


class Screen:
    """Standard output, for people or for the next program."""

    def __init__(self) -> None:
        self._drawn = sys.stdout.isatty()
        self._console = console_for(live=self._drawn)

    def say(self, text: str = "", style: str = "") -> None:
        """Some lines, wrapped only by the terminal."""
        self._console.print(Text(printable(text), style if self._drawn else ""), soft_wrap=True)

    def table(
        self, columns: Mapping[str, bool], rows: Sequence[Sequence[str]], bold_last: bool = False
    ) -> None:
        """Rows under headings; True puts a column to the right."""
        cells = [[one_line(cell) for cell in row] for row in rows]
        if self._drawn:
            self._console.print(_drawn(columns, cells, bold_last))
            return
        lines = [list(columns), *cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            parts = zip(line, widths, columns.values(), strict=True)
            padded = [
                f"{cell:>{width}}" if right else f"{cell:{width}}" for cell, width, right in parts
            ]
            self.say("  ".join(padded).rstrip())


def _drawn(columns: Mapping[str, bool], rows: Sequence[Sequence[str]], bold_last: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold cyan")
    for heading, right in columns.items():
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for index, row in enumerate(rows):
        style = "bold" if bold_last and index == len(rows) - 1 else ""
        table.add_row(*(Text(cell, style) for cell in row))
    return table


@contextmanager
def bar(what: str) -> Generator[Callable[[int, int], None]]:
    """A function of how much is done, of how much: a bar on standard error, drawn on a terminal alone."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def say_json(value: Any) -> None:
    """One JSON document; ASCII, so that nothing in it can move a cursor."""
    typer.echo(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def say_error(text: str) -> None:
    """A line on standard error."""
    typer.echo(f"llmbridge: {one_line(text, limit=1000)}", err=True)
