"""Requests of OpenAI Responses: what they say in canon, and back."""

import json
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.canon.messages import (
    Ask,
    AssistantMessage,
    Context,
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    UserMessage,
)
from llmbridge.wire.openai_responses import OPENAI_RESPONSES
from tests.conformance.strategies import json_values, name, pictures, text, tool_calls

decode, encode = OPENAI_RESPONSES.decode_request, OPENAI_RESPONSES.encode_request


def messages(*items: dict[str, Any]) -> tuple[Message, ...]:
    return decode({"input": list(items)}).context.messages


parts = st.lists(st.builds(Text, text) | pictures, max_size=3).map(tuple)
custom = st.builds(
    lambda id, name, said: ToolCall(id, name, said, said, custom=True), name, name, text
)
replies = st.builds(
    lambda thought, said, calls: AssistantMessage((*thought, *said, *calls)),
    st.lists(
        st.builds(Thinking, text, st.none() | text)
        | st.builds(Thinking, st.just(""), text, st.just(True)),
        max_size=2,
    ),
    st.lists(st.builds(Text, text, refusal=st.booleans()), min_size=1, max_size=2),
    st.lists(tool_calls | custom, max_size=3),
)
asks = st.builds(
    Ask,
    text,
    st.builds(
        Context,
        st.just("") | text,
        st.lists(
            st.builds(UserMessage, parts) | replies | st.builds(ToolResult, text, parts), max_size=5
        ).map(tuple),
        st.lists(
            st.builds(ToolSpec, text, text, st.dictionaries(text, json_values)), max_size=2
        ).map(tuple),
    ),
    st.booleans(),
    st.fixed_dictionaries(
        {}, optional={"temperature": st.floats(0, 2), "tools": st.just([{"type": "web_search"}])}
    ),
)


@given(ask=asks)
def test_a_request_comes_back_as_it_was(ask: Ask) -> None:
    """Replies here speak in one place; an unsigned word of thought comes back, an empty one would not."""
    body = json.loads(json.dumps(encode(ask)))

    assert decode(body) == ask


@given(ask=asks)
def test_a_body_of_ours_comes_back_as_it_was(ask: Ask) -> None:
    body = encode(ask)

    assert encode(decode(body)) == body


def test_a_conversation_in_the_apis_words() -> None:
    ask = decode(
        {
            "model": "gpt-5",
            "stream": True,
            "store": False,
            "instructions": "Be brief.",
            "input": [
                {"role": "developer", "content": "Metric units."},
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "Where is this?"},
                        {"type": "input_image", "image_url": "data:image/png;base64,iVBO"},
                        {"type": "input_image", "image_url": "https://example.org/a.png"},
                        {"type": "input_file", "file_id": "file_1"},
                    ],
                },
                {
                    "type": "reasoning",
                    "id": "rs_1",
                    "summary": [{"type": "summary_text", "text": "Hm."}],
                    "encrypted_content": "gAAAA",
                },
                {"type": "function_call", "call_id": "c1", "name": "map", "arguments": '{"x":1}'},
                {"type": "web_search_call", "id": "ws_1", "status": "completed"},
                {"type": "custom_tool_call", "call_id": "c2", "name": "sql", "input": "SELECT 1"},
                {"type": "function_call_output", "call_id": "c1", "output": "Lisbon"},
                {
                    "type": "custom_tool_call_output",
                    "call_id": "c2",
                    "output": [{"type": "input_text", "text": "1"}],
                },
                {
                    "type": "message",
                    "id": "msg_1",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "Lisbon.", "annotations": []}],
                },
                {"type": "item_reference", "id": "rs_2"},
                {"role": "user", "content": "Thanks"},
            ],
            "tools": [
                {"type": "web_search"},
                {"type": "function", "name": "map", "parameters": {"type": "object"}},
            ],
            "tool_choice": "auto",
        }
    )

    assert ask == Ask(
        "gpt-5",
        Context(
            "Be brief.\n\nMetric units.",
            (
                UserMessage(
                    (
                        Text("Where is this?"),
                        Image("image/png", "iVBO"),
                        Image(url="https://example.org/a.png"),
                    )
                ),
                AssistantMessage(
                    (
                        Thinking("Hm.", "gAAAA"),
                        ToolCall("c1", "map", {"x": 1}),
                        ToolCall("c2", "sql", "SELECT 1", custom=True),
                    )
                ),
                ToolResult("c1", (Text("Lisbon"),)),
                ToolResult("c2", (Text("1"),)),
                AssistantMessage((Text("Lisbon."),)),
                UserMessage((Text("Thanks"),)),
            ),
            (ToolSpec("map", "", {"type": "object"}),),
        ),
        True,
        {"store": False, "tool_choice": "auto", "tools": [{"type": "web_search"}]},
    )


