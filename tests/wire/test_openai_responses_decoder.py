"""What gateways leave out, change and repeat: every word comes through, and none twice."""

import json
from typing import Any

import pytest

from llmbridge.canon.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Delta,
    Fail,
    Finish,
    Start,
    fold,
)
from llmbridge.canon.messages import AssistantMessage, Block, Text, Thinking, ToolCall, Usage
from llmbridge.wire.openai_responses import OPENAI_RESPONSES
from llmbridge.wire.sse import SSE

USAGE = {
    "input_tokens": 30,
    "input_tokens_details": {"cached_tokens": 20},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 8},
    "total_tokens": 42,
}
CREATED = {"type": "response.created", "response": {"id": "resp_1", "model": "m"}}
ASKED = '{"city":"Lisbon"}'
WEATHER = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather"}
CALL = ToolCall("call_1", "weather", {"city": "Lisbon"})


def feed(*events: dict[str, Any] | str) -> list[Delta]:
    """The deltas of a stream of these events, without event names."""
    decoder, deltas = OPENAI_RESPONSES.decoder(), list[Delta]()
    for event in events:
        deltas += decoder.feed(SSE(data=event if isinstance(event, str) else json.dumps(event)))
    return [*deltas, *decoder.close()]


def read(*events: dict[str, Any] | str) -> AssistantMessage:
    return fold(feed(*events))


def block(response: dict[str, Any]) -> AssistantMessage:
    return fold(OPENAI_RESPONSES.decode_reply(json.dumps(response).encode()))


def completed(*output: dict[str, Any], **more: Any) -> dict[str, Any]:
    response = {"id": "resp_1", "model": "m", "status": "completed", "output": output, **more}
    return {"type": "response.completed", "response": response}


def message(*texts: str, id: str = "msg_1") -> dict[str, Any]:
    content = [{"type": "output_text", "text": text} for text in texts]
    return {"type": "message", "id": id, "role": "assistant", "content": content}


def reasoning(**texts: str) -> dict[str, Any]:
    parts = {name: [{"type": "text", "text": text}] for name, text in texts.items()}
    return {"type": "reasoning", "id": "rs_1", "summary": [], **parts}


def piece(delta: str, kind: str = "output_text", /, **place: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "delta": delta, **place}


def added(item: dict[str, Any], **place: Any) -> dict[str, Any]:
    return {"type": "response.output_item.added", "item": item, **place}


def done(item: dict[str, Any], **place: Any) -> dict[str, Any]:
    return {"type": "response.output_item.done", "item": item, **place}


def said(*content: Block) -> AssistantMessage:
    called = any(isinstance(block, ToolCall) for block in content)
    return AssistantMessage(content, "m", "resp_1", "tool_use" if called else "stop", "completed")


def test_a_stream_becomes_one_delta_an_event() -> None:
    empty = {"type": "output_text", "text": ""}
    place: dict[str, Any] = {"output_index": 0, "content_index": 0, "item_id": "msg_1"}

    deltas = feed(
        CREATED,
        {"type": "response.in_progress", "response": {"id": "resp_1", "model": "m"}},
        added({"type": "message", "id": "msg_1", "content": []}, output_index=0),
        {"type": "response.content_part.added", **place, "part": empty},
        piece("Hel", **place),
        piece("lo", **place),
        {"type": "response.output_text.done", **place, "text": "Hello"},
        {"type": "response.content_part.done", **place, "part": {**empty, "text": "Hello"}},
        done(message("Hello"), output_index=0),
        completed(message("Hello"), usage=USAGE),
    )

    assert deltas == [
        Start("m", "resp_1"),
        BlockStart(0, Text()),
        BlockDelta(0, "Hel"),
        BlockDelta(0, "lo"),
        BlockEnd(0),
        Finish("stop", "completed", Usage(10, 20, None, 12, 8, 42), "m", "resp_1"),
    ]


