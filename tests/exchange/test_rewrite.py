"""Requests that are changed before they leave, as the upstream gets them."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from llmbridge.bridge import Bridge
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.call import Call
from llmbridge.exchange.rewrite import (
    Body,
    Change,
    add_system,
    append_text,
    drop_fields,
    set_fields,
    swap_models,
)
from llmbridge.providers import Provider
from llmbridge.upstreams.lines import repeat
from llmbridge.upstreams.script import Script

PATHS = {
    "anthropic.messages": "/v1/messages",
    "openai.chat": "/v1/chat/completions",
    "openai.responses": "/v1/responses",
    "google.gemini": "/google/v1beta/models/gemini-x:streamGenerateContent?alt=sse",
    "azure": "/azure/openai/deployments/gpt-x/chat/completions",
    "proxy.stream": "/stream/far",
}
AZURE = Provider("azure", "http://127.0.0.1:1/openai", ("openai.chat",))
FAR = Provider("far", "http://127.0.0.1:1", ("proxy.stream",))


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with Bridge(Script(repeat("Hi")), environ={}, providers=[AZURE, FAR]) as bridge:
        yield bridge


def post(bridge: Bridge, content: bytes, dialect: str = "openai.chat") -> httpx2.Response:
    with httpx2.Client(transport=bridge.transport()) as client:
        return client.post(f"http://localhost{PATHS[dialect]}", content=content)


def sent(bridge: Bridge, dialect: str, body: Any, *changes: Change) -> Any:
    """The body that the upstream gets."""
    for change in changes:
        bridge.rewrite(change)
    assert post(bridge, json.dumps(body).encode(), dialect).status_code == 200
    request = bridge.records[-1].request
    assert request is not None
    return json.loads(request.body)


def said(content: Any) -> Any:
    return {"model": "m", "messages": [{"role": "user", "content": content}]}


APPENDED: dict[str, tuple[str, Any, Any]] = {
    "messages, string": ("anthropic.messages", said("a"), said("a!")),
    "messages, blocks": (
        "anthropic.messages",
        said([{"type": "text", "text": "a"}]),
        said([{"type": "text", "text": "a"}, {"type": "text", "text": "!"}]),
    ),
    "chat, string": ("openai.chat", said("a"), said("a!")),
    "chat, no messages": (
        "openai.chat",
        {"model": "m", "messages": []},
        {"model": "m", "messages": [{"role": "user", "content": "!"}]},
    ),
    "gemini": (
        "google.gemini",
        {"contents": [{"role": "user", "parts": [{"text": "a"}]}]},
        {"contents": [{"role": "user", "parts": [{"text": "a"}, {"text": "!"}]}]},
    ),
    "a proxy": (
        "proxy.stream",
        {
            "model": "m",
            "context": {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
        },
        {
            "model": "m",
            "context": {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "!"}],
                    }
                ]
            },
        },
    ),
    "responses, string": (
        "openai.responses",
        {"model": "m", "input": "a"},
        {"model": "m", "input": "a!"},
    ),
    "responses, items": (
        "openai.responses",
        {
            "model": "m",
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}],
        },
        {
            "model": "m",
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "a"},
                        {"type": "input_text", "text": "!"},
                    ],
                }
            ],
        },
    ),
    "responses, an output": (
        "openai.responses",
        {"model": "m", "input": [{"type": "function_call_output", "call_id": "c", "output": ""}]},
        {
            "model": "m",
            "input": [
                {"type": "function_call_output", "call_id": "c", "output": ""},
                {"role": "user", "content": "!"},
            ],
        },
    ),
}


@pytest.mark.feature("anthropic-proxy", 2)
@pytest.mark.parametrize(("dialect", "body", "wanted"), APPENDED.values(), ids=APPENDED.keys())
def test_text_is_appended_to_the_last_message(
    bridge: Bridge, dialect: str, body: Any, wanted: Any
) -> None:
    assert sent(bridge, dialect, body, append_text("!")) == wanted


PROMPTED: dict[str, tuple[str, Any, Any]] = {
    "messages, none": ("anthropic.messages", {}, {"system": "Be brief."}),
    "messages, string": (
        "anthropic.messages",
        {"system": "a"},
        {"system": "a\n\nBe brief."},
    ),
    "messages, blocks": (
        "anthropic.messages",
        {"system": [{"type": "text", "text": "a"}]},
        {"system": [{"type": "text", "text": "a"}, {"type": "text", "text": "Be brief."}]},
    ),
    "chat": (
        "openai.chat",
        {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]},
        {
            "messages": [
                {"role": "system", "content": "a"},
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "b"},
            ]
        },
    ),
    "responses": ("openai.responses", {"input": "a"}, {"input": "a", "instructions": "Be brief."}),
    "gemini, none": (
        "google.gemini",
        {"contents": []},
        {"contents": [], "systemInstruction": {"parts": [{"text": "Be brief."}]}},
    ),
    "gemini, some": (
        "google.gemini",
        {"system_instruction": {"parts": [{"text": "a"}]}},
        {"system_instruction": {"parts": [{"text": "a"}, {"text": "Be brief."}]}},
    ),
    "a proxy": (
        "proxy.stream",
        {"context": {"system_prompt": "a", "messages": []}},
        {"context": {"system_prompt": "a\n\nBe brief.", "messages": []}},
    ),
}


@pytest.mark.parametrize(("dialect", "body", "wanted"), PROMPTED.values(), ids=PROMPTED.keys())
def test_a_system_prompt_is_added(bridge: Bridge, dialect: str, body: Any, wanted: Any) -> None:
    assert sent(bridge, dialect, body, add_system("Be brief.")) == wanted


def test_fields_are_set_and_dropped_and_models_swapped_in_order(bridge: Bridge) -> None:
    changes = (
        set_fields(temperature=0, seed=7),
        drop_fields("seed", "user", "absent"),
        swap_models({"m": "n"}),
    )

    got = sent(bridge, "openai.chat", {"model": "m", "user": "me", "messages": []}, *changes)

    assert got == {"model": "n", "messages": [], "temperature": 0}
    assert bridge.records[-1].model == "n"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("google.gemini", ("gemini-x", "text/event-stream")),
        ("azure", ("gpt-x", "application/json")),
    ],
)
def test_a_change_leaves_alone_what_the_path_says(
    bridge: Bridge, where: str, expected: tuple[str, str]
) -> None:
    bridge.rewrite(set_fields(labels={}))

    answer = post(bridge, b'{"contents":[]}', where)

    assert (bridge.records[0].model, answer.headers["content-type"]) == expected


@pytest.mark.parametrize(("where", "model"), [("google.gemini", "gemini-x"), ("azure", "gpt-x")])
def test_a_model_in_the_path_is_not_swapped_in_silence(
    bridge: Bridge, where: str, model: str
) -> None:
    bridge.rewrite(swap_models({model: "other"}))

    answer = post(bridge, b'{"contents":[]}', where)

    assert answer.status_code == 400
    assert f"the path names the model {model!r}" in answer.json()["error"]["message"]


def test_a_function_of_the_users_may_give_another_body(bridge: Bridge) -> None:
    @bridge.rewrite
    def anew(body: Body, call: Call) -> Body:
        return {"model": body["model"], "messages": [], "user": call.provider.name}

    assert sent(bridge, "openai.chat", said("a")) == {
        "model": "m",
        "messages": [],
        "user": "openai",
    }


def test_the_interception_keeps_what_was_received(bridge: Bridge) -> None:
    bridge.rewrite(append_text("!"))
    body = b'{ "model":"m", "messages":[{"role":"user","content":"a"}] }'

    post(bridge, body)

    assert bridge.interceptions[0].request.body == body


@pytest.mark.parametrize("body", [b'{ "model" : "m", "messages": [] }', b'{"messages":[],"n":1e2}'])
def test_a_body_that_nothing_changed_leaves_as_it_came(bridge: Bridge, body: bytes) -> None:
    bridge.rewrite(drop_fields("absent"))

    post(bridge, body)

    request = bridge.records[0].request
    assert request is not None
    assert request.body == body


def test_a_change_may_ask_for_a_stream(bridge: Bridge) -> None:
    bridge.rewrite(set_fields(stream=True))

    answer = post(bridge, json.dumps(said("a")).encode())

    assert answer.headers["content-type"] == "text/event-stream"


def test_a_change_that_fails_is_one_clear_error(
    bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    @bridge.rewrite
    def broken(body: Body, call: Call) -> None:
        raise KeyError("sk-secret")

    answer = post(bridge, json.dumps(said("a")).encode())

    assert (answer.status_code, answer.json()["error"]["message"]) == (
        500,
        "the rewriting function 'broken' failed with KeyError; the bridge's log says where",
    )
    assert bridge.interceptions[0].status == 500
    assert "broken" in caplog.text


def gives_text(body: Body, call: Call) -> Any:
    return "text"


def leaves_an_object(body: Body, call: Call) -> None:
    body["extra"] = object()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            gives_text,
            "the rewriting function 'gives_text' gave a str: return a dict, or None where it changed the body in place",
        ),
        (
            leaves_an_object,
            "the body that 'leaves_an_object' left is no JSON: Object of type object is not JSON serializable",
        ),
    ],
)
def test_what_is_no_body_is_told_with_the_function_s_name(
    bridge: Bridge, change: Change, message: str
) -> None:
    bridge.rewrite(change)

    answer = post(bridge, json.dumps(said("a")).encode())

    assert (answer.status_code, answer.json()["error"]["message"]) == (500, message)


async def asks_first(body: Body, call: Call) -> None:
    raise AssertionError("never called")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            asks_first,
            "the rewriting function 'asks_first' is async: give a plain one; what has to wait is an interceptor",
        ),
        ("append", "'append' is no change: give a function of body and call"),
    ],
)
def test_what_can_never_be_a_change_is_refused_at_once(
    bridge: Bridge, change: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        bridge.rewrite(change)

    assert caught.value.message == message
