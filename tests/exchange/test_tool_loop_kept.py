"""llmbridge.exchange.tool_loop: what it does not understand stays, for the client and for the provider."""

import json
from typing import Any

import pytest

from llmbridge import Bridge
from llmbridge.wire.anthropic_messages import ANTHROPIC_MESSAGES
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.openai_chat import OPENAI_CHAT
from llmbridge.wire.openai_responses import OPENAI_RESPONSES
from tests.exchange.test_tool_loop_bytes import answering, got, post, wait


def events(*datas: Any, named: bool = True) -> bytes:
    lines: list[str] = []
    for data in datas:
        if isinstance(data, str):
            lines.append(data)
            continue
        name = f"event: {data['type']}\n" if named else ""
        # With spaces, as no codec of ours writes it.
        lines.append(f"{name}data: {json.dumps(data)}\n\n")
    return "".join(lines).encode()


async def both(dialect: Dialect, first: bytes, second: bytes, **more: Any) -> tuple[bytes, Any]:
    """What the client saw of two rounds, and what the provider was asked in the second."""
    upstream, asked = answering(first, second, size=33)
    async with Bridge(upstream, tools=[wait]) as bridge:
        shown = await got(bridge, post(dialect, streaming=True, **more))
    assert shown is not None
    return shown, asked[1]


STARTED: Any = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "model": "m",
        "role": "assistant",
        "type": "message",
        "content": [],
        "usage": {"input_tokens": 10, "output_tokens": 1, "tier": "x"},
    },
}
THINKS = (
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "", "signature": ""},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "Hm."},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "signature_delta", "signature": "c2ln"},
    },
    {"type": "content_block_stop", "index": 0},
)
SEARCHES: Any = (
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {
            "type": "server_tool_use",
            "id": "srv_1",
            "name": "web_search",
            "input": {},
        },
    },
    {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "input_json_delta", "partial_json": '{"query": "a"}'},
    },
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {
            "type": "web_search_tool_result",
            "tool_use_id": "srv_1",
            "content": [{"type": "web_search_result", "url": "https://a"}],
        },
    },
    {"type": "content_block_stop", "index": 2},
    {
        "type": "content_block_start",
        "index": 3,
        "content_block": {"type": "text", "text": "", "citations": []},
    },
    {
        "type": "content_block_delta",
        "index": 3,
        "delta": {"type": "citations_delta", "citation": {"url": "https://a"}},
    },
    {"type": "content_block_delta", "index": 3, "delta": {"type": "text_delta", "text": "So."}},
    {"type": "content_block_stop", "index": 3},
)
CALLS = (
    {
        "type": "content_block_start",
        "index": 4,
        "content_block": {
            "type": "tool_use",
            "id": "toolu_1",
            "name": "wait",
            "input": {},
            "caller": {"type": "direct"},
        },
    },
    {
        "type": "content_block_delta",
        "index": 4,
        "delta": {"type": "input_json_delta", "partial_json": "{}"},
    },
    {"type": "content_block_stop", "index": 4},
)
NEWS: Any = {"type": "news_of_tomorrow", "x": 1.50}
ENDED = (
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}},
    {"type": "message_stop"},
)
AGAIN = {
    **STARTED,
    "message": {
        **STARTED["message"],
        "id": "msg_2",
        "usage": {
            "input_tokens": 20,
            "output_tokens": 1,
            "server_tool_use": {"web_search_requests": 2},
        },
    },
}
SPEAKS = (
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": "", "odd": True},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "Done."},
        "obfuscation": "xx",
    },
    {"type": "content_block_stop", "index": 0},
)
STOPPED: Any = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn", "container": {"id": "c"}},
    "usage": {"output_tokens": 3},
}