@pytest.mark.parametrize(
    "events",
    [
        [completed(message("Hello"))],
        [CREATED, done(message("Hello"), output_index=0), completed()],
        [CREATED, added(message(), output_index=0), completed(message("Hello"))],
        [CREATED, {"type": "response.output_text.done", "text": "Hello"}, completed()],
        [CREATED, piece("Hello"), completed()],
        [CREATED, piece("Hel"), piece("lo"), completed(message("Hello"))],
        [CREATED, piece("Hel"), completed(message("Hello"))],
        [
            CREATED,
            piece("Hel", output_index=0),
            done(message("Hello"), output_index=0),
            completed(),
        ],
        [CREATED, piece("Hello"), done(message("Hello")), completed(message("Hello"))],
        [piece("Hello", item_id="msg_1"), completed(message("Hello"))],
        [CREATED, piece("Hello", item_id="msg_1"), completed(message("Hello")), "[DONE]"],
        [CREATED, piece("Hello", content_index=1), completed(message("Hello"))],
        [CREATED, piece("Hello", output_index=3), completed(message("Hello"))],
        [CREATED, piece("Hello", item_id="x", output_index=0), completed(message("Hello", id="y"))],
        [CREATED, piece("Hello", output_index=1), completed(message("Hello", id="y"))],
        [CREATED, piece("Hello", output_index=0), completed(message("Good bye"))],
        [
            CREATED,
            *[done(message("Hello"), output_index=0)] * 2,
            *[completed(message("Hello"))] * 2,
        ],
        [CREATED, "{", "[]", "null", "", '{"type":7}', piece("Hello"), completed()],
        [CREATED, {"type": "response.mood", "delta": {"glow": 1}}, piece("Hello"), completed()],
        [
            CREATED,
            done({"type": "hologram", "id": "h"}, output_index=0),
            completed(message("Hello")),
        ],
    ],
)
def test_text_comes_once_wherever_it_is_said(events: list[dict[str, Any] | str]) -> None:
    assert read(*events) == said(Text("Hello"))


def test_each_part_of_a_message_is_a_block() -> None:
    streamed = read(
        CREATED,
        piece("One", output_index=0, content_index=0),
        piece("Two", output_index=0, content_index=1),
        completed(message("One", "Two")),
    )

    assert [streamed, block(completed(message("One", "Two"))["response"])] == [
        said(Text("One"), Text("Two"))
    ] * 2


def test_parts_counted_from_one_are_the_same_parts() -> None:
    answer = message("One", "Two")

    streamed = read(
        CREATED,
        piece("One", output_index=0, content_index=1),
        piece("Two", output_index=0, content_index=2),
        done(answer, output_index=0),
        completed(answer),
    )

    assert streamed == said(Text("One"), Text("Two"))


@pytest.mark.parametrize("ends", [True, False], ids=["with-ends", "without-ends"])
def test_items_that_all_have_index_zero_are_told_apart_by_their_ids(ends: bool) -> None:
    one, two = message("One", id="msg_1"), message("Two", id="msg_2")

    streamed = read(
        CREATED,
        added({**one, "content": []}, output_index=0),
        piece("One", output_index=0, item_id="msg_1"),
        *([done(one, output_index=0)] if ends else []),
        added({**two, "content": []}, output_index=0),
        piece("Two", output_index=0, item_id="msg_2"),
        *([done(two, output_index=0)] if ends else []),
        completed(one, two),
    )

    assert streamed == said(Text("One"), Text("Two"))


def test_ids_that_change_from_event_to_event_do_not_matter() -> None:
    sealed = {**reasoning(), "encrypted_content": "gAAAA"}

    streamed = read(
        CREATED,
        added({**sealed, "id": "a"}, output_index=0),
        done({**sealed, "id": "b"}, output_index=0),
        added({**message(), "id": "c"}, output_index=1),
        piece("Hello", output_index=1, item_id="d"),
        done(message("Hello", id="e"), output_index=1),
        added({**WEATHER, "id": "f"}, output_index=2),
        piece(ASKED, "function_call_arguments", output_index=2, item_id="g"),
        done({**WEATHER, "id": "h", "arguments": ASKED}, output_index=2),
        completed(
            {**sealed, "id": "i"},
            message("Hello", id="j"),
            {**WEATHER, "id": "k", "arguments": ASKED},
        ),
    )

    assert streamed == said(Thinking("", "gAAAA", redacted=True), Text("Hello"), CALL)


