"""Entries to the rows of each frame: one function a frame, the cells in the order of its columns."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from types import MappingProxyType

from llmbridge.canon.messages import (
    AssistantMessage,
    Image,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
    UserMessage,
)
from llmbridge.exchange.entry import (
    Entry,
    answer,
    asked,
    commentary,
    event_count,
    events,
    recorded_at,
    seconds_between,
    utc,
)
from llmbridge.exchange.pricing import cost_usd
from llmbridge.exchange.record import BODY, Record
from llmbridge.exchange.toolbox import ToolRun

Row = tuple[object, ...]
"""One value per column, in order; None where it is not known."""

_SOURCES = {"anthropic.messages": "thinking", "openai.responses": "reasoning_summary"}
"""What a thinking block is called, in aibridge's words; elsewhere it is `reasoning`."""


def interception_rows(entries: Iterable[Entry]) -> Iterator[Row]:
    """One row per interception; tokens, cost, events and bytes are sums over its rounds."""
    for entry in entries:
        message = entry.message or AssistantMessage()
        told = entry.interception
        yield (
            entry.id,
            entry.started_at,
            entry.ended_at,
            entry.duration_s,
            entry.ttft_s,
            entry.said("frontend"),
            entry.said("actor"),
            entry.said("client"),
            entry.said("session_id"),
            entry.said("provider"),
            entry.said("dialect"),
            message.model or entry.asked_model,
            entry.streaming,
            len(entry.records),
            entry.said("status"),
            entry.said("end"),
            (told and told.error_type) or message.error_type,
            (told and told.error) or message.error or entry.said("error"),
            message.stop_reason,
            *_summed_tokens(entry),
            _summed_cost(entry),
            sum(event_count(record) for record in entry.records),
            sum(len(chunk) for record in entry.records for _, chunk in record.chunks),
            entry.replayed,
            entry.said("fault"),
            message.stop,
            entry.asked_model,
            _names(entry.all_of("provider")),
            _names(entry.all_of("dialect")),
            _names(entry.models),
            entry.bodies,
            _metadata(entry),
            _correlating(entry),
        )


def token_usage_rows(entries: Iterable[Entry]) -> Iterator[Row]:
    """One row per answer that reports usage."""
    for record, message in _answers(entries):
        if message.usage is not None:
            yield (
                record.interception_id,
                record.round,
                message.response_id,
                recorded_at(record),
                record.provider,
                message.model or record.model,
                *_tokens(message.usage),
                cost_of(record, message),
                _json(message.usage.raw),
                record.key_hint,
            )


def prompt_rows(entries: Iterable[Entry]) -> Iterator[Row]:
    """One row per interception whose last message is the user's.

    Source: aibridge, which takes the last text of the message; with Responses it is all of them, a line each.
    """
    for entry in entries:
        prompt = _prompt(entry)
        if prompt:
            answered = [answer(record) for record in entry.records]
            ids = (message.response_id for message in answered if message)
            first = entry.first
            yield (
                entry.id,
                next((id for id in ids if id), None),
                recorded_at(first) if first else entry.started_at,
                prompt,
            )


def tool_call_rows(entries: Iterable[Entry]) -> Iterator[Row]:
    """One row per tool call. Where nothing tells what the bridge ran, as in a file, the next round's request does."""
    for entry in entries:
        told = entry.interception
        runs = {(run.round, run.tool_call_id): run for run in (told.tool_runs if told else ())}
        for record, after in zip_longest(entry.records, entry.records[1:]):
            message = answer(record) or AssistantMessage()
            results = _results(after) if after and message.tool_calls else {}
            for call in message.tool_calls:
                run = runs.get((record.round, call.id)) or _told(call, results, record, after)
                yield (
                    entry.id,
                    record.round,
                    message.response_id,
                    call.id or None,
                    call.name,
                    None if BODY in record.redacted else _json(call.arguments),
                    run is not None,
                    "provider" if call.server else run and run.server,
                    run and run.result,
                    run and run.error,
                    run and run.duration_s,
                    recorded_at(record),
                )


def thought_rows(entries: Iterable[Entry]) -> Iterator[Row]:
    """One row per thinking block with text in it, and per text that the model says beside its answer."""
    for record, message in _answers(entries):
        for block in message.content:
            if isinstance(block, Thinking) and block.text:
                yield (
                    record.interception_id,
                    _SOURCES.get(record.dialect, "reasoning"),
                    block.text,
                    record.round,
                    message.response_id,
                    recorded_at(record),
                )
        for text in commentary(record):
            answered, at = message.response_id, recorded_at(record)
            yield (record.interception_id, "commentary", text, record.round, answered, at)