def test_a_result_of_a_custom_tool_goes_back_as_one() -> None:
    call = ToolCall("c1", "sql", "SELECT 1", "SELECT 1", custom=True)
    context = Context("", (AssistantMessage((call,)), ToolResult("c1", (Text("1"),))))

    assert encode(Ask("m", context))["input"] == [
        {"type": "custom_tool_call", "call_id": "c1", "name": "sql", "input": "SELECT 1"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "1"},
    ]


def test_a_call_that_the_provider_ran_is_not_sent_back() -> None:
    call = ToolCall("mcp_1", "read_log", {"ship": "Aurora"}, server=True)

    body = encode(Ask("m", Context("", (AssistantMessage((call, Text("At ten."))),))))

    assert [item["type"] for item in body["input"]] == ["message"]


def test_thinking_with_neither_text_nor_signature_is_not_sent() -> None:
    assert encode(Ask("m", Context("", (AssistantMessage((Thinking(),)),))))["input"] == []


def test_functions_come_before_the_other_tools_and_are_not_strict() -> None:
    tool = ToolSpec("map", "Draws.", {"type": "object"})
    ask = Ask("m", Context(tools=(tool,)), options={"tools": [{"type": "web_search"}]})

    assert encode(ask)["tools"] == [
        {
            "type": "function",
            "name": "map",
            "description": "Draws.",
            "parameters": {"type": "object"},
            "strict": False,
        },
        {"type": "web_search"},
    ]


def test_the_assistant_speaking_again_begins_a_new_reply() -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
    called = {"type": "function_call", "call_id": "c1", "name": "map", "arguments": ""}
    spoken = {"role": "assistant", "content": "Yes."}

    assert messages(thought, called, called, spoken, called, thought, spoken, spoken) == (
        AssistantMessage(
            (
                Thinking("Hm."),
                ToolCall("c1", "map"),
                ToolCall("c1", "map"),
                Text("Yes."),
                ToolCall("c1", "map"),
            )
        ),
        AssistantMessage((Thinking("Hm."), Text("Yes."))),
        AssistantMessage((Text("Yes."),)),
    )


@pytest.mark.parametrize("written", ["", "no", '{"city":"Lis'])
def test_arguments_that_are_cut_or_no_json_keep_their_text(written: str) -> None:
    item = {"type": "function_call", "call_id": "c1", "name": "map", "arguments": written}

    (reply,) = messages(item)

    assert isinstance(reply, AssistantMessage)
    assert [call.arguments_text for call in reply.tool_calls] == [written]


@given(
    body=st.dictionaries(st.sampled_from(["model", "input", "tools", "instructions"]), json_values)
)
def test_no_request_breaks_the_decoder(body: dict[str, Any]) -> None:
    assert isinstance(decode(body), Ask)


@given(
    item=st.dictionaries(st.sampled_from(["type", "role", "content", "output", "x"]), json_values)
)
def test_no_input_item_breaks_the_decoder(item: dict[str, Any]) -> None:
    assert isinstance(decode({"input": [item]}), Ask)


@pytest.mark.parametrize(
    ("body", "streaming"), [({"stream": True}, True), ({"stream": 1}, False), ({}, False)]
)
def test_a_stream_is_asked_for_with_true(body: dict[str, Any], streaming: bool) -> None:
    assert (OPENAI_RESPONSES.streaming(body), decode(body).streaming) == (streaming, streaming)


def test_the_official_sdk_sends_what_we_read_and_gets_its_own_reply_back_as_history() -> None:
    message = AssistantMessage(
        (Thinking("Hm.", "gAAAA"), Text("Both."), ToolCall("c1", "map", {"x": 1})),
        "m",
        "resp_1",
        "tool_use",
        "completed",
    )
    sent: list[dict[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(json.loads(request.content))
        return httpx2.Response(200, content=OPENAI_RESPONSES.encode_reply(message))

    client = httpx2.Client(transport=httpx2.MockTransport(answer))
    sdk = openai.OpenAI(api_key="none", base_url="http://bridge.test/v1", http_client=client)

    first = sdk.responses.create(model="m", input="Hi")
    history = [item.to_dict() for item in first.output]
    # Plain objects are what the SDK takes, though its types name one class an item.
    again: Any = [{"role": "user", "content": "Hi"}, *history]
    sdk.responses.create(model="m", input=again)

    asked = UserMessage((Text("Hi"),))
    assert [decode(body).context.messages for body in sent] == [
        (asked,),
        (asked, AssistantMessage(message.content)),
    ]
