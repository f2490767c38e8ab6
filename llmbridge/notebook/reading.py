"""Exchanges and records into traces: bytes are cut into events, secrets taken out, then decoded."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from llmbridge.canon.events import Delta, Fail, Finish
from llmbridge.canon.messages import Ask, Text, UserMessage
from llmbridge.canon.strict_json import loads_strict
from llmbridge.exchange.call import Call, Headers, Request
from llmbridge.exchange.codec import ReplyDecoder, is_event_stream
from llmbridge.exchange.pricing import cost_usd
from llmbridge.exchange.record import Interception, Record
from llmbridge.exchange.redact import Redactor
from llmbridge.exchange.watching import Exchange
from llmbridge.notebook.trace import BODY_CHARS, PROMPT_CHARS, Trace
from llmbridge.providers import PROVIDERS, Provider, dialect_named
from llmbridge.wire.loose_json import is_object
from llmbridge.wire.sse import SSE

_ROWS = {row.name: row for row in PROVIDERS}
_logger = logging.getLogger("llmbridge.notebook")

Sent = Callable[[Call], tuple[Request, tuple[str, ...]]]
"""The request of a call as it is sent, without secrets."""

_BORDERS = (b"\n\n", b"\n\r\n", b"\r\r")


class Pricer:
    """What usage costs: by the model that answered, or the one asked for."""

    def __init__(self, provider: str, model: str | None, at: datetime | None) -> None:
        self._provider = provider
        self._asked = model
        self._at = at
        self._answering: str | None = None

    def cost(self, deltas: tuple[Delta, ...]) -> float | None:
        """What these deltas say was used."""
        for delta in deltas:
            self._answering = getattr(delta, "model", None) or self._answering
            if isinstance(delta, Finish | Fail) and delta.usage is not None:
                if isinstance(delta, Fail) and delta.usage.output_tokens is None:
                    return None
                price = cost_usd(self._provider, self._answering, delta.usage, self._at)
                if price is None:
                    price = cost_usd(self._provider, self._asked, delta.usage, self._at)
                return price
        return None


class Reader:
    """One exchange under way: `read` takes what has come since the last time."""

    def __init__(self, trace: Trace, exchange: Exchange, redactor: Redactor, sent: Sent) -> None:
        self.trace = trace
        self._exchange = exchange
        self._redactor = redactor
        self._sent = sent
        self._decoder: ReplyDecoder | None = None
        self._taken = 0
        self._held = bytearray()
        call = exchange.call
        self._pricer = Pricer(call.provider.name, call.model, exchange.started_at)
        self._offset_s = _offset_s(trace, exchange.started_at)
        self._seconds = 0.0
        self._streams = False
        self._document = bytearray()
        trace.begin_round()
        request = sent(call)[0]
        trace.ask(request)
        if not call.round:
            trace.know(auth=auth_of(call.provider), prompt=prompt_of(request, call.dialect.name))

    def read(self) -> bool:
        """True when the exchange has ended and all of it was taken."""
        exchange = self._exchange
        ended = exchange.ended  # Before the chunks are looked at: none comes after.
        if self._decoder is None and exchange.status is not None:
            headers = self._redactor.answer(exchange.headers, (), None)[0]
            self.trace.answer(exchange.status, headers)
            self._decoder = ReplyDecoder(exchange.call.dialect, exchange.status, exchange.headers)
        chunks = exchange.chunks[self._taken :]
        self._taken += len(chunks)
        for seconds, chunk in chunks:
            self._seconds = seconds
            searched = max(0, len(self._held) - 2)
            self._held += chunk
            # A secret must be whole to be found, so only whole events are looked at.
            end = max(_after(self._held, border, searched) for border in _BORDERS)
            if end:
                self._decode(bytes(self._held[:end]))
                del self._held[:end]
        if ended and self._decoder is not None:
            self._decode(bytes(self._held))
            self._held.clear()
            if self._document and not self._streams:
                self.trace.body(bytes(self._document))
            for sse, deltas in self._decoder.close():
                self._take(sse, deltas)
        return ended

    def _decode(self, data: bytes) -> None:
        """Take whole events, or the end."""
        if self._decoder is None or not data:
            return
        pieces = self._redactor.answer(Headers(), ((0.0, data),), None)[1]
        clean = b"".join(piece for _, piece in pieces)
        for sse, deltas in self._decoder.feed(clean):
            self._streams = True
            self._take(sse, deltas)
        if not self._streams and len(self._document) < 4 * BODY_CHARS:
            self._document += clean

    def _take(self, sse: SSE | None, deltas: tuple[Delta, ...]) -> None:
        self.trace.take(
            self._offset_s + self._seconds,
            sse,
            sse.data if sse else "",
            deltas,
            self._pricer.cost(deltas),
        )


def _after(data: bytearray, border: bytes, start: int) -> int:
    place = data.rfind(border, start)
    return 0 if place < 0 else place + len(border)


def auth_of(provider: Provider | None) -> str | None:
    """The header that brings the key, for a shell whose variables hold it."""
    if provider is None or not provider.key_env:
        return None
    scheme = "Authorization: Bearer " if provider.auth == "bearer" else f"{provider.auth}: "
    return f"{scheme}${provider.key_env[0]}"


def prompt_of(request: Request | None, dialect: str) -> str | None:
    """What the client said last, for a line in the list."""
    try:
        body = loads_strict(request.body) if request else None
        ask = dialect_named(dialect).decode_request(body) if is_object(body) else Ask()
    except Exception:
        # The border of a decoder: any client may have sent anything.
        _logger.debug("a request cannot be read as %s", dialect, exc_info=True)
        return None
    for message in reversed(ask.context.messages):
        texts = [part.text for part in message.content if isinstance(part, Text)]
        if isinstance(message, UserMessage) and any(texts):
            return " ".join(" ".join(texts)[: 4 * PROMPT_CHARS].split())[:PROMPT_CHARS]
    return None


def update(trace: Trace, interception: Interception) -> None:
    """Take what the interception says now."""
    trace.know(
        provider=interception.provider,
        model=interception.model,
        dialect=interception.dialect,
        actor=interception.actor,
        client=interception.client,
        frontend=interception.frontend,
        streaming=interception.streaming,
        started=_epoch_ms(interception.started_at),
        replayed=interception.replayed or None,
        fault=interception.fault,
        http=interception.status,
    )
    if interception.end is not None:
        seconds = None
        if interception.ended_at is not None:
            seconds = (interception.ended_at - interception.started_at).total_seconds()
        _finish(trace, interception.end, interception.status, interception.error, seconds)
        trace.know(error_type=interception.error_type)


def _finish(
    trace: Trace, end: str, status: int | None, error: str | None, seconds: float | None
) -> None:
    """Take how it ended."""
    failed = end != "completed" or (status or 0) >= 400 or trace.facts.get("error") is not None
    stopped = end in ("interrupted", "client_gone")
    trace.know(
        status="stopped" if stopped else "error" if failed else "done",
        end=end,
        error=error,
        seconds=seconds,
    )


def trace_of_records(records: Sequence[Record]) -> Trace:
    """Recordings of one interception, its rounds in order; they are as clean as they were recorded."""
    first, last = records[0], records[-1]
    trace = Trace(first.interception_id)
    trace.know(provider=first.provider, model=first.model, dialect=first.dialect)
    trace.know(started=_epoch_ms(first.started_at), replayed=first.replayed or None)
    trace.know(timed=first.timed)
    for record in records:
        _take_record(trace, record)
    seconds = last.duration_s
    if seconds is not None:
        seconds += _offset_s(trace, last.started_at)
    _finish(trace, last.end, last.status, last.error, seconds)
    return trace


def trace_of_interception(interception: Interception, records: Sequence[Record]) -> Trace:
    """An interception that has ended, with its rounds."""
    trace = Trace(interception.id)
    trace.know(started=_epoch_ms(interception.started_at))
    for record in records:
        _take_record(trace, record)
    update(trace, interception)
    trace.ask(interception.request)
    return trace


def _take_record(trace: Trace, record: Record) -> None:
    pricer = Pricer(record.provider, record.model, record.started_at)
    offset_s = _offset_s(trace, record.started_at)
    trace.begin_round()
    if trace.asked is None:
        trace.know(auth=auth_of(_ROWS.get(record.provider)))
        trace.know(prompt=prompt_of(record.request, record.dialect))
    trace.ask(record.request)
    trace.answer(record.status, record.headers)
    if not is_event_stream(record.status, record.headers, record.body[:64]):
        trace.body(record.body)
    for seconds, sse, deltas in record.steps():
        data = sse.data if sse else ""
        trace.take(offset_s + seconds, sse, data, deltas, pricer.cost(deltas))


def _offset_s(trace: Trace, at: datetime | None) -> float:
    """How long after the interception an exchange began."""
    began: Any = trace.facts.get("started")
    return 0.0 if at is None or began is None else max(0.0, at.timestamp() - began / 1000)


def _epoch_ms(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp() * 1000
