"""The wire of `/api/stream`: two spellings, one terminal event, and the clients' own state machine."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.canon.events import Delta, Snapshot, fold, unfold
from llmbridge.canon.messages import (
    Ask,
    AssistantMessage,
    Context,
    Image,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    UserMessage,
)
from llmbridge.wire.proxy_api_stream import API_STREAM
from llmbridge.wire.sse import SSE, SSEDecoder, encode_sse
from tests.conformance.strategies import messages

TINYAGENT: dict[str, Any] = {
    "model": {
        "provider": "anthropic",
        "id": "claude-x",
        "api": "anthropic-messages",
        "thinking_level": "off",
    },
    "context": {
        "system_prompt": "sys",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hé"}], "timestamp": 1},
            {
                "role": "assistant",
                "content": [
                    None,
                    {"type": "thinking", "thinking": "hm", "thinking_signature": "s"},
                    {"type": "tool_call", "id": "c1", "name": "t", "arguments": {"a": 1}},
                ],
            },
            {
                "role": "tool_result",
                "tool_call_id": "c1",
                "tool_name": "t",
                "content": [{"type": "image", "url": "data:image/png;base64,AA=="}],
                "is_error": True,
            },
        ],
        "tools": [
            {"name": "t", "description": "d", "parameters": {"type": "object"}, "label": "T"}
        ],
    },
    "options": {"temperature": None, "maxTokens": 10, "reasoning": "high"},
}
PI: dict[str, Any] = {
    "model": {
        "id": "claude-x",
        "name": "M",
        "api": "anthropic-messages",
        "provider": "anthropic",
        "baseUrl": "https://x",
        "cost": {"input": 3, "output": 15, "cacheRead": 0.3, "cacheWrite": 3.75},
    },
    "context": {
        "systemPrompt": "sys",
        "messages": [
            {"role": "user", "content": "hé", "timestamp": 1},
            {
                "role": "assistant",
                "provider": "anthropic",
                "content": [
                    {"type": "thinking", "thinking": "hm", "thinkingSignature": "s"},
                    {"type": "toolCall", "id": "c1", "name": "t", "arguments": {"a": 1}},
                ],
            },
            {
                "role": "toolResult",
                "toolCallId": "c1",
                "toolName": "t",
                "content": [{"type": "image", "data": "AA==", "mimeType": "image/png"}],
                "isError": True,
            },
        ],
        "tools": [
            {"name": "t", "label": "T", "description": "d", "parameters": {"type": "object"}}
        ],
    },
    "options": {"maxTokens": 10, "reasoning": "high"},
}
NOBODY = Ask()
IN_SNAKE = (
    '{"input":1000000,"output":2,"cache_read":0,"cache_write":0,"total_tokens":1000002,'
    '"cost":{"input":0,"output":0,"cache_read":0,"cache_write":0,"total":0}}'
)
IN_CAMEL = (
    '{"input":1000000,"output":2,"cacheRead":0,"cacheWrite":0,"totalTokens":1000002,'
    '"cost":{"input":3.0,"output":3e-05,"cacheRead":0,"cacheWrite":0,"total":3.00003}}'
)
CONTEXT = Context(
    "sys",
    (
        UserMessage((Text("hé"),)),
        AssistantMessage((Thinking("hm", "s"), ToolCall("c1", "t", {"a": 1}))),
        ToolResult("c1", (Image("image/png", "AA=="),), True, "t"),
    ),
    (ToolSpec("t", "d", {"type": "object"}),),
)


def sent(message: AssistantMessage, ask: Ask = NOBODY) -> bytes:
    snapshot, encoder = Snapshot(), API_STREAM.encoder(ask)
    events = (snapshot.apply(delta) for delta in unfold(message))
    return b"".join(encode_sse(sse) for event in events for sse in encoder.feed(event))


def read(body: bytes) -> AssistantMessage:
    sse, decoder = SSEDecoder(), API_STREAM.decoder()
    deltas: list[Delta] = [delta for event in sse.feed(body) for delta in decoder.feed(event)]
    return fold([*deltas, *decoder.close()])


def lines(*events: str) -> bytes:
    return "".join(f"data: {event}\n\n" for event in events).encode()


@pytest.mark.feature("tinyagent", 8, 16)
@pytest.mark.parametrize(
    ("body", "spelling"), [(TINYAGENT, "tinyagent"), (PI, "pi")], ids=["tinyagent", "pi"]
)
def test_both_clients_are_read_alike_and_told_apart(body: dict[str, Any], spelling: str) -> None:
    ask = API_STREAM.decode_request(body)

    assert (ask.model, ask.context, ask.options["spelling"]) == ("claude-x", CONTEXT, spelling)


@pytest.mark.feature("tinyagent", 15, 16)
@pytest.mark.parametrize(
    ("body", "reason", "usage"),
    [
        (TINYAGENT, "tool_use", IN_SNAKE),
        (PI, "toolUse", IN_CAMEL),
    ],
    ids=["tinyagent", "pi"],
)
def test_each_client_is_answered_in_its_spelling(
    body: dict[str, Any], reason: str, usage: str
) -> None:
    call = ToolCall("c1", "bash", {"cmd": "ls"})
    message = AssistantMessage(
        (Thinking("hm", "sig"), Text("Hi"), call),
        stop_reason="tool_use",
        usage=Usage(1_000_000, None, None, 2),
    )

    assert sent(message, API_STREAM.decode_request(body)) == lines(
        '{"type":"start"}',
        '{"type":"thinking_start","contentIndex":0}',
        '{"type":"thinking_delta","contentIndex":0,"delta":"hm"}',
        '{"type":"thinking_end","contentIndex":0,"contentSignature":"sig"}',
        '{"type":"text_start","contentIndex":1}',
        '{"type":"text_delta","contentIndex":1,"delta":"Hi"}',
        '{"type":"text_end","contentIndex":1}',
        '{"type":"toolcall_start","contentIndex":2,"id":"c1","toolName":"bash"}',
        '{"type":"toolcall_delta","contentIndex":2,"delta":"{\\"cmd\\":\\"ls\\"}"}',
        '{"type":"toolcall_end","contentIndex":2}',
        f'{{"type":"done","reason":"{reason}","usage":{usage}}}',
    )


@pytest.mark.parametrize("reason", ["content_filter", "aborted", "error"])
def test_what_is_no_whole_answer_ends_with_an_error(reason: StopReason) -> None:
    body = sent(AssistantMessage((Text("No"),), stop_reason=reason))
    last = json.loads(body.rstrip().rpartition(b"data: ")[2])

    wanted = "aborted" if reason == "aborted" else "error"
    assert (last["type"], last["reason"], body.count(b'"usage"')) == ("error", wanted, 1)


@given(message=messages())
def test_a_message_comes_back(message: AssistantMessage) -> None:
    back = read(sent(message))

    assert (back.content, back.stop_reason) == (message.content, message.stop_reason)


@pytest.mark.feature("tinyagent", 11)
def test_fragments_of_arguments_are_put_together() -> None:
    message = read(
        lines(
            '{"type":"start"}',
            '{"type":"text_start","contentIndex":0}',
            '{"type":"text_end","contentIndex":0,"contentSignature":"s"}',
            '{"type":"toolcall_start","contentIndex":1,"id":"c1","toolName":"bash"}',
            '{"type":"toolcall_delta","contentIndex":1,"delta":"{\\"cmd\\": \\"l"}',
            '{"type":"toolcall_delta","contentIndex":1,"delta":"s\\"}"}',
            '{"type":"toolcall_end","contentIndex":1}',
            '{"type":"ping"}',
            '{"type":"done","reason":"toolUse","usage":{"input":1,"output":2,"totalTokens":3}}',
        )
    )

    assert message == AssistantMessage(
        (Text("", "s"), ToolCall("c1", "bash", {"cmd": "ls"})),
        stop_reason="tool_use",
        stop="toolUse",
        usage=Usage(1, None, None, 2, None, 3),
    )


@pytest.mark.parametrize(
    ("events", "said"),
    [
        (['{"type":"start"}'], "stopped before its last event"),
        ([], "stopped before its last event"),
        (
            ['{"type":"text_delta","contentIndex":0,"delta":"x"}'],
            "Received text_delta for non-text content",
        ),
        (['{"type":"error","reason":"error","errorMessage":"boom"}'], "boom"),
    ],
)
def test_a_stream_that_broke_is_an_error(events: list[str], said: str) -> None:
    message = read(lines(*events))

    assert message.stop_reason == "error"
    assert said in str(message.error)


@pytest.mark.parametrize("price", [10**400, 1e308, -1, "3", None, [3], True])
def test_a_price_that_is_none_does_not_break_the_last_event(price: object) -> None:
    ask = API_STREAM.decode_request({**PI, "model": {**PI["model"], "cost": {"input": price}}})
    message = AssistantMessage((Text("Hi"),), stop_reason="stop", usage=Usage(7, None, None, 5))

    last = json.loads(sent(message, ask).rstrip().rpartition(b"data: ")[2])

    assert (last["type"], last["usage"]["cost"]["input"] < 1) == ("done", True)


@given(st.text(max_size=60))
def test_no_line_is_worse_than_passed_over(data: str) -> None:
    decoder = API_STREAM.decoder()

    deltas = [*decoder.feed(SSE(data=data)), *decoder.close()]

    assert fold(deltas).stop_reason == "error"


def test_redacted_thinking_survives_the_way_there_and_back() -> None:
    thought = Thinking("", "secret", redacted=True)
    body = sent(AssistantMessage((thought,), stop_reason="stop"))
    signature = json.loads(body.split(b"\n\n")[2].removeprefix(b"data: "))["contentSignature"]
    turn = {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "", "thinkingSignature": signature}],
    }

    ask = API_STREAM.decode_request({"context": {"messages": [turn]}})

    assert ask.context.messages == (AssistantMessage((thought,)),)


def test_thinking_that_another_provider_signed_is_left_out() -> None:
    turn = {**PI["context"]["messages"][1], "provider": "google"}

    ask = API_STREAM.decode_request({**PI, "context": {"messages": [turn]}})

    assert ask.context.messages == (AssistantMessage((ToolCall("c1", "t", {"a": 1}),)),)


def test_a_request_comes_back_as_it_was() -> None:
    options = {"temperature": 0.5, "maxTokens": 10, "reasoning": "high"}
    again = API_STREAM.decode_request(
        API_STREAM.encode_request(Ask("anthropic/claude-x", CONTEXT, True, options))
    )

    assert (again.model, again.context) == ("claude-x", CONTEXT)
    assert {name: again.options[name] for name in options} == options
