"""Clients of one dialect at a provider of another: the official SDKs, a script, no socket."""

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import anthropic
import google.genai as genai
import httpx2
import openai
import pytest

from llmbridge.bridge import Bridge
from llmbridge.canon.messages import Image, Text, ToolCall, ToolResult, Usage, UserMessage
from llmbridge.exchange.faults import truncate
from llmbridge.providers import Provider
from llmbridge.upstreams.lines import calls, fail, reply
from llmbridge.upstreams.script import Script
from llmbridge.wire.settings import SETTINGS, Settings

SPOKEN = {
    "anthropic.messages": Provider("there", "https://t.example", ("anthropic.messages",)),
    "openai.chat": Provider("there", "https://t.example/v1", ("openai.chat",)),
    "openai.responses": Provider("there", "https://t.example/v1", ("openai.responses",)),
    "google.gemini": Provider("there", "https://t.example", ("google.gemini",)),
}
PAIRS = [(asked, spoken) for asked in SPOKEN for spoken in SPOKEN if asked != spoken]
pairs = pytest.mark.parametrize(("asked", "spoken"), PAIRS, ids=lambda name: name)
both = pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])

PICTURE = "iVBORw0KGgo="
ANSWER = reply("Let me look.", calls("clock", zone="é"), usage=Usage(7, None, None, 5, None, 12))
QUESTIONS: dict[str, dict[str, Any]] = {
    "anthropic.messages": {
        "max_tokens": 99,
        "extra_body": {"temperature": 0.5},
        "system": "Be brief.",
        "tool_choice": {"type": "tool", "name": "clock"},
        "tools": [{"name": "clock", "description": "Time", "input_schema": {"type": "object"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": PICTURE},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c1", "name": "clock", "input": {"a": 1}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "noon"}],
            },
        ],
    },
    "openai.chat": {
        "max_completion_tokens": 99,
        "temperature": 0.5,
        "tool_choice": {"type": "function", "function": {"name": "clock"}},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "clock",
                    "description": "Time",
                    "parameters": {"type": "object"},
                },
            }
        ],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {
                        "type": "image_url",
                        "image_url": {"url": f"data:image/png;base64,{PICTURE}"},
                    },
                ],
            },
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "clock", "arguments": '{"a":1}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        ],
    },
    "google.gemini": {
        "config": {
            "system_instruction": "Be brief.",
            "max_output_tokens": 99,
            "temperature": 0.5,
            "tool_config": {
                "function_calling_config": {"mode": "ANY", "allowed_function_names": ["clock"]}
            },
            "tools": [
                {
                    "function_declarations": [
                        {
                            "name": "clock",
                            "description": "Time",
                            "parameters_json_schema": {"type": "object"},
                        }
                    ]
                }
            ],
        },
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "Look"},
                    {"inline_data": {"mime_type": "image/png", "data": b64decode(PICTURE)}},
                ],
            },
            {
                "role": "model",
                "parts": [{"function_call": {"id": "c1", "name": "clock", "args": {"a": 1}}}],
            },
            {
                "role": "user",
                "parts": [
                    {
                        "function_response": {
                            "id": "c1",
                            "name": "clock",
                            "response": {"result": "noon"},
                        }
                    }
                ],
            },
        ],
    },
    "openai.responses": {
        "max_output_tokens": 99,
        "temperature": 0.5,
        "instructions": "Be brief.",
        "tool_choice": {"type": "function", "name": "clock"},
        "tools": [
            {
                "type": "function",
                "name": "clock",
                "description": "Time",
                "parameters": {"type": "object"},
                "strict": False,
            }
        ],
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look"},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}"},
                ],
            },
            {"type": "function_call", "call_id": "c1", "name": "clock", "arguments": '{"a":1}'},
            {"type": "function_call_output", "call_id": "c1", "output": "noon"},
        ],
    },
}


@pytest.fixture
def bridges() -> Iterator[list[Bridge]]:
    opened: list[Bridge] = []
    yield opened
    for bridge in opened:
        bridge.close()


def routed(bridges: list[Bridge], spoken: str, *lines: Any) -> Bridge:
    bridge = Bridge(Script(*lines), providers=[SPOKEN[spoken]], routes={"m": "there/n"}, environ={})
    bridges.append(bridge)
    return bridge


