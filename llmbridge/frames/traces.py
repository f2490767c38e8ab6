"""What happened, as OpenTelemetry spans: made when an interception has ended, beside the calls, from its records.

Source: OpenTelemetry's semantic conventions for generative AI clients and for HTTP servers. Needs the extra `otel`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from importlib import import_module
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from llmbridge.canon.messages import AssistantMessage
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.entry import asked, recorded_at, utc
from llmbridge.exchange.record import Interception, Record, Store
from llmbridge.exchange.toolbox import ToolRun
from llmbridge.stores.followed import FollowedStore
from llmbridge.stores.opening import open_store

Attributes = dict[str, str | bool | int | float | Sequence[str]]

_PROVIDERS = MappingProxyType(
    {
        "azure": "azure.ai.openai",
        "google": "gcp.gemini",
        "mistral": "mistral_ai",
        "vertex": "gcp.vertex_ai",
        "xai": "x_ai",
    }
)
"""What the conventions call a provider, where we say it otherwise."""

_OPERATIONS = MappingProxyType(
    {
        "anthropic.messages": "chat",
        "google.gemini": "generate_content",
        "openai.chat": "chat",
        "openai.responses": "chat",
    }
)
_PATHS = MappingProxyType({"/embeddings": "embeddings", "/completions": "text_completion"})
"""What is relayed unread is told by how its path ends."""


class TracedStore(FollowedStore):
    """A store that traces: `Bridge(store=TracedStore())` sends a span for each interception, its rounds and tool runs below.

    `store` is what `Bridge(store=...)` takes, and is closed with it. Spans go to `tracer_provider`, else to the global
    one, and stand below the caller's: the span that is current in this process, or the `traceparent` header. They hold
    who, when, how many tokens and how it ended; never prompts or answers.

    Raises:
        ConfigurationError: opentelemetry-api is not installed, or there is no such store.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str] | None = None,
        *,
        tracer_provider: Any = None,
    ) -> None:
        try:
            trace: Any = import_module("opentelemetry.trace")
            self._propagation: Any = import_module("opentelemetry.trace.propagation.tracecontext")
        except ImportError as error:
            raise ConfigurationError(
                "spans need opentelemetry-api: pip install 'llmbridge[otel]'"
            ) from error
        self._trace = trace
        self._tracer = trace.get_tracer("llmbridge", tracer_provider=tracer_provider)
        self._parents: dict[str, Any] = {}
        super().__init__(open_store(store), self._send)

    async def begin(self, interception: Interception) -> None:
        """Pass it on, and remember whose span it belongs to."""
        await super().begin(interception)
        self._parents[interception.id] = self._parent(interception)

    def _parent(self, interception: Interception) -> Any:
        current = self._trace.get_current_span()
        if current.get_span_context().is_valid:
            return self._trace.set_span_in_context(current)
        sent = {"traceparent": interception.request.headers.get("traceparent", "")}
        return self._propagation.TraceContextTextMapPropagator().extract(sent)

    def _send(self, interception: Interception, records: Sequence[Record]) -> None:
        kinds, served = self._trace.SpanKind, interception.frontend == "server"
        name = f"{interception.request.method} {interception.request.path}"
        told = _of_interception(interception)
        whole = self._tracer.start_span(
            name,
            context=self._parents.pop(interception.id, None),
            kind=kinds.SERVER if served else kinds.INTERNAL,
            start_time=_ns(interception.started_at),
            attributes=told,
        )
        below = self._trace.set_span_in_context(whole)
        # Copies: a decoded message stays with its record, and the store keeps the record.
        for record in map(replace, records):
            attributes = _of_record(interception, record)
            words = map(attributes.get, ("gen_ai.operation.name", "gen_ai.request.model"))
            span = self._tracer.start_span(
                " ".join(str(word) for word in words if word) or name,
                context=below,
                kind=kinds.CLIENT,
                start_time=_ns(record.started_at or interception.started_at),
                attributes=attributes,
            )
            self._finish(span, attributes, record.error, recorded_at(record))
        for run in interception.tool_runs:
            self._send_tool(run, below)
        self._finish(whole, told, interception.error, interception.ended_at)

    def _send_tool(self, run: ToolRun, below: Any) -> None:
        attributes = _known(
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": run.name,
                "gen_ai.tool.type": "extension",
                "gen_ai.tool.call.id": run.tool_call_id or None,
                "error.type": None if run.error is None else "tool_error",
            }
        )
        span = self._tracer.start_span(
            f"execute_tool {run.name}",
            context=below,
            start_time=_ns(run.started_at),
            attributes=attributes,
        )
        end = run.started_at and run.started_at + timedelta(seconds=run.duration_s or 0)
        # The error is the tool's own text, and may be anything.
        self._finish(span, attributes, None, end)

    def _finish(
        self, span: Any, attributes: Attributes, error: str | None, end: datetime | None
    ) -> None:
        if "error.type" in attributes:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, error))
        span.end(_ns(end))


