"""Replies in the API's own form: what comes back is what went in, and the official SDK reads it."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseFunctionToolCall

from llmbridge.canon.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Delta,
    Fail,
    Finish,
    Snapshot,
    Start,
    fold,
    unfold,
)
from llmbridge.canon.messages import (
    Ask,
    AssistantMessage,
    Block,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from llmbridge.errors import Overloaded
from llmbridge.wire.openai_responses import OPENAI_RESPONSES
from llmbridge.wire.sse import SSEDecoder, encode_sse
from tests.conformance.strategies import arguments, text, tool_calls, usages

ANSWER = AssistantMessage(
    (
        Thinking("The harbour\nfaces south.", "gAAAA"),
        Text("I will look up “both”. 🌊"),
        ToolCall("call_1", "get_tides", {"harbour": "Cascais", "days": [1, 2]}),
        ToolCall("call_2", "list_harbours", {}),
    ),
    "gpt-5-mini",
    "resp_1",
    "tool_use",
    "completed",
    Usage(10, 20, 0, 12, 8, 42),
)
USAGE = {
    "input_tokens": 30,
    "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 0},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 8},
    "total_tokens": 42,
}


def stream(deltas: Iterable[Delta], model: str = "") -> bytes:
    snapshot, encoder = Snapshot(), OPENAI_RESPONSES.encoder(Ask(model))
    events = (snapshot.apply(delta) for delta in deltas)
    return b"".join(encode_sse(sse) for event in events for sse in encoder.feed(event))


def data_of(body: bytes) -> list[dict[str, Any]]:
    events = SSEDecoder().feed(body)
    assert [sse.event for sse in events] == [json.loads(sse.data)["type"] for sse in events]
    return [json.loads(sse.data) for sse in events]


def read(body: bytes) -> AssistantMessage:
    decoder = OPENAI_RESPONSES.decoder()
    deltas = [delta for sse in SSEDecoder().feed(body) for delta in decoder.feed(sse)]
    return fold([*deltas, *decoder.close()])


blocks = st.one_of(
    st.builds(Text, st.just("") | text),
    st.builds(Thinking, text, st.none() | text),
    st.builds(Thinking, st.just(""), text, st.just(True)),
    tool_calls,
    st.builds(ToolCall, text, text, arguments, server=st.just(True)),
    st.builds(lambda id, name, said: ToolCall(id, name, said, said, custom=True), text, text, text),
)


@st.composite
def carried(draw: st.DrawFn) -> AssistantMessage:
    """Any message that the wire can carry.

    It cannot: a signature on text, thinking with neither text nor signature or with both and `redacted`, a custom tool
    that the provider runs, a call or a reply without a name or an id, a word for the stop that is not a status, the
    reason `tool_use` without a call or `stop` with one, counts that are not known, `content_filter` that completed
    without a refusal, an error without type or message.
    """
    content: list[Block] = draw(st.lists(blocks, max_size=5))
    called = any(isinstance(block, ToolCall) and not block.server for block in content)
    refused = draw(st.booleans())
    if refused:
        content.append(Text(draw(text), refusal=True))
    whole: StopReason = "content_filter" if refused else "tool_use" if called else "stop"
    ending: tuple[StopReason | None, str, str | None, str | None] = draw(
        st.sampled_from(
            [
                (whole, "completed", None, None),
                ("length", "incomplete", None, None),
                ("content_filter", "incomplete", None, None),
                ("error", "failed", "server_error", "It broke."),
                ("aborted", "cancelled", None, None),
                (None, "queued", None, None),
            ]
        )
    )
    reason, stop, error_type, error = ending
    usage = draw(st.none() | usages())
    return AssistantMessage(
        tuple(content), draw(text), draw(text), reason, stop, usage, error_type, error
    )


@given(message=carried())
def test_a_block_comes_back_as_it_was(message: AssistantMessage) -> None:
    assert fold(OPENAI_RESPONSES.decode_reply(OPENAI_RESPONSES.encode_reply(message))) == message


@given(message=carried())
def test_a_stream_comes_back_as_it_was(message: AssistantMessage) -> None:
    assert read(stream(unfold(message))) == message


@given(message=carried())
def test_a_stream_ends_in_the_block(message: AssistantMessage) -> None:
    ending = data_of(stream(unfold(message)))[-1]

    assert ending["response"] == json.loads(OPENAI_RESPONSES.encode_reply(message))


@given(message=carried())
def test_events_are_numbered_and_every_item_begins_and_ends_as_it_is_at_the_end(
    message: AssistantMessage,
) -> None:
    events = data_of(stream(unfold(message)))

    output = events[-1]["response"]["output"]
    begun = [event["item"]["id"] for event in events if event["type"].endswith("item.added")]
    ended = [event["item"] for event in events if event["type"].endswith("item.done")]
    assert (
        [event["sequence_number"] for event in events],
        begun,
        ended,
    ) == (list(range(len(events))), [item["id"] for item in output], output)


def test_a_stream_is_spelled_as_the_api_spells_it() -> None:
    deltas: list[Delta] = [
        Start("m", "resp_1"),
        BlockStart(0, Thinking()),
        BlockDelta(0, "Hm."),
        BlockEnd(0, "gAAAA"),
        BlockStart(1, Text()),
        BlockDelta(1, "Hel"),
        BlockDelta(1, "lo"),
        BlockEnd(1),
        BlockStart(2, ToolCall("call_1", "weather")),
        BlockEnd(2),
        Finish("tool_use", "completed", Usage(10, 20, 0, 12, 8, 42)),
    ]

    told = [
        {key: value for key, value in event.items() if key not in ("sequence_number", "response")}
        for event in data_of(stream(deltas))
    ]

    thought = {"item_id": "rs_1_0", "output_index": 0, "summary_index": 0}
    said = {"item_id": "msg_1_1", "output_index": 1, "content_index": 0}
    called = {"item_id": "fc_1_2", "output_index": 2}
    reasoning = {"id": "rs_1_0", "type": "reasoning", "summary": []}
    summary = {"type": "summary_text", "text": "Hm."}
    message = {"id": "msg_1_1", "type": "message", "role": "assistant"}
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello"}
    call = {"id": "fc_1_2", "type": "function_call", "call_id": "call_1", "name": "weather"}
    assert told == [
        {"type": "response.created"},
        {"type": "response.in_progress"},
        {"type": "response.output_item.added", "output_index": 0, "item": reasoning},
        {
            "type": "response.reasoning_summary_part.added",
            **thought,
            "part": {**summary, "text": ""},
        },
        {"type": "response.reasoning_summary_text.delta", **thought, "delta": "Hm."},
        {"type": "response.reasoning_summary_text.done", **thought, "text": "Hm."},
        {"type": "response.reasoning_summary_part.done", **thought, "part": summary},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {**reasoning, "summary": [summary], "encrypted_content": "gAAAA"},
        },
        {
            "type": "response.output_item.added",
            "output_index": 1,
            "item": {**message, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **said, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", **said, "delta": "Hel", "logprobs": []},
        {"type": "response.output_text.delta", **said, "delta": "lo", "logprobs": []},
        {"type": "response.output_text.done", **said, "text": "Hello", "logprobs": []},
        {"type": "response.content_part.done", **said, "part": part},
        {
            "type": "response.output_item.done",
            "output_index": 1,
            "item": {**message, "status": "completed", "content": [part]},
        },
        {
            "type": "response.output_item.added",
            "output_index": 2,
            "item": {**call, "status": "in_progress", "arguments": ""},
        },
        {"type": "response.function_call_arguments.delta", **called, "delta": "{}"},
        {
            "type": "response.function_call_arguments.done",
            **called,
            "name": "weather",
            "arguments": "{}",
        },
        {
            "type": "response.output_item.done",
            "output_index": 2,
            "item": {**call, "status": "completed", "arguments": "{}"},
        },
        {"type": "response.completed"},
    ]


def test_an_id_that_comes_with_the_end_is_too_late() -> None:
    events = data_of(stream([Start(), Finish("stop", response_id="late", model="m")], "asked"))

    told = [(event["response"]["id"], event["response"]["model"]) for event in events]
    assert told == [
        ("resp_llmbridge", "asked"),
        ("resp_llmbridge", "asked"),
        ("resp_llmbridge", "m"),
    ]


def test_a_failure_before_the_start_is_a_whole_stream() -> None:
    events = data_of(stream([Fail("overloaded_error", "try later")]))

    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.failed",
    ]


def client(body: bytes, content_type: str, status: int = 200) -> openai.OpenAI:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": content_type}, content=body)

    transport = httpx2.MockTransport(answer)
    return openai.OpenAI(
        api_key="none",
        base_url="http://bridge.test/v1",
        http_client=httpx2.Client(transport=transport),
        max_retries=0,
    )


def as_the_sdk_has_it(response: Response) -> tuple[Any, ...]:
    calls = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
    return (
        response.id,
        response.model,
        response.status,
        response.output_text,
        [(call.call_id, call.name, json.loads(call.arguments)) for call in calls],
        response.usage and response.usage.to_dict(),
    )


SEEN = (
    "resp_1",
    "gpt-5-mini",
    "completed",
    "I will look up “both”. 🌊",
    [
        ("call_1", "get_tides", {"harbour": "Cascais", "days": [1, 2]}),
        ("call_2", "list_harbours", {}),
    ],
    USAGE,
)


def test_the_official_sdk_reads_our_block() -> None:
    sdk = client(OPENAI_RESPONSES.encode_reply(ANSWER), "application/json")

    assert as_the_sdk_has_it(sdk.responses.create(model="m", input="Hi")) == SEEN


def test_the_official_sdk_puts_our_stream_together() -> None:
    sdk = client(stream(unfold(ANSWER)), "text/event-stream")

    with sdk.responses.stream(model="m", input="Hi") as events:
        response = events.get_final_response()

    assert as_the_sdk_has_it(response) == SEEN


def test_the_official_sdk_finds_every_event_of_ours_complete() -> None:
    sdk = client(stream(unfold(ANSWER)), "text/event-stream")

    events = list(sdk.responses.create(model="m", input="Hi", stream=True))

    # Its models are made without validation; validating them again shows what they lack.
    again = [type(event).model_validate(event.to_dict(), strict=True) for event in events]
    assert [event.to_dict() for event in again] == data_of(stream(unfold(ANSWER)))


@pytest.mark.parametrize(
    ("block", "piece"),
    [
        (Text("No.", refusal=True), "response.refusal.delta"),
        (
            ToolCall("call_1", "run_sql", "SELECT 1", custom=True),
            "response.custom_tool_call_input.delta",
        ),
        (
            ToolCall("mcp_1", "read_log", {"ship": "Aurora"}, server=True),
            "response.mcp_call_arguments.delta",
        ),
        (Thinking("", "gAAAA", redacted=True), "response.completed"),
    ],
)
def test_the_official_sdk_reads_the_rarer_items(block: Block, piece: str) -> None:
    message = AssistantMessage((block,), "m", "resp_1", "stop", "completed")
    sdk = client(stream(unfold(message)), "text/event-stream")

    with sdk.responses.stream(model="m", input="Hi") as events:
        types = [event.type for event in events]
        response = events.get_final_response()

    again = Response.model_validate(response.to_dict(), strict=True)
    assert piece in types
    assert again.to_dict()["output"] == json.loads(OPENAI_RESPONSES.encode_reply(message))["output"]


def test_the_official_sdk_raises_at_our_error_event() -> None:
    event = OPENAI_RESPONSES.encode_error_event(Overloaded("try later"))
    cut = stream([Start("m", "resp_1"), BlockStart(0, Text()), BlockDelta(0, "Hel")])
    sdk = client(cut + encode_sse(event), "text/event-stream")

    with pytest.raises(openai.APIError, match="try later"):
        list(sdk.responses.create(model="m", input="Hi", stream=True))


def test_the_official_sdk_raises_its_own_error_for_ours() -> None:
    body = OPENAI_RESPONSES.encode_error(Overloaded("try later"))
    sdk = client(body, "application/json", 503)

    with pytest.raises(openai.InternalServerError, match="try later"):
        sdk.responses.create(model="m", input="Hi")


def test_the_official_sdk_sees_a_failure_in_the_stream() -> None:
    failed = AssistantMessage(
        (Text("Hel"),), "m", "resp_1", "error", "failed", None, "x", "It broke."
    )
    sdk = client(stream(unfold(failed)), "text/event-stream")

    *_, last = sdk.responses.create(model="m", input="Hi", stream=True)

    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.to_dict() == {"code": "x", "message": "It broke."}


WHOLES = ("text.done", "refusal.done", "arguments.done", "input.done")
REPEATED = (("item.added",), ("part.added",), (".delta",), WHOLES, ("part.done",), ("item.done",))


def in_any_order(message: AssistantMessage) -> tuple[Any, ...]:
    content = sorted((block for block in message.content if block != Text()), key=repr)
    return replace(message, content=()), content


@given(message=carried(), left_out=st.sets(st.sampled_from(REPEATED)), numbered=st.booleans())
def test_a_gateway_may_leave_out_what_is_said_again(
    message: AssistantMessage, left_out: set[tuple[str, ...]], numbered: bool
) -> None:
    """An empty text and the order of the blocks are lost when only some of them are told before the end."""
    served = [call.id for call in message.tool_calls if call.server]
    assume(len(served) == len(set(served)))
    endings = tuple(ending for group in left_out for ending in group)
    told = [
        {key: value for key, value in event.items() if numbered or key != "output_index"}
        for event in data_of(stream(unfold(message)))
        if not event["type"].endswith(endings)
    ]

    back = read(b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in told))

    assert in_any_order(back) == in_any_order(message)
