"""`llmbridge cassette show`: what was asked and answered."""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from llmbridge.cli.files import Outcome, errors_of, files_of, on_each
from llmbridge.cli.screen import BAD_INPUT, FINE, Screen, say_error, say_json
from llmbridge.cli.summary import Told, content_of, summary_of, whole_of
from llmbridge.errors import CassetteError
from llmbridge.exchange.entry import prompt_of
from llmbridge.exchange.printable import one_line
from llmbridge.stores.cassette import Cassette

_STYLES = {"thinking": "dim italic", "tool_call": "yellow", "refusal": "red"}


def run_show(paths: Iterable[str], interaction: int | None, as_json: bool) -> int:
    """Show all interactions of the files in short, or one of each whole; the exit code."""
    outcomes = list(on_each(partial(show, interaction=interaction), files_of(paths)))
    if as_json:
        files = [
            {"file": str(outcome.file.path), "interactions": outcome.result}
            for outcome in outcomes
            if outcome.result is not None
        ]
        say_json({"files": files, "errors": errors_of(outcomes)})
    else:
        _say_lines(outcomes)
    return BAD_INPUT if any(outcome.error for outcome in outcomes) else FINE


def show(path: Path, interaction: int | None = None) -> list[Told]:
    """The interactions of a file in short, or one of them whole.

    Raises:
        CassetteError: the file cannot be read, or has no such interaction.
    """
    records = list(Cassette.load(path))
    if interaction is None:
        chosen = list(enumerate(records))
    elif 0 <= interaction < len(records):
        chosen = [(interaction, records[interaction])]
    else:
        raise CassetteError(
            f"{str(path)!r} has no interaction {interaction}: it has {len(records)}, numbered from 0"
        )
    return [
        {
            **summary_of(record, index),
            "prompt": prompt_of(record),
            "content": content_of(record),
            **({} if interaction is None else whole_of(record)),
        }
        for index, record in chosen
    ]


def _say_lines(outcomes: Iterable[Outcome[list[Told]]]) -> None:
    screen = Screen()
    for outcome in outcomes:
        if outcome.error:
            say_error(outcome.error)
            continue
        screen.say(str(outcome.file.path), "bold cyan")
        for told in outcome.result or ():
            (_say_whole if "response" in told else _say_short)(screen, told)


def _say_short(screen: Screen, told: Told) -> None:
    _say_head(screen, told)
    screen.say(f"  > {told['prompt']}", "dim")
    for block in told["content"]:
        screen.say(f"  {block_line(block)}", _STYLES.get(block["type"], ""))
    _say_figures(screen, told)


def _say_whole(screen: Screen, told: Told) -> None:
    _say_head(screen, told)
    request, response = told["request"], told["response"]
    if request:
        screen.say("Request", "bold")
        _say_message(screen, request)
    screen.say(f"Answer: {told['status']}", "bold")
    _say_message(screen, response)
    for event in response["events"]:
        time = "-" if event["time_s"] is None else f"{event['time_s']:.3f} s"
        screen.say(f"  {time:>9}  {event['event']}  {event['data']}")
    if told["content"]:
        screen.say("Decoded", "bold")
    for block in told["content"]:
        screen.say(_indented(_words(block)), _STYLES.get(block["type"], ""))
    _say_figures(screen, told)


def _say_head(screen: Screen, told: Told) -> None:
    asked = f"{told['method']} {told['url']}" if told["method"] else "(the request was not kept)"
    who = f"{told['provider']} / {told['model'] or '-'}"
    screen.say(one_line(f"#{told['interaction']}  {asked}  {who}", limit=1000), "bold")


def _say_message(screen: Screen, message: Told) -> None:
    for name, value in message["headers"]:
        screen.say(f"  {name}: {value}", "dim")
    if message["body"] not in (None, ""):
        screen.say(_indented(_pretty(message["body"])))


def _say_figures(screen: Screen, told: Told) -> None:
    if told["error"]:
        screen.say(
            one_line(f"  error: {told['error_type'] or told['end']}: {told['error']}"), "red"
        )
    style = "green" if told["end"] == "completed" and told["status"] < 400 else "red"
    screen.say(f"  {figures_of(told)}", style)


def figures_of(told: Told) -> str:
    """Status, end, tokens, cost, timing and size, as far as they are known."""
    parts = [f"{told['status']} {told['end']}"]
    if told["stop_reason"]:
        parts.append(str(told["stop_reason"]))
    if told["output_tokens"] is not None:
        cached = told["cache_read_tokens"] or 0
        read = (told["input_tokens"] or 0) + cached + (told["cache_write_tokens"] or 0)
        parts.append(
            f"{read:,}+{told['output_tokens']:,} tokens"
            + (f" ({cached:,} cached)" if cached else "")
        )
    if told["cost_usd"] is not None:
        parts.append(f"${told['cost_usd']:.6f}")
    if told["ttft_s"] is not None:
        parts.append(f"first byte {told['ttft_s']:.3f} s")
    if told["duration_s"] is not None:
        parts.append(f"last {told['duration_s']:.3f} s")
    parts.append(f"{told['chunks']:,} chunks, {told['events']:,} events, {told['bytes']:,} bytes")
    return ", ".join(parts)


def block_line(block: Told) -> str:
    """One block of an answer on one line."""
    if block["type"] == "tool_call":
        return one_line(
            f"tool {block['name']}: {json.dumps(block['arguments'], ensure_ascii=False)}"
        )
    return one_line(f"{block['type']}: {_words(block)}")


def _words(block: Told) -> str:
    match block["type"]:
        case "tool_call":
            return f"{block['name']} {_pretty(block['arguments'])}"
        case "thinking" if block["redacted"]:
            return "(encrypted)"
        case _:
            return str(block["text"])


def _pretty(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
