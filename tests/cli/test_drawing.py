from collections.abc import Callable, Iterable
from io import StringIO

import pandas as pd
import pytest
from rich.console import Console

from llmbridge.canon.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Delta,
    Fail,
    Finish,
    Snapshot,
    Start,
)
from llmbridge.canon.messages import Text, Thinking, ToolCall
from llmbridge.cli.drawing import Progress, draw_lines, draw_live, draw_usage

HOSTILE = "[red]\x1b[2J\x07\u202egnp.\ud800[/red]"
TAMED = "[red]�[2J��gnp.�[/red]"


def console(width: int = 80, *, terminal: bool = False) -> Console:
    return Console(
        file=StringIO(),
        width=width,
        force_terminal=terminal,
        color_system=None,
        soft_wrap=not terminal,
        markup=False,
        highlight=False,
        emoji=False,
    )


def written(on: Console) -> str:
    assert isinstance(on.file, StringIO)
    return on.file.getvalue()


def steps(*deltas: Delta) -> list[Progress]:
    """How far the reply has come after each delta, before the first and at the end."""
    snapshot, progress = Snapshot(), Progress("openai", "model", "/v1/responses")
    found = [progress]
    for delta in deltas:
        message = snapshot.apply(delta).partial
        found.append(
            Progress("openai", "model", "/v1/responses", 200, message, delta, 3, 0.25, 1.5)
        )
    message = snapshot.message
    return [
        *found,
        Progress("openai", "model", "/v1/responses", 200, message, None, 3, 0.25, 1.5, True),
    ]


def test_a_pipe_gets_each_block_when_it_is_complete_in_the_order_of_their_ends() -> None:
    on = console()

    draw_lines(
        on,
        steps(
            Start("model-2026"),
            BlockStart(0, ToolCall("a", "first")),
            BlockStart(1, ToolCall("b", "second")),
            BlockDelta(1, '{"x": 1}'),
            BlockEnd(1),
            BlockDelta(0, '{"y": [2'),
            BlockEnd(0),
            Finish("tool_use"),
        ),
    )

    assert written(on).splitlines() == [
        "openai / model, POST /v1/responses",
        '  tool second: {"x": 1}',
        '  tool first: {"y": [2]}',
        "  3 events, first byte 0.25 s, last 1.50 s, tool_use",
    ]


def test_a_pipe_gets_what_came_of_a_reply_that_broke_off() -> None:
    on = console()

    draw_lines(on, steps(BlockStart(0, Text()), BlockDelta(0, "Hel"), Fail("truncated", "cut")))

    assert written(on).splitlines()[1:3] == ["  text: Hel", "  error: cut"]


@pytest.mark.parametrize("draw", [draw_lines, draw_live])
def test_what_a_model_says_is_neither_markup_nor_control_codes(
    draw: Callable[[Console, Iterable[Progress]], None],
) -> None:
    on = console(terminal=draw is draw_live)

    draw(
        on,
        steps(
            Start(HOSTILE),
            BlockStart(0, Thinking()),
            BlockDelta(0, HOSTILE),
            BlockEnd(0),
            BlockStart(1, ToolCall("a", HOSTILE)),
            BlockDelta(1, '{"x": "\\ud800\\u001b[2J"}'),
            BlockEnd(1),
            Fail("api", HOSTILE),
        ),
    )

    assert "\x1b[2J" not in written(on)
    assert written(on).count(TAMED) >= 3
    assert written(on).encode()


def test_a_tool_call_under_way_shows_what_its_arguments_determine() -> None:
    on = console(terminal=True)

    draw_live(on, steps(BlockStart(0, ToolCall("a", "look")), BlockDelta(0, '{"city": "Lis'))[:-1])

    assert 'look {"city": "Lis"}' in written(on)


def test_a_table_too_wide_for_the_terminal_becomes_lines() -> None:
    frame = pd.DataFrame(
        {
            "model": ["m"],
            **{key: [5] for key in ("input_tokens", "cache_read_tokens", "total_tokens")},
            **{key: [pd.NA] for key in ("cache_write_tokens", "reasoning_tokens")},
            "output_tokens": [7],
            "cost_usd": [0.25],
        }
    )
    on = console(40)

    draw_usage(on, frame)

    assert written(on).splitlines()[1:] == [
        "model m, input 5, cached 5, written -, output 7, thought -, total 5, cost $ 0.250000",
        "1 replies, 5 tokens, $0.2500 at list prices",
    ]