@pytest.mark.feature("gateway", 22, 23)
async def test_anthropics_unknown_events_blocks_and_fields_stay():
    first = events(": hello\n\n", STARTED, NEWS, *THINKS, *SEARCHES, *CALLS, *ENDED)
    second = events(AGAIN, NEWS, *SPEAKS, STOPPED, {"type": "message_stop"})

    shown, asked = await both(ANTHROPIC_MESSAGES, first, second)

    moved = [json.dumps({**event, "index": 4}, separators=(",", ":")) for event in SPEAKS]
    usage = {
        "input_tokens": 30,
        "output_tokens": 10,
        "tier": "x",
        "server_tool_use": {"web_search_requests": 2},
    }
    ending = json.dumps({**STOPPED, "usage": usage}, separators=(",", ":"))
    names = [event["type"] for event in SPEAKS]
    edited = [f"event: {n}\ndata: {data}\n\n" for n, data in zip(names, moved, strict=True)]
    assert shown == events(
        ": hello\n\n",
        STARTED,
        NEWS,
        *THINKS,
        *SEARCHES,
        NEWS,
        *edited,
        f"event: message_delta\ndata: {ending}\n\n",
        {"type": "message_stop"},
    )
    assert asked["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                {
                    "type": "server_tool_use",
                    "id": "srv_1",
                    "name": "web_search",
                    "input": {"query": "a"},
                },
                SEARCHES[3]["content_block"],
                {"type": "text", "text": "So.", "citations": [{"url": "https://a"}]},
                {
                    "type": "tool_use",
                    "id": "toolu_1",
                    "name": "wait",
                    "input": {},
                    "caller": {"type": "direct"},
                },
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": "waited"}],
                }
            ],
        },
    ]


def chunk(delta: Any, finish: str | None = None, id: str = "c1", **more: Any) -> Any:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": id, "object": "chat.completion.chunk", "odd": 1.50, "choices": [choice], **more}


def total(id: str, **usage: Any) -> Any:
    return {"id": id, "object": "chat.completion.chunk", "choices": [], "usage": usage}