def event_rows(entries: Iterable[Entry]) -> Iterator[Row]:
    """One row per server-sent event."""
    for entry in entries:
        for record in entry.records:
            before: float | None = None
            for index, (seconds, sse, means, added) in enumerate(events(record)):
                time = seconds if record.timed else None
                gap = None if time is None or before is None else time - before
                size = len(sse.data.encode("utf-8", "surrogatepass"))
                yield (entry.id, record.round, index, time, gap, sse.event, means, added, size)
                before = time


ROWS: Mapping[str, Callable[[Iterable[Entry]], Iterator[Row]]] = MappingProxyType(
    {
        "interceptions": interception_rows,
        "token_usage": token_usage_rows,
        "prompts": prompt_rows,
        "tool_calls": tool_call_rows,
        "thoughts": thought_rows,
        "events": event_rows,
    }
)
"""What makes the rows of a frame."""


def _answers(entries: Iterable[Entry]) -> Iterator[tuple[Record, AssistantMessage]]:
    """Every record that can be decoded, with its answer."""
    for entry in entries:
        for record in entry.records:
            message = answer(record)
            if message is not None:
                yield record, message


def _metadata(entry: Entry) -> str | None:
    told = entry.interception or entry.first
    request = told.request if told else None
    return _json(dict(request.caller.metadata)) if request and request.caller.metadata else None


def _correlating(entry: Entry) -> str | None:
    """The last tool call that is answered after all that the model said; source: aibridge."""
    ask = entry.ask
    for message in reversed(ask.context.messages if ask else ()):
        if isinstance(message, AssistantMessage):
            return None
        if isinstance(message, ToolResult) and message.tool_call_id:
            return message.tool_call_id
    return None


def _prompt(entry: Entry) -> str | None:
    ask = entry.ask
    last = ask.context.messages[-1] if ask and ask.context.messages else None
    if not isinstance(last, UserMessage):
        return None
    texts = [part.text for part in last.content if isinstance(part, Text)]
    return "\n".join(texts if entry.said("dialect") == "openai.responses" else texts[-1:])


def _results(record: Record) -> dict[str, ToolResult]:
    """The tool results that a request carries, by the id of the call."""
    ask = asked(record)
    told = ask.context.messages if ask else ()
    return {part.tool_call_id: part for part in told if isinstance(part, ToolResult)}


def _told(
    call: ToolCall, results: Mapping[str, ToolResult], record: Record, after: Record | None
) -> ToolRun | None:
    """What the next round's request says of a call."""
    result = results.get(call.id)
    if result is None or after is None:
        return None
    text, over = _text(result.content), recorded_at(record)
    lasted_s = seconds_between(over, after.started_at)
    failed = result.is_error
    return ToolRun(
        call.id,
        call.name,
        record.round,
        None,
        over,
        lasted_s,
        None if failed else text,
        text if failed else None,
    )


def _text(content: Iterable[Text | Image]) -> str:
    return "".join(part.text for part in content if isinstance(part, Text))


def _tokens(usage: Usage) -> tuple[int | None, ...]:
    return (
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.total_tokens,
    )


def cost_of(record: Record, message: AssistantMessage) -> float | None:
    """The price of the model that answered, or of the one asked for where that only says more.

    None where the answer broke off before it told how much it said.
    """
    failed = message.error_type is not None
    if failed and message.usage is not None and message.usage.output_tokens is None:
        return None
    at = utc(record.started_at)
    answered, model = message.model or "", record.model or ""
    price = cost_usd(record.provider, answered, message.usage, at)
    if price is None and model.startswith(answered):
        # Hugging Face answers without the provider that its price depends on.
        return cost_usd(record.provider, model, message.usage, at)
    return price


def _summed_tokens(entry: Entry) -> Iterator[int | None]:
    usages = [message.usage or Usage() for _, message in _answers([entry])]
    for counts in zip(*map(_tokens, usages or [Usage()]), strict=True):
        known = [count for count in counts if count is not None]
        yield sum(known) if known else None


def _summed_cost(entry: Entry) -> float | None:
    """None also where one round has usage but no price: a part of the bill is not the bill."""
    costs = [cost_of(record, message) for record, message in _answers([entry]) if message.usage]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known and len(known) == len(costs) else None


def _names(names: Iterable[str]) -> str | None:
    """Each once, in the order they came; None where there is none."""
    found = list(dict.fromkeys(names))
    return _json(found) if found else None


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