def ask(bridge: Bridge, asked: str, question: dict[str, Any], streaming: bool) -> Any:
    """What the SDK makes of the answer: text, tool calls, stop reason, input and output tokens."""
    words: Any = {"model": "m", **question}
    if asked == "anthropic.messages":
        messages = bridge.anthropic(max_retries=0, base_url="http://localhost").messages
        if streaming:
            with messages.stream(**words) as stream:
                got = stream.get_final_message()
        else:
            got = messages.create(**words)
        text = "".join(b.text for b in got.content if b.type == "text")
        made = [(b.name, b.input) for b in got.content if b.type == "tool_use"]
        return text, made, got.stop_reason, got.usage.input_tokens, got.usage.output_tokens
    if asked == "google.gemini":
        return ask_google(bridge, words, streaming)
    client = bridge.openai(max_retries=0, base_url="http://localhost/v1")
    if asked == "openai.chat":
        if streaming:
            with client.chat.completions.stream(
                **words, stream_options={"include_usage": True}
            ) as chat:
                whole: Any = chat.get_final_completion()
        else:
            whole = client.chat.completions.create(**words)
        choice = whole.choices[0]
        made = [
            (c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls
        ]
        usage = whole.usage
        return (
            choice.message.content,
            made,
            choice.finish_reason,
            usage.prompt_tokens,
            usage.completion_tokens,
        )
    if streaming:
        with client.responses.stream(**words) as events:
            answer: Any = events.get_final_response()
    else:
        answer = client.responses.create(**words)
    made = [(i.name, json.loads(i.arguments)) for i in answer.output if i.type == "function_call"]
    usage = answer.usage
    return answer.output_text, made, answer.status, usage.input_tokens, usage.output_tokens


def ask_google(bridge: Bridge, words: Any, streaming: bool) -> Any:
    with httpx2.Client(transport=bridge.transport()) as http:
        options = genai.types.HttpOptions(base_url="http://localhost", httpx_client=http)
        models = genai.Client(api_key="llmbridge", http_options=options).models
        if streaming:
            answers = list(models.generate_content_stream(**words))
        else:
            answers = [models.generate_content(**words)]
    text = "".join(answer.text or "" for answer in answers)
    made = [(call.name, call.args) for answer in answers for call in answer.function_calls or ()]
    candidates = answers[-1].candidates
    usage = answers[-1].usage_metadata
    assert candidates
    assert usage
    stop = candidates[0].finish_reason
    return text, made, stop and stop.value, usage.prompt_token_count, usage.candidates_token_count


STOPPED = {
    "google.gemini": "STOP",
    "anthropic.messages": "tool_use",
    "openai.chat": "tool_calls",
    "openai.responses": "completed",
}


@both
@pairs
def test_an_answer_reaches_the_client_in_its_own_dialect(
    bridges: list[Bridge], asked: str, spoken: str, streaming: bool
) -> None:
    bridge = routed(bridges, spoken, ANSWER)

    got = ask(bridge, asked, QUESTIONS[asked], streaming)

    assert got == ("Let me look.", [("clock", {"zone": "é"})], STOPPED[asked], 7, 5)


@pairs
def test_a_question_reaches_the_provider_whole(
    bridges: list[Bridge], asked: str, spoken: str
) -> None:
    bridge = routed(bridges, spoken, ANSWER)
    ask(bridge, asked, QUESTIONS[asked], streaming=False)

    (record,) = bridge.records
    sent = record.ask()

    assert sent is not None
    user, said, result = sent.context.messages
    settings = SETTINGS[spoken].decode(sent.options)
    assert (record.model, sent.context.system, user) == (
        "n",
        "Be brief.",
        UserMessage((Text("Look"), Image("image/png", PICTURE))),
    )
    assert said.content == (ToolCall("c1", "clock", {"a": 1}),)
    assert isinstance(result, ToolResult)
    assert (result.tool_call_id, result.content) == ("c1", (Text("noon"),))
    assert [(t.name, t.description, t.parameters) for t in sent.context.tools] == [
        ("clock", "Time", {"type": "object"})
    ]
    assert settings == Settings(max_tokens=99, temperature=0.5, tool_choice="=clock")


@pairs
def test_the_record_keeps_the_providers_own_words(
    bridges: list[Bridge], asked: str, spoken: str
) -> None:
    bridge = routed(bridges, spoken, ANSWER)
    ask(bridge, asked, QUESTIONS[asked], streaming=True)

    (record,), (interception,) = bridge.records, bridge.interceptions

    message = record.message
    assert (record.dialect, record.model, message and message.text) == (
        spoken,
        "n",
        "Let me look.",
    )
    assert (interception.dialect, interception.provider, interception.end) == (
        asked,
        "there",
        "completed",
    )


@both
@pairs
def test_a_refusal_keeps_its_status_in_the_clients_shape(
    bridges: list[Bridge], asked: str, spoken: str, streaming: bool
) -> None:
    bridge = routed(bridges, spoken, fail(429, message="Slow down", retry_after=2))

    limits = (anthropic.RateLimitError, openai.RateLimitError, genai.errors.ClientError)
    with pytest.raises(limits) as caught:
        ask(bridge, asked, QUESTIONS[asked], streaming)

    error: Any = caught.value
    assert (error.response.headers["retry-after"], "Slow down" in str(error)) == ("2", True)


@pairs
def test_a_cut_stream_never_passes_for_a_whole_one(
    bridges: list[Bridge], asked: str, spoken: str
) -> None:
    bridge = routed(bridges, spoken, ANSWER)

    # A RuntimeError is what OpenAI's SDK raises for a response that failed.
    failures = (anthropic.APIError, openai.APIError, genai.errors.APIError, RuntimeError)
    with bridge.faults(truncate(event=3)), pytest.raises(failures):
        ask(bridge, asked, QUESTIONS[asked], streaming=True)

    assert [(i.dialect, i.end) for i in bridge.interceptions] == [(asked, "truncated")]


def test_the_bytes_of_other_routes_are_left_alone(bridges: list[Bridge]) -> None:
    bridge = routed(bridges, "openai.chat", "Hi")
    body = b'{ "model": "m", "messages": [] , "logit_bias": {} }'

    with httpx2.Client(transport=bridge.transport()) as client:
        client.post("http://localhost/there/v1/chat/completions", content=body)

    (record,) = bridge.records
    assert record.request is not None
    assert record.request.body == body


UNCARRIED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "a document": (
        "anthropic.messages",
        "openai.chat",
        {"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "document"}]}]},
        "messages: 'document'",
    ),
    "a server tool": (
        "anthropic.messages",
        "openai.chat",
        {"max_tokens": 9, "messages": [], "tools": [{"type": "web_search_20250305"}]},
        "tools: 'web_search_20250305'",
    ),
    "an unknown setting": (
        "openai.chat",
        "anthropic.messages",
        {"messages": [], "logit_bias": {"1": 2}},
        "'logit_bias'",
    ),
    "stop sequences": (
        "anthropic.messages",
        "openai.responses",
        {"max_tokens": 9, "messages": [], "stop_sequences": ["x"]},
        "stop sequences",
    ),
    "an earlier response": (
        "openai.responses",
        "openai.chat",
        {"input": "x", "previous_response_id": "r"},
        "'previous_response_id'",
    ),
    "an image in a result": (
        "anthropic.messages",
        "openai.chat",
        {
            "max_tokens": 9,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "c",
                            "content": [
                                {"type": "image", "source": {"type": "url", "url": "https://x"}}
                            ],
                        }
                    ],
                }
            ],
        },
        "an image in a tool's result",
    ),
}