@pytest.mark.feature("gateway", 22, 23)
async def test_chats_unknown_fields_stay_and_signatures_go_back():
    signed: Any = {"google": {"thought_signature": "c2ln"}}
    call: Any = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "wait", "arguments": ""},
        "extra_content": signed,
    }
    detail: Any = {"type": "reasoning.text", "index": 0, "text": "Hm", "signature": None}
    opening = [
        chunk({"role": "assistant", "content": "", "reasoning_details": [detail]}),
        chunk({"reasoning_details": [{**detail, "text": ".", "signature": "s"}]}),
        chunk({"content": "Well. "}),
    ]
    first = events(
        *opening,
        chunk({"tool_calls": [call]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        chunk({}, "tool_calls"),
        total("c1", prompt_tokens=10, cost=0.5),
        "data: [DONE]\n\n",
        named=False,
    )
    second = events(
        chunk({"role": "assistant", "content": ""}, id="c2"),
        chunk({"content": "Done."}, id="c2"),
        chunk({}, "stop", id="c2"),
        total("c2", prompt_tokens=20, cost=0.25),
        "data: [DONE]\n\n",
        named=False,
    )

    shown, asked = await both(OPENAI_CHAT, first, second, stream_options={"include_usage": True})

    compact = [
        chunk({"content": "Done."}),
        chunk({}, "stop"),
        total("c1", prompt_tokens=30, cost=0.75),
    ]
    rest = [f"data: {json.dumps(each, separators=(',', ':'))}\n\n" for each in compact]
    assert shown == events(*opening, *rest, "data: [DONE]\n\n", named=False)
    assert asked["messages"][1:] == [
        {
            "role": "assistant",
            "content": "Well. ",
            "reasoning_details": [{**detail, "text": "Hm.", "signature": "s"}],
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "wait", "arguments": "{}"},
                    "extra_content": signed,
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "waited"},
    ]


async def test_usage_that_a_client_did_not_ask_for_is_not_shown_and_kept_on_record():
    opening = chunk({"role": "assistant", "content": "Hi"}, usage=None)
    ending = chunk({}, "stop", usage=None)
    body = events(
        opening,
        ending,
        total("c1", prompt_tokens=10, completion_tokens=2),
        "data: [DONE]\n\n",
        named=False,
    )
    upstream, asked = answering(body)
    async with Bridge(upstream, tools=[wait]) as bridge:
        shown = await got(bridge, post(OPENAI_CHAT, streaming=True, n=3))
        rows = bridge.frames.token_usage()["input_tokens"].tolist()

    assert shown == events(opening, ending, "data: [DONE]\n\n", named=False)
    assert (asked[0]["n"], asked[0]["stream_options"], rows) == (1, {"include_usage": True}, [10])


def response(id: str, *output: Any, **more: Any) -> Any:
    return {"id": id, "object": "response", "model": "m", "output": list(output), **more}


@pytest.mark.feature("gateway", 22, 23)
async def test_responses_unknown_items_and_encrypted_reasoning_stay():
    thought: Any = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "c2ln"}
    odd: Any = {"id": "od_1", "type": "odd_call", "status": "completed", "x": 1.50}
    call: Any = {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "wait",
        "arguments": "{}",
        "namespace": "n",
    }
    said: dict[str, Any] = {
        "id": "msg_2",
        "type": "message",
        "role": "assistant",
        "phase": "final_answer",
        "content": [{"type": "output_text", "text": "Done.", "annotations": [], "logprobs": []}],
    }
    opening = [
        {"type": "response.created", "sequence_number": 0, "response": response("resp_1")},
        {
            "type": "response.output_item.added",
            "sequence_number": 1,
            "output_index": 0,
            "item": thought,
        },
        {
            "type": "response.output_item.done",
            "sequence_number": 2,
            "output_index": 0,
            "item": thought,
        },
        {"type": "response.output_item.done", "sequence_number": 3, "output_index": 1, "item": odd},
    ]
    first = events(
        *opening,
        {
            "type": "response.output_item.added",
            "sequence_number": 4,
            "output_index": 2,
            "item": {**call, "arguments": ""},
        },
        {
            "type": "response.function_call_arguments.done",
            "sequence_number": 5,
            "output_index": 2,
            "item_id": "fc_1",
            "arguments": "{}",
        },
        {
            "type": "response.output_item.done",
            "sequence_number": 6,
            "output_index": 2,
            "item": call,
        },
        {
            "type": "response.completed",
            "sequence_number": 7,
            "response": response(
                "resp_1", thought, odd, call, usage={"input_tokens": 10, "odd": 1}
            ),
        },
    )
    ended = response("resp_2", said, usage={"input_tokens": 20}, odd=True)
    second = events(
        {"type": "response.created", "sequence_number": 0, "response": response("resp_2")},
        {
            "type": "response.output_item.done",
            "sequence_number": 1,
            "output_index": 0,
            "item": said,
            "odd": 1,
        },
        {"type": "response.completed", "sequence_number": 2, "response": ended},
    )

    shown, asked = await both(OPENAI_RESPONSES, first, second, store=False)

    whole: Any = {
        **ended,
        "output": [thought, odd, said],
        "usage": {"input_tokens": 30, "odd": 1},
        "id": "resp_1",
    }
    rest: Any = [
        {
            "type": "response.output_item.done",
            "sequence_number": 4,
            "output_index": 2,
            "item": said,
            "odd": 1,
        },
        {"type": "response.completed", "sequence_number": 5, "response": whole},
    ]
    told = [
        f"event: {each['type']}\ndata: {json.dumps(each, separators=(',', ':'))}\n\n"
        for each in rest
    ]
    assert shown == events(*opening, *told)
    output = {"type": "function_call_output", "call_id": "call_1", "output": "waited"}
    assert asked["input"][1:] == [thought, odd, call, output]


async def test_in_a_conversation_that_openai_keeps_only_the_results_are_told():
    call: Any = {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "wait",
        "arguments": "{}",
    }
    first = events({"type": "response.completed", "response": response("resp_1", call)})
    second = events({"type": "response.completed", "response": response("resp_2")})

    _, asked = await both(OPENAI_RESPONSES, first, second, conversation="conv_1")

    assert asked["input"] == [
        {"type": "function_call_output", "call_id": "call_1", "output": "waited"}
    ]


async def test_reasoning_that_nobody_keeps_is_not_told_again():
    thought: Any = {"id": "rs_1", "type": "reasoning", "summary": []}
    call: Any = {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "wait",
        "arguments": "{}",
    }
    first = events({"type": "response.completed", "response": response("resp_1", thought, call)})
    second = events({"type": "response.completed", "response": response("resp_2")})

    _, asked = await both(OPENAI_RESPONSES, first, second, store=False)

    assert [item.get("type") for item in asked["input"]] == [
        None,
        "function_call",
        "function_call_output",
    ]
