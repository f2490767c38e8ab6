"""Spans as OpenTelemetry's SDK collects them."""

from collections.abc import Iterator

import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from llmbridge import Bridge, Script, calls, fail, reply
from llmbridge.canon.messages import Usage
from llmbridge.frames.metrics import MeteredStore
from llmbridge.frames.traces import TracedStore

USAGE = Usage(7, 2, 1, 5, 3, 15)


class Spans:
    """Where the spans of a test go."""

    def __init__(self) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False)
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def of(self, bridge: Bridge) -> list[ReadableSpan]:
        """The spans, the outermost last; all that has ended is in them."""
        assert isinstance(bridge.store, TracedStore)
        bridge.store.catch_up()
        return list(self._exporter.get_finished_spans())


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    yield made
    made.provider.shutdown()


def bridge_of(spans: Spans, *lines: object, **options: object) -> Bridge:
    store = TracedStore(tracer_provider=spans.provider)
    return Bridge(Script(*lines), store=store, environ={}, **options)  # type: ignore[arg-type]


QUESTION = {
    "model": "gpt-5-mini",
    "max_tokens": 99,
    "messages": [{"role": "user", "content": "What time?"}],
}


def ask(bridge: Bridge, path: str = "/openai/v1/chat/completions", **headers: str) -> None:
    with httpx2.Client(transport=bridge.transport(), base_url="http://localhost") as client:
        client.post(path, json=QUESTION, headers=headers)


def told(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


@pytest.mark.feature("gateway", 36)
def test_a_call_is_a_span_with_its_round_below(spans: Spans) -> None:
    with bridge_of(spans, reply("It is noon.", usage=USAGE)) as bridge:
        ask(bridge, **{"x-llmbridge-actor": "ann"})
        inner, outer = spans.of(bridge)
        (interception,) = bridge.interceptions
        (record,) = bridge.records

    assert (outer.name, outer.kind, outer.parent) == (
        "POST /openai/v1/chat/completions",
        SpanKind.INTERNAL,
        None,
    )
    assert told(outer) == {
        "http.request.method": "POST",
        "url.path": "/openai/v1/chat/completions",
        "http.response.status_code": 200,
        "user.id": "ann",
        "llmbridge.interception.id": interception.id,
        "llmbridge.client": interception.client,
        "llmbridge.end": "completed",
    }
    assert (inner.name, inner.kind) == ("chat gpt-5-mini", SpanKind.CLIENT)
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    message = record.message
    assert message is not None
    assert told(inner) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.response.id": message.response_id,
        "gen_ai.response.model": "gpt-5-mini",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.cache_write.input_tokens": 1,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "http.response.status_code": 200,
        "llmbridge.round": 0,
        "server.address": "api.openai.com",
        "server.port": 443,
    }
    assert outer.start_time == int(interception.started_at.timestamp() * 1_000_000) * 1000
    assert outer.start_time <= inner.start_time <= inner.end_time <= outer.end_time  # type: ignore[operator]


def test_an_error_is_told_by_its_type(spans: Spans) -> None:
    with bridge_of(spans, fail(429, message="Slow down.")) as bridge:
        ask(bridge)
        inner, outer = spans.of(bridge)

    assert (inner.status.status_code, outer.status.status_code) == (
        StatusCode.ERROR,
        StatusCode.ERROR,
    )
    assert told(inner)["error.type"] == "rate_limit_error"
    assert told(inner)["http.response.status_code"] == 429


@pytest.mark.feature("gateway", 36)
def test_tools_that_the_bridge_ran_are_spans(spans: Spans) -> None:
    def clock(zone: str) -> str:
        """The time."""
        raise ValueError(f"there is no {zone}")

    with bridge_of(spans, calls("clock", zone="Mars"), "I do not know.", tools=[clock]) as bridge:
        ask(bridge, path="/anthropic/v1/messages")
        *inner, outer = spans.of(bridge)
        ((run,),) = (each.tool_runs for each in bridge.interceptions)

    assert [span.name for span in inner] == [
        "chat gpt-5-mini",
        "chat gpt-5-mini",
        "execute_tool clock",
    ]
    assert {span.parent and span.parent.span_id for span in inner} == {outer.context.span_id}
    tool = told(inner[2])
    assert tool.pop("gen_ai.tool.call.id")
    assert tool == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "clock",
        "gen_ai.tool.type": "extension",
        "error.type": "tool_error",
    }
    assert run.started_at is not None
    assert inner[2].start_time == int(run.started_at.timestamp() * 1_000_000) * 1000
    assert "Mars" not in str([span.to_json() for span in (*inner, outer)])


def test_the_span_that_is_current_in_this_process_is_the_parent(spans: Spans) -> None:
    tracer = spans.provider.get_tracer("test")
    with bridge_of(spans, "It is noon.") as bridge:
        with tracer.start_as_current_span("agent") as agent:
            ask(bridge)
        outer = next(span for span in spans.of(bridge) if span.name.startswith("POST"))

    assert outer.parent is not None
    assert outer.parent.span_id == agent.get_span_context().span_id


def test_a_client_over_http_names_its_span_in_a_header(spans: Spans) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    with bridge_of(spans, "It is noon.") as bridge, bridge.serve() as server:
        httpx2.post(
            f"{server.url}/openai/v1/chat/completions",
            json=QUESTION,
            headers={"traceparent": f"00-{trace}-{parent}-01"},
        )
        _, outer = spans.of(bridge)

    assert outer.kind == SpanKind.SERVER
    assert outer.parent is not None
    assert f"{outer.context.trace_id:032x}" == trace
    assert f"{outer.parent.span_id:016x}" == parent


def test_where_a_server_was_started_is_no_parent(spans: Spans) -> None:
    tracer = spans.provider.get_tracer("test")
    with bridge_of(spans, "It is noon.") as bridge:
        with tracer.start_as_current_span("start-up"):
            server = bridge.serve()
        httpx2.post(f"{server.url}/openai/v1/chat/completions", json=QUESTION)
        outer = next(span for span in spans.of(bridge) if span.name.startswith("POST"))

    assert outer.parent is None


@pytest.mark.parametrize("sent", ["", "00-zz-1-01", "x" * 3000])
def test_a_header_that_names_no_span_begins_a_trace(spans: Spans, sent: str) -> None:
    with bridge_of(spans, "It is noon.") as bridge:
        ask(bridge, traceparent=sent)
        assert [span.parent is None for span in spans.of(bridge)] == [False, True]


def test_what_is_traced_can_be_counted_too(spans: Spans) -> None:
    store = TracedStore(MeteredStore(), tracer_provider=spans.provider)
    with Bridge(Script("It is noon."), store=store, environ={}) as bridge, bridge.serve() as server:
        ask(bridge)
        store.catch_up()
        text = httpx2.get(f"{server.url}/metrics").text

    assert 'interceptions_duration_seconds_count{model="gpt-5-mini",provider="openai"} 1.0' in text


def test_a_tracer_that_fails_holds_up_nothing(
    spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(TracerProvider):
        def get_tracer(self, *args: object, **options: object) -> object:  # type: ignore[override]
            return self

        def start_span(self, *args: object, **options: object) -> object:
            raise OSError("no collector")

    store = TracedStore(tracer_provider=Broken(shutdown_on_exit=False))
    with Bridge(Script("It is noon.", "It is late."), store=store, environ={}) as bridge:
        ask(bridge)
        ask(bridge)
        store.catch_up()
        assert [each.end for each in bridge.interceptions] == ["completed", "completed"]
    assert caplog.text.count("no collector") >= 2