def spans_go_nowhere() -> bool:
    """True while no SDK of OpenTelemetry was set up in this process."""
    trace: Any = import_module("opentelemetry.trace")
    return isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _of_interception(told: Interception) -> Attributes:
    found: dict[str, Any] = {
        "http.request.method": told.request.method,
        "url.path": told.request.path,
        "http.response.status_code": told.status,
        "gen_ai.conversation.id": told.session_id,
        "user.id": told.actor,
        "llmbridge.interception.id": told.id,
        "llmbridge.client": told.client,
        "llmbridge.end": told.end,
        "llmbridge.replayed": told.replayed or None,
    }
    if told.end != "completed" or (told.status or 0) >= 400:
        found["error.type"] = told.error_type or told.end or "interrupted"
    return _known(found)


def _of_record(told: Interception, record: Record) -> Attributes:
    message, ask = record.message or AssistantMessage(), asked(record)
    found: dict[str, Any] = {
        "gen_ai.operation.name": _operation(record),
        "gen_ai.provider.name": _PROVIDERS.get(record.provider, record.provider),
        "gen_ai.request.model": record.model or None,
        "gen_ai.request.stream": (ask and ask.streaming) or None,
        "gen_ai.conversation.id": told.session_id,
        "gen_ai.response.id": message.response_id or None,
        "gen_ai.response.model": message.model or None,
        "http.response.status_code": record.status,
        "llmbridge.round": record.round,
    }
    if message.stop is not None or message.stop_reason is not None:
        found["gen_ai.response.finish_reasons"] = [str(message.stop or message.stop_reason)]
    if ask and ask.streaming and record.timed:
        found["gen_ai.response.time_to_first_chunk"] = next(
            (seconds for seconds, chunk in record.chunks if chunk), None
        )
    if record.request is not None:
        place = urlsplit(record.request.url)
        found["server.address"] = place.hostname
        found["server.port"] = place.port or (443 if place.scheme == "https" else 80)
    if record.status >= 400 or record.end != "completed" or message.error_type:
        found["error.type"] = message.error_type or (
            str(record.status) if record.status >= 400 else record.end
        )
    return _known({**found, **dict(_tokens(message))})


def _tokens(message: AssistantMessage) -> Iterator[tuple[str, int | None]]:
    usage = message.usage
    if usage is None:
        return
    # Ours leaves out what came from the cache or went there; theirs is all that was read.
    parts = (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens)
    if usage.input_tokens is not None:
        yield "gen_ai.usage.input_tokens", sum(part or 0 for part in parts)
    yield "gen_ai.usage.cache_read.input_tokens", usage.cache_read_tokens
    yield "gen_ai.usage.cache_write.input_tokens", usage.cache_write_tokens
    yield "gen_ai.usage.output_tokens", usage.output_tokens
    yield "gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens


def _operation(record: Record) -> str | None:
    path = record.request.path if record.request else ""
    return _OPERATIONS.get(record.dialect) or next(
        (name for ending, name in _PATHS.items() if path.endswith(ending)), None
    )


def _known(found: Mapping[str, Any]) -> Attributes:
    return {name: value for name, value in found.items() if value is not None}


def _ns(time: datetime | None) -> int | None:
    at = utc(time)
    return None if at is None else int(at.timestamp() * 1_000_000) * 1000