@pytest.mark.parametrize(
    ("asked", "spoken", "question", "named"), UNCARRIED.values(), ids=UNCARRIED.keys()
)
def test_what_cannot_be_carried_is_refused_by_name(
    bridges: list[Bridge], asked: str, spoken: str, question: dict[str, Any], named: str
) -> None:
    bridge = routed(bridges, spoken, "never said")

    with pytest.raises((anthropic.BadRequestError, openai.BadRequestError)) as caught:
        ask(bridge, asked, question, streaming=False)

    assert f"{spoken}, which cannot carry {named}" in str(caught.value)
    assert list(bridge.records) == []


HOSTILE = [
    b"[]",
    b"{",
    b'{"model":"m","messages":5,"stop":5}',
    b'{"model":"m","messages":[{"role":"user","content":7}],"tool_choice":{"function":[]}}',
    b'{"model":"m","messages":[null],"tools":[[]],"reasoning_effort":[]}',
]


@pytest.mark.parametrize("body", HOSTILE)
def test_a_hostile_body_is_never_worse_than_a_refusal(bridges: list[Bridge], body: bytes) -> None:
    bridge = routed(bridges, "anthropic.messages", "Hi")

    with httpx2.Client(transport=bridge.transport()) as client:
        answer = client.post("http://localhost/v1/chat/completions", content=body)

    assert answer.status_code in (200, 400)


@pytest.mark.parametrize("dialect", ["anthropic.messages", "openai.chat", "openai.responses"])
@pytest.mark.parametrize("thinking", ["off", "minimal", "low", "medium", "high", None])
def test_settings_survive_each_spelling(dialect: str, thinking: str | None) -> None:
    codec = SETTINGS[dialect]
    settings = Settings(None, 0.0, 0.9, (), "required", False, thinking, None, "me")

    again = codec.decode(codec.encode(settings))

    assert (again.thinking, again.tool_choice, again.parallel_tool_calls, again.user) == (
        thinking,
        "required",
        False,
        "me",
    )
    assert (again.temperature, again.top_p) == (0.0, 0.9)
