"""The wire of `/stream`: exact bytes, both kinds of client, and what a cut or lossy stream means."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    Context,
    Text,
    ToolCall,
    Usage,
    UserMessage,
)
from llmbridge.errors import RequestError
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.proxy_api_stream import API_STREAM
from llmbridge.wire.proxy_stream import LINE_BYTES, PROXY_STREAM, PROXY_STREAMS, Wire
from llmbridge.wire.sse import SSE, SSEDecoder, encode_sse
from tests.conformance.strategies import messages

NOBODY = Ask()
USAGE = Usage(10, 0, 0, 5, None, 15)
COST = '"cost":{"input":0,"output":0,"cache_read":0,"cache_write":0,"total":0}'
ZEROS = f'"usage":{{"input":0,"output":0,"cache_read":0,"cache_write":0,"total_tokens":0,{COST}}}'


def sent(message: AssistantMessage, wire: Wire, ask: Ask = NOBODY) -> bytes:
    return stream(list(unfold(message)), wire, ask)


def stream(deltas: list[Delta], wire: Wire, ask: Ask = NOBODY) -> bytes:
    snapshot, encoder = Snapshot(), PROXY_STREAMS[wire].encoder(ask)
    events = (snapshot.apply(delta) for delta in deltas)
    return b"".join(encode_sse(sse) for event in events for sse in encoder.feed(event))


def read(body: bytes) -> AssistantMessage:
    sse, decoder = SSEDecoder(), PROXY_STREAM.decoder()
    deltas = [delta for event in sse.feed(body) for delta in decoder.feed(event)]
    return fold([*deltas, *decoder.close()])


def lines(*events: str) -> bytes:
    return "".join(f"data: {event}\n\n" for event in events).encode()


@pytest.mark.feature("bitop", 8, 12)
def test_an_answer_goes_over_the_wire_as_the_original_sends_it() -> None:
    text = (BlockStart(0, Text()), BlockDelta(0, "Hello"), BlockDelta(0, ", world!"), BlockEnd(0))
    deltas: list[Delta] = [Start(), *text, Finish("stop", usage=USAGE)]

    assert stream(deltas, "wire", Ask("test-model", provider="mock")) == lines(
        '{"type":"text_delta","delta":"Hello"}',
        '{"type":"text_delta","delta":", world!"}',
        '{"type":"message_end","stop_reason":"stop","usage":{"input":10,"output":5,"cache_read":0,'
        f'"cache_write":0,"total_tokens":15,{COST}}},"model":"test-model","provider":"mock"}}',
        "[DONE]",
    )


@pytest.mark.feature("bitop", 12)
def test_a_tool_call_has_its_id_and_its_name() -> None:
    call = ToolCall("c1", "bash", {"command": "ls"})
    message = AssistantMessage((call,), stop_reason="tool_use")

    assert sent(message, "wire") == lines(
        '{"type":"tool_call_start","id":"c1","name":"bash"}',
        '{"type":"tool_call_args_delta","delta":"{\\"command\\":\\"ls\\"}","id":"c1"}',
        f'{{"type":"message_end","stop_reason":"tool_use",{ZEROS}}}',
        "[DONE]",
    )


@pytest.mark.feature("bitop", 12)
def test_a_failure_is_the_message_s_end() -> None:
    failed: list[Delta] = [Fail("overloaded", "anthropic: HTTP 529: overloaded")]

    assert stream(failed, "wire") == lines(
        '{"type":"message_end","stop_reason":"error","error_message":"anthropic: HTTP 529: overloaded"}',
        "[DONE]",
    )


@pytest.mark.parametrize("wire", PROXY_STREAMS)
def test_a_failure_without_words_is_told_all_the_same(wire: Wire) -> None:
    body = stream([Start(), Fail("api_error")], wire)

    assert b'"error_message":"the answer broke off"' in body


def test_what_html_could_read_is_escaped_as_go_does() -> None:
    body = sent(AssistantMessage((Text("<a&b>\u2028"),), stop_reason="stop"), "wire")

    assert b'"delta":"\\u003ca\\u0026b\\u003e\\u2028"' in body


@pytest.mark.feature("bitop", 7, 8, 9, 10, 11)
def test_the_documented_events_carry_the_message_so_far() -> None:
    call = ToolCall("c1", "bash", {"command": "ls"})
    message = AssistantMessage((Text("Hi"), call), stop_reason="tool_use", usage=USAGE)
    body = sent(message, "documented", Ask("m", provider="anthropic"))
    events = [json.loads(event.data) for event in SSEDecoder().feed(body[: body.rindex(b"data")])]

    assert [
        (event["type"], event.get("delta"), event["partial"]["content"]) for event in events
    ] == [
        ("start", None, []),
        ("text_delta", "Hi", [{"type": "text", "text": "Hi"}]),
        ("tool_call_start", "bash", [{"type": "text", "text": "Hi"}, bare(call)]),
        ("tool_call_delta", '{"command":"ls"}', [{"type": "text", "text": "Hi"}, whole(call)]),
        ("tool_call_end", None, [{"type": "text", "text": "Hi"}, whole(call)]),
        ("done", None, [{"type": "text", "text": "Hi"}, whole(call)]),
    ]
    assert events[-1]["partial"]["stop_reason"] == "tool_use"
    assert events[0]["partial"]["provider"] == "anthropic"


def bare(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_call", "id": call.id, "name": call.name}


def whole(call: ToolCall) -> dict[str, Any]:
    return {**bare(call), "arguments": call.arguments}


def test_the_superset_keeps_each_line_within_what_go_reads() -> None:
    pieces = [BlockDelta(0, "y" * 5000)] * 40
    body = stream(
        [Start(), BlockStart(0, Text()), *pieces, BlockEnd(0), Finish("stop")], "superset"
    )

    assert max(map(len, body.split(b"\n"))) <= LINE_BYTES
    assert read(body).text == "y" * 200_000


@pytest.mark.parametrize("wire", ["wire", "superset"])
@pytest.mark.parametrize("letter", ["y", "<", "\u2028", "\u4e2d", "\U0001f600", '"'])
def test_one_long_piece_is_cut_to_lines_that_go_reads(wire: Wire, letter: str) -> None:
    long = letter * 70_000
    call = ToolCall("c1", "write", {"text": long})
    message = AssistantMessage((Text(long), call), stop_reason="tool_use")
    body = sent(message, wire)

    assert max(map(len, body.split(b"\n"))) <= LINE_BYTES
    assert read(body).content == message.content


def test_snapshots_are_measured_in_bytes() -> None:
    pieces = [BlockDelta(0, "\u4e2d" * 1000)] * 40
    body = stream(
        [Start(), BlockStart(0, Text()), *pieces, BlockEnd(0), Finish("stop")], "superset"
    )

    assert max(map(len, body.split(b"\n"))) <= LINE_BYTES


@pytest.mark.parametrize("wire", ["wire", "superset"])
def test_a_long_error_is_told_in_a_line_that_go_reads(wire: Wire) -> None:
    body = stream([Start(), Fail("api_error", "<" * 200_000)], wire)

    assert max(map(len, body.split(b"\n"))) <= LINE_BYTES
    assert read(body).stop_reason == "error"


@pytest.mark.parametrize(
    ("seen", "id"),
    [
        ({"type": "tool_call", "id": "c1", "name": "bash"}, "c1"),
        ({"type": "tool_call", "id": "c0", "name": "other"}, "call_0"),
        ({"type": "text", "text": "Hi"}, "call_0"),
    ],
)
def test_the_documented_wire_has_the_id_of_a_call_in_its_snapshot(
    seen: dict[str, Any], id: str
) -> None:
    begun = {"type": "tool_call_start", "delta": "bash", "partial": {"content": [seen]}}
    events = [begun, {"type": "done", "partial": {"stop_reason": "tool_use"}}]

    message = read(lines(*map(json.dumps, events)))

    assert message.content == (ToolCall(id, "bash", {}),)


@pytest.mark.parametrize("wire", PROXY_STREAMS)
@given(message=messages())
def test_a_message_comes_back_from_either_wire(wire: Wire, message: AssistantMessage) -> None:
    back = read(sent(message, wire))

    assert (carried(back, wire), back.stop_reason) == (carried(message, wire), message.stop_reason)


def carried(message: AssistantMessage, wire: Wire) -> list[Any]:
    """Content without signatures, which these wires lack, and without ids where the wire lacks them."""
    return [
        replace(block, id="" if wire == "documented" else block.id)
        if isinstance(block, ToolCall)
        else replace(block, signature=None)
        for block in message.content
    ]


@pytest.mark.feature("bitop", 16)
@pytest.mark.parametrize(
    ("events", "said"),
    [
        (['{"type":"text_delta","delta":"Hel"}'], "stopped before its end"),
        (['{"type":"tool_call_start"}'], "lost the name"),
        (['{"type":"tool_call_args_delta","delta":"{}"}'], "never began"),
        ([f'{{"type":"message_end","stop_reason":"tool_use",{ZEROS}}}'], "lost a tool call"),
        (['{"type":"message_end","stop_reason":"error","error_message":"boom"}'], "boom"),
        (
            [
                '{"type":"tool_call_start","id":"a","name":"x"}',
                '{"type":"tool_call_start","id":"a","name":"x"}',
            ],
            "lost the name or the id",
        ),
    ],
)
def test_what_was_lost_on_the_way_is_an_error(events: list[str], said: str) -> None:
    message = read(lines(*events))

    assert message.stop_reason == "error"
    assert said in str(message.error)


def test_arguments_of_several_calls_may_come_in_turn() -> None:
    message = read(
        lines(
            '{"type":"tool_call_start","id":"a","name":"x"}',
            '{"type":"tool_call_start","id":"b","name":"y"}',
            '{"type":"tool_call_args_delta","delta":"{\\"n\\":1","id":"a"}',
            '{"type":"tool_call_args_delta","delta":"{}","id":"b"}',
            '{"type":"tool_call_args_delta","delta":"}","id":"a"}',
            f'{{"type":"message_end","stop_reason":"tool_use",{ZEROS}}}',
        )
    )

    assert message.content == (ToolCall("a", "x", {"n": 1}), ToolCall("b", "y", {}))


@given(st.text(max_size=60))
def test_no_line_is_worse_than_passed_over(data: str) -> None:
    decoder = PROXY_STREAM.decoder()

    deltas = [*decoder.feed(SSE(data=data)), *decoder.close()]

    assert fold(deltas).stop_reason == "error"


@pytest.mark.feature("bitop", 1, 3)
def test_a_request_goes_out_as_the_original_client_sends_it() -> None:
    context = Context("You are helpful.", (UserMessage((Text("hi"),)),))
    body = PROXY_STREAM.encode_request(Ask("test-model", context, True, {"max_tokens": 512}))

    assert json.dumps(body, separators=(",", ":")) == (
        '{"model":"test-model","context":{"system_prompt":"You are helpful.","messages":[{"role":"user",'
        '"content":[{"type":"text","text":"hi"}],"timestamp":0}]},"options":{"max_tokens":512}}'
    )


def test_a_temperature_of_zero_is_sent_and_an_empty_setting_is_not() -> None:
    options = {"temperature": 0, "max_tokens": 0, "thinking_level": "", "cache_retention": None}

    body = PROXY_STREAM.encode_request(Ask("m", Context(), True, options))

    assert body["options"] == {"temperature": 0}


def test_content_that_is_no_array_is_refused() -> None:
    with pytest.raises(RequestError, match="content of message 0 is no array"):
        PROXY_STREAM.decode_request({"context": {"messages": [{"role": "user", "content": "hi"}]}})


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ("hi", "context is 'hi', which is no object: send one with messages"),
        ({"messages": "hi"}, "context.messages is 'hi', which is no array of objects"),
        ({"messages": ["hi"]}, "context.messages is ['hi'], which is no array of objects"),
        ({"messages": {}}, "context.messages is {}, which is no array of objects"),
    ],
)
@pytest.mark.parametrize("dialect", [PROXY_STREAM, API_STREAM], ids=lambda d: d.name)
def test_a_conversation_that_is_none_is_refused_and_not_dropped(
    dialect: Dialect, context: Any, said: str
) -> None:
    with pytest.raises(RequestError) as caught:
        dialect.decode_request({"context": context})

    assert caught.value.message == said


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"max_tokens": "9"}, "options.max_tokens is '9', which is no whole number"),
        ({"max_tokens": 1.5}, "options.max_tokens is 1.5, which is no whole number"),
        ({"temperature": True}, "options.temperature is True, which is no number"),
        ({"thinking_level": [1]}, "options.thinking_level is [1], which is no text"),
        ({"cache_retention": {}}, "options.cache_retention is {}, which is no text"),
    ],
)
def test_an_option_of_another_type_is_refused(option: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError) as caught:
        PROXY_STREAM.decode_request({"options": option})

    assert caught.value.message == said


def test_unknown_roles_and_blocks_are_passed_over() -> None:
    turns: list[Any] = [
        {"role": "system", "content": []},
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "hi"}]},
    ]

    ask = PROXY_STREAM.decode_request({"context": {"messages": turns}})

    assert ask.context.messages == (UserMessage((Text("hi"),)),)
