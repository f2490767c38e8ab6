"""How replies and tables look in a terminal, and how in a pipe.

What models and providers say goes through `printable` and into `Text`, never into markup.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pandas import NA, DataFrame
from pandas.api.types import is_numeric_dtype
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text as Line

from llmbridge.canon.events import BlockEnd, BlockStart, Delta
from llmbridge.canon.messages import AssistantMessage, Block, Text, Thinking, ToolCall
from llmbridge.exchange.printable import one_line, printable

_WIDEST = 100


@dataclass(frozen=True, slots=True)
class Progress:
    """A reply under way, as its reader sees it; `delta` is what came last."""

    provider: str
    model: str
    path: str
    status: int | None = None
    message: AssistantMessage = field(default_factory=AssistantMessage)
    delta: Delta | None = None
    events: int = 0
    first_byte_s: float | None = None
    elapsed_s: float = 0
    done: bool = False

    @property
    def title(self) -> str:
        """Who answers."""
        return one_line(f"{self.provider} / {self.message.model or self.model}")

    @property
    def figures(self) -> str:
        """What there is to count."""
        if self.first_byte_s is None:
            return "waiting"
        figures = f"{self.events} events, first byte {self.first_byte_s:.2f} s"
        if not self.done:
            return figures
        return f"{figures}, last {self.elapsed_s:.2f} s, {self.message.stop_reason or 'no end'}"


def draw_live(console: Console, steps: Iterable[Progress]) -> None:
    """A panel that grows with the reply."""
    with Live(console=console, refresh_per_second=20) as live:
        for progress in steps:
            live.update(_panel(progress, min(console.width, _WIDEST)))


def _panel(progress: Progress, width: int) -> Panel:
    body = Line("\n\n").join(_styled(block) for block in progress.message.content)
    if progress.message.error:
        body.append("\n" + printable(progress.message.error), "red")
    return Panel(
        body,
        title=Line(progress.title, "bold"),
        title_align="left",
        subtitle=Line(progress.figures, "dim"),
        subtitle_align="right",
        border_style="green" if progress.done else "cyan",
        width=width,
    )


def _styled(block: Block) -> Line:
    match block:
        case Thinking():
            return Line(_words(block), "dim italic")
        case ToolCall():
            return Line.assemble((one_line(block.name), "bold yellow"), " ", _words(block))
        case Text():
            return Line(_words(block), "red" if block.refusal else "")


def _words(block: Block) -> str:
    if isinstance(block, Thinking) and block.redacted:
        return "(encrypted)"
    if isinstance(block, ToolCall) and not block.custom:
        return printable(json.dumps(block.arguments, ensure_ascii=False))
    return printable(block.text).strip("\n")


def draw_lines(console: Console, steps: Iterable[Progress]) -> None:
    """Lines of text: each block once it is complete, then the figures."""
    places: dict[int, int] = {}
    progress = None
    for progress in steps:
        match progress.delta:
            case None if not progress.done:
                _say(console, f"{progress.title}, POST {progress.path}")
            case BlockStart(index):
                places[index] = len(progress.message.content) - 1
            case BlockEnd(index) if index in places:
                _say(console, _line(progress.message.content[places.pop(index)]))
            case _:
                pass
    if progress is None:
        return
    for place in places.values():
        _say(console, _line(progress.message.content[place]))
    if progress.message.error:
        _say(console, f"  error: {printable(progress.message.error)}")
    _say(console, f"  {progress.figures}")


def _line(block: Block) -> str:
    match block:
        case Thinking():
            kind = "thinking"
        case ToolCall():
            kind = f"tool {one_line(block.name)}"
        case Text():
            kind = "refusal" if block.refusal else "text"
    return f"  {kind}: {_words(block)}".replace("\n", "\n    ")


def _say(console: Console, line: str) -> None:
    console.print(Line(line))


_INTERCEPTIONS = {
    "provider": "provider",
    "model": "model",
    "end": "end",
    "stop_reason": "stop",
    "events": "events",
    "ttft_s": "ttft s",
    "duration_s": "total s",
}
_USAGE = {
    "model": "model",
    "input_tokens": "input",
    "cache_read_tokens": "cached",
    "cache_write_tokens": "written",
    "output_tokens": "output",
    "reasoning_tokens": "thought",
    "total_tokens": "total",
    "cost_usd": "cost $",
}
"""Columns of the frames and what they are called here: together they fit into 80 characters."""


def draw_interceptions(console: Console, frame: DataFrame) -> None:
    """What was asked of the bridge."""
    _draw_table(console, "bridge.frames.interceptions()", frame, _INTERCEPTIONS)


def draw_usage(console: Console, frame: DataFrame) -> None:
    """What it took, and what that costs."""
    _draw_table(console, "bridge.frames.token_usage()", frame, _USAGE)
    tokens, cost = frame["total_tokens"].sum(), frame["cost_usd"].sum()
    console.print(Line(f"{len(frame)} replies, {tokens:,} tokens, ${cost:.4f} at list prices"))


def _draw_table(console: Console, title: str, frame: DataFrame, columns: Mapping[str, str]) -> None:
    rows = [
        [_cell(name, value) for name, value in zip(columns, row, strict=True)]
        for row in frame[list(columns)].to_numpy()
    ]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, heading in columns.items():
        table.add_column(heading, justify="right" if is_numeric_dtype(frame[name]) else "left")
    for row in rows:
        table.add_row(*map(Line, row))
    console.print(Line(title, "bold cyan"))
    if (
        console.measure(table, options=console.options.update(max_width=1000)).maximum
        <= console.width
    ):
        console.print(table)
        return
    for row in rows:
        named = zip(columns.values(), row, strict=True)
        console.print(Line(", ".join(f"{heading} {cell}" for heading, cell in named)))


def _cell(name: str, value: object) -> str:
    if value is None or value is NA or value != value:
        return "-"
    if isinstance(value, float):
        return f"{value:.6f}" if name == "cost_usd" else f"{value:.3f}"
    return one_line(str(value))