def test_items_without_an_index_are_told_apart_by_their_ids() -> None:
    other = {**WEATHER, "id": "fc_2", "call_id": "call_2", "name": "tides"}

    streamed = read(
        CREATED,
        added(WEATHER),
        added(other),
        piece('{"days":', "function_call_arguments", item_id="fc_2"),
        piece(ASKED, "function_call_arguments", item_id="fc_1"),
        piece("2}", "function_call_arguments", item_id="fc_2"),
        completed({**WEATHER, "arguments": ASKED}, {**other, "arguments": '{"days":2}'}),
    )

    assert streamed == said(CALL, ToolCall("call_2", "tides", {"days": 2}))


def test_items_of_one_id_are_all_read() -> None:
    thought = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "T"}],
    }

    whole = block(completed(thought, message("One"), thought, message("Two"))["response"])

    assert whole == said(Thinking("T"), Text("One"), Thinking("T"), Text("Two"))


@pytest.mark.parametrize(
    "events",
    [
        [completed({**WEATHER, "arguments": ASKED})],
        [done({**WEATHER, "arguments": ASKED}, output_index=0), completed()],
        [
            added({**WEATHER, "arguments": ""}, output_index=0),
            {
                "type": "response.function_call_arguments.done",
                "arguments": ASKED,
                "output_index": 0,
            },
            completed(),
        ],
        [
            added({**WEATHER, "arguments": ASKED}, output_index=0),
            piece(ASKED[:5], "function_call_arguments", output_index=0),
            piece(ASKED[5:], "function_call_arguments", output_index=0),
            completed({**WEATHER, "arguments": ASKED}),
        ],
        [
            piece(ASKED[:5], "function_call_arguments", output_index=0),
            piece(ASKED[5:], "function_call_arguments", output_index=0),
            done({**WEATHER, "arguments": ASKED}, output_index=0),
            completed({**WEATHER, "id": "fc_other", "arguments": ASKED}),
        ],
        [completed({**WEATHER, "arguments": {"city": "Lisbon"}})],
    ],
)
def test_a_call_comes_once_wherever_it_is_said(events: list[dict[str, Any]]) -> None:
    assert read(CREATED, *events) == said(CALL)


@pytest.mark.parametrize("arguments", ["", None])
def test_no_arguments_make_no_delta(arguments: str | None) -> None:
    deltas = feed(CREATED, done({**WEATHER, "arguments": arguments}, output_index=0), completed())

    assert deltas[1:3] == [BlockStart(0, ToolCall("call_1", "weather")), BlockEnd(0)]


@pytest.mark.parametrize(
    ("events", "thought"),
    [
        ([done(reasoning(content="Full.", summary="Short."))], "Full."),
        ([done(reasoning(summary="Short."))], "Short."),
        ([piece("Full.", "reasoning_text"), piece("Short.", "reasoning_summary_text")], "Full."),
        (
            [
                piece("Short.", "reasoning_summary_text", output_index=0),
                done(reasoning(content="Full.", summary="Short."), output_index=0),
            ],
            "Short.",
        ),
        ([piece("Full.", "reasoning")], "Full."),
    ],
)
def test_reasoning_told_in_full_and_in_short_is_read_once(
    events: list[dict[str, Any]], thought: str
) -> None:
    assert read(CREATED, *events, completed()) == said(Thinking(thought))


def test_the_parts_of_a_summary_are_joined_and_its_seal_is_the_signature() -> None:
    parts = [{"type": "summary_text", "text": text} for text in ("One.", "Two.")]
    item = {**reasoning(), "summary": parts, "encrypted_content": "gAAAA-whole"}

    streamed = read(
        CREATED,
        added({**reasoning(), "encrypted_content": "gAAAA-cut"}, output_index=0),
        piece("One.", "reasoning_summary_text", output_index=0, summary_index=0),
        piece("Tw", "reasoning_summary_text", output_index=0, summary_index=1),
        {
            "type": "response.reasoning_summary_text.done",
            "output_index": 0,
            "summary_index": 1,
            "text": "Two.",
        },
        done(item, output_index=0),
        completed(item),
    )

    assert streamed == said(Thinking("One.Two.", "gAAAA-whole"))


