"""The inspector without JavaScript: how things stood, in bare tags."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from llmbridge.canon.markup import LIMIT_CHARS, Html, facts, labelled, panel, preformatted, table
from llmbridge.notebook.trace import Open, Trace

SHOWN = 5
MAX_CHARS = 8_000
"""What is shown of the text of all of them."""


def static_html(traces: Mapping[str, Trace], *, closed: bool = False) -> Html:
    """The newest interceptions with what was said, and the others in a table."""
    newest = list(traces.values())[::-1]
    if not newest:
        none = "none: the bridge is closed" if closed else "none yet"
        return panel("llmbridge", facts(interceptions=none))
    left = MAX_CHARS
    parts: list[Html] = []
    for trace in newest[:SHOWN]:
        limit = max(left // SHOWN, 200) if len(newest) > 1 else left
        parts.append(_trace_html(trace, min(limit, LIMIT_CHARS)))
    if len(newest) > SHOWN:
        parts.append(_table(newest[SHOWN:]))
    return Html("".join(parts))


def _trace_html(trace: Trace, limit_chars: int) -> Html:
    known = trace.facts
    blocks = [_block_html(block, limit_chars) for block in trace.blocks[:20]]
    more = len(trace.blocks) - len(blocks)
    if more > 0:
        blocks.append(facts(blocks_left_out=f"{more:,}"))
    if known.get("error_type") or known.get("error"):
        blocks.append(labelled(f"error {known.get('error_type') or ''}", known.get("error") or ""))
    return panel(_title(known), _header(trace), *blocks)


def _title(known: Mapping[str, Any]) -> str:
    return " ".join(
        str(word)
        for word in (known.get("answering") or known.get("model"), known["status"])
        if word
    )


def _header(trace: Trace) -> Html:
    known = trace.facts
    usage: Mapping[str, int] = known.get("usage") or {}
    return facts(
        provider=known.get("provider"),
        status=known.get("http"),
        first_token=_seconds(known.get("first_s")) if known.get("timed", True) else None,
        seconds=_seconds(known.get("seconds")),
        events=f"{len(trace.rows):,}",
        input_tokens=usage.get("input"),
        cache_read_tokens=usage.get("cache_read"),
        output_tokens=usage.get("output"),
        cost=None if known.get("cost") is None else f"${known['cost']:.6f}",
        stop_reason=known.get("stop_reason"),
    )


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f} s"


def _block_html(block: Open, limit_chars: int) -> Html:
    kind = block.about["kind"]
    if kind == "text":
        return preformatted(block.text, limit_chars)
    if kind == "tool":
        return labelled(f"tool call {block.about['name']}", _readable(block), limit_chars)
    text = "(encrypted)" if block.about.get("redacted") else block.text
    return labelled(kind, text, limit_chars)


def _readable(block: Open) -> str:
    """The arguments over several lines; those that are not whole yet as they are."""
    if block.about.get("custom"):
        return block.text
    try:
        return json.dumps(json.loads(block.text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return block.text


def _table(traces: Iterable[Trace]) -> Html:
    return table(
        ("provider", "model", "status", "events", "error"),
        (
            (
                trace.facts.get("provider"),
                trace.facts.get("model"),
                trace.facts["status"],
                f"{len(trace.rows):,}",
                trace.facts.get("error"),
            )
            for trace in traces
        ),
    )