def test_reasoning_without_text_or_seal_is_no_block() -> None:
    assert read(CREATED, done(reasoning()), completed(message("Six."))) == said(Text("Six."))


@pytest.mark.parametrize(
    ("event", "failure"),
    [
        (
            {"type": "error", "code": "server_error", "message": "no", "param": None},
            Fail("server_error", "no"),
        ),
        (
            {"type": "error", "error": {"type": "overloaded", "code": "x", "message": "no"}},
            Fail("overloaded", "no"),
        ),
        ({"error": {"code": 429, "message": "no"}}, Fail("429", "no")),
        ({"type": "error", "error": "no"}, Fail(None, "no")),
        (
            {"type": "response.failed", "response": {"error": {"code": "x", "message": "no"}}},
            Fail("x", "no", stop="failed"),
        ),
        (
            {
                "type": "response.failed",
                "response": {"status": "failed", "error": None, "usage": USAGE},
            },
            Fail(stop="failed", usage=Usage(10, 20, None, 12, 8, 42)),
        ),
    ],
)
def test_an_error_keeps_what_came_and_ends_the_stream(event: dict[str, Any], failure: Fail) -> None:
    deltas = feed(piece("Hel"), event, piece("lo"), completed(message("Hello")))

    assert deltas == [
        Start(),
        BlockStart(0, Text()),
        BlockDelta(0, "Hel"),
        BlockEnd(0),
        failure,
    ]


def test_a_stream_that_stops_keeps_what_came() -> None:
    usage = {"type": "response.in_progress", "response": {"usage": USAGE}}

    deltas = feed(CREATED, usage, piece("Hel"), "[DONE]")

    assert deltas == [
        Start("m", "resp_1"),
        BlockStart(0, Text()),
        BlockDelta(0, "Hel"),
        BlockEnd(0),
        Fail(
            "truncated",
            "the stream stopped before response.completed",
            usage=Usage(10, 20, None, 12, 8, 42),
            model="m",
            response_id="resp_1",
        ),
    ]


def test_a_model_and_an_id_that_come_late_are_told_at_the_end() -> None:
    opening = {"type": "response.created", "response": {"id": "", "model": None}}

    deltas = feed(opening, completed(usage=None))

    assert deltas == [Start(), Finish("stop", "completed", None, "m", "resp_1")]


@pytest.mark.parametrize(
    ("response", "ending"),
    [
        ({"status": "queued"}, Finish(None, "queued")),
        ({"status": "in_progress"}, Finish(None, "in_progress")),
        ({"status": "cancelled"}, Finish("aborted", "cancelled")),
        ({"status": "incomplete"}, Finish("length", "incomplete")),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            Finish("content_filter", "incomplete"),
        ),
        ({}, Finish("stop", None)),
        (
            {"status": "failed", "error": {"code": "server_error", "message": "no"}},
            Fail("server_error", "no", stop="failed"),
        ),
    ],
)
def test_the_status_of_a_block_says_how_it_ended(
    response: dict[str, Any], ending: Finish | Fail
) -> None:
    body = json.dumps({"object": "response", "output": [], **response}).encode()

    assert list(OPENAI_RESPONSES.decode_reply(body)) == [Start(), ending]


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (b'{"error":{"type":"tokens","code":"x","message":"no"}}', Fail("tokens", "no")),
        (b'{"code":"invalid-argument","error":"no"}', Fail(None, "no")),
        (b'{"type":"error","error":{"type":"api_error","message":"no"}}', Fail("api_error", "no")),
    ],
)
def test_an_error_body_fails(body: bytes, failure: Fail) -> None:
    assert list(OPENAI_RESPONSES.decode_reply(body)) == [failure]


@pytest.mark.parametrize(
    "body", [b"", b"no", b"[]", b"{}", b'{"detail":"Not Found"}', b'{"error":']
)
def test_what_is_no_response_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        OPENAI_RESPONSES.decode_reply(body)
