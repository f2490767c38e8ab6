"""What clients and providers notice of a bridge between them, checked with the official SDKs over HTTP."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest

from llmbridge import Bridge, Script, calls
from llmbridge.canon.messages import AssistantMessage, Text, Usage
from llmbridge.exchange.call import Call, Headers, Reply, once
from tests.exchange.sdk_talks import TALKS

STREAMING = pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])
DIALECTS = pytest.mark.parametrize("kind", ["anthropic", "chat", "responses"])


def clock() -> str:
    """Tell the time."""
    return "noon"


def body_of(bridge: Bridge, place: int = 0) -> dict[str, Any]:
    request = bridge.records[place].request
    assert request is not None
    body: dict[str, Any] = json.loads(request.body)
    return body


WISHES = {
    "anthropic": [
        {},
        {"tool_choice": {"type": "auto"}},
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        {"tool_choice": {"type": "any", "disable_parallel_tool_use": False}},
        {"tool_choice": {"type": "tool", "name": "mine"}},
        {"tool_choice": {"type": "none"}},
    ],
    "chat": [
        {},
        {"parallel_tool_calls": False},
        {"parallel_tool_calls": True},
        {"tool_choice": "required"},
        {"tool_choice": "none"},
        {"tool_choice": {"type": "function", "function": {"name": "mine"}}},
    ],
    "responses": [
        {},
        {"parallel_tool_calls": False},
        {"parallel_tool_calls": True},
        {"tool_choice": "required"},
        {"tool_choice": "none"},
        {"tool_choice": {"type": "function", "name": "mine"}},
    ],
}


@pytest.mark.feature("gateway", 26)
@STREAMING
@pytest.mark.parametrize("injecting", [True, False], ids=["injecting", "plain"])
@pytest.mark.parametrize(
    ("kind", "wish"), [(kind, wish) for kind, wishes in WISHES.items() for wish in wishes]
)
def test_how_tools_are_chosen_is_the_clients_affair(
    kind: str, wish: dict[str, Any], injecting: bool, streaming: bool
):
    with Bridge(Script("Hi."), tools=[clock] if injecting else []) as bridge:
        TALKS[kind](bridge, streaming, ("mine",), wish).say("Hi")
        body = body_of(bridge)

    chosen = {key: body[key] for key in ("tool_choice", "parallel_tool_calls") if key in body}
    assert chosen == wish
    assert len(body["tools"]) == 1 + injecting


@pytest.mark.feature("gateway", 24)
@DIALECTS
def test_requests_with_tools_are_the_same_every_time(kind: str):
    def zebra() -> None: ...
    def ape() -> None: ...

    seen: set[str] = set()
    for _ in range(10):
        with Bridge(Script("Hi."), tools=[zebra, clock, ape]) as bridge:
            TALKS[kind](bridge, False, ("mine",)).say("Hi")
            seen.add(json.dumps(body_of(bridge)))

    assert len(seen) == 1


REFUSALS: Any = [
    (
        "anthropic",
        400,
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "No."},
            "request_id": "req_1",
        },
    ),
    (
        "anthropic",
        529,
        {
            "type": "error",
            "error": {"type": "overloaded_error", "message": "No."},
            "request_id": "req_1",
        },
    ),
    (
        "chat",
        400,
        {"error": {"message": "No.", "type": "invalid_request_error", "param": "n", "code": "bad"}},
    ),
    (
        "chat",
        429,
        {
            "error": {
                "message": "No.",
                "type": "tokens",
                "param": None,
                "code": "rate_limit_exceeded",
            }
        },
    ),
    (
        "responses",
        400,
        {
            "error": {
                "message": "No.",
                "type": "invalid_request_error",
                "param": "input",
                "code": "bad",
            }
        },
    ),
    (
        "responses",
        500,
        {"error": {"message": "No.", "type": "server_error", "param": None, "code": None}},
    ),
]


@pytest.mark.feature("gateway", 27, 29)
@STREAMING
@pytest.mark.parametrize("injecting", [True, False], ids=["injecting", "plain"])
@pytest.mark.parametrize(("kind", "status", "body"), REFUSALS)
def test_a_providers_refusal_reaches_the_sdk_as_it_was(
    kind: str, status: int, body: Any, injecting: bool, streaming: bool
):
    async def refuse(call: Call) -> Reply:
        fields = [
            ("content-type", "application/json"),
            ("request-id", "req_1"),
            ("x-request-id", "req_1"),
        ]
        return Reply(status, Headers(fields), once(json.dumps(body).encode()))

    with Bridge(refuse, tools=[clock] if injecting else []) as bridge:
        with pytest.raises((anthropic.APIStatusError, openai.APIStatusError)) as told:
            TALKS[kind](bridge, streaming).say("Hi")
        [interception] = bridge.interceptions

    error: Any = told.value
    assert (error.status_code, error.request_id) == (status, "req_1")
    assert error.body == (body if kind == "anthropic" else body["error"])
    assert (interception.status, interception.end) == (status, "upstream_error")


@pytest.mark.feature("gateway", 29)
@DIALECTS
@pytest.mark.parametrize("streaming", [True], ids=["stream"])
def test_a_refusal_in_a_later_round_keeps_its_type_inside_the_stream(kind: str, streaming: bool):
    refusals = {name: body for name, status, body in REFUSALS if status >= 429}
    script, answers = Script(calls("clock")), [None, refusals[kind]]

    async def provider(call: Call) -> Reply:
        body = answers.pop(0)
        if body is None:
            return await script(call)
        return Reply(
            529, Headers([("content-type", "application/json")]), once(json.dumps(body).encode())
        )

    with (
        Bridge(provider, tools=[clock]) as bridge,
        pytest.raises((anthropic.APIError, openai.APIError)) as told,
    ):
        TALKS[kind](bridge, streaming).say("Hi")

    error: Any = told.value
    wanted = refusals[kind]["error"]
    found = error.body["error"] if kind == "anthropic" else error.body
    assert (found["type"], found["message"]) == (wanted["type"], wanted["message"])


@pytest.mark.feature("gateway", 14)
def test_output_that_a_stream_restates_is_counted_once():
    start: dict[str, Any] = {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-5",
            "content": [],
            "usage": {
                "input_tokens": 9,
                "cache_read_input_tokens": 3,
                "cache_creation_input_tokens": 2,
                "output_tokens": 5,
            },
        },
    }
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 61},
    }
    stop = {"type": "message_stop"}

    async def provider(call: Call) -> Reply:
        async def chunks() -> AsyncIterator[bytes]:
            for event in (start, delta, stop):
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()

        return Reply(200, Headers([("content-type", "text/event-stream")]), chunks())

    with Bridge(provider) as bridge:
        TALKS["anthropic"](bridge, True).say("Hi")
        [row] = bridge.frames.token_usage().itertuples()

    found = (row.input_tokens, row.cache_read_tokens, row.cache_write_tokens, row.output_tokens)
    assert found == (9, 3, 2, 61)


@pytest.mark.feature("gateway", 18)
@STREAMING
@DIALECTS
def test_a_request_that_brings_a_result_is_tied_to_the_call(kind: str, streaming: bool):
    with Bridge(Script(calls("mine"), "Done.")) as bridge:
        talk = TALKS[kind](bridge, streaming, ("mine",))
        [(id, _)] = talk.say("Hi").calls
        talk.bring({id: "blue"})
        tied = [interception.answered_call for interception in bridge.interceptions]

    assert tied == [None, id]


@pytest.mark.feature("gateway", 40)
@STREAMING
@DIALECTS
def test_a_script_stands_in_for_a_provider(kind: str, streaming: bool):
    said = AssistantMessage((Text("Hi."),), stop_reason="stop", usage=Usage(3, output_tokens=2))
    with Bridge(Script(said)) as bridge:
        heard = TALKS[kind](bridge, streaming).say("Hi")

    assert (heard.text, heard.tokens) == ("Hi.", (3, 2))


@pytest.mark.feature("gateway", 24)
@STREAMING
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (
            "anthropic",
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}, "odd": 1.5},
        ),
        ("chat", {"reasoning_effort": "high", "odd": [None]}),
        ("responses", {"include": ["reasoning.encrypted_content"], "store": False, "odd": {}}),
    ],
)
def test_all_else_in_a_request_stays_when_tools_are_added(
    kind: str, more: dict[str, Any], streaming: bool
):
    asked: list[dict[str, Any]] = []
    for tools in ([], [clock]):
        with Bridge(Script("Hi."), tools=tools) as bridge:
            TALKS[kind](bridge, streaming, ("mine",), {"extra_body": more}).say("Hi")
            asked.append(body_of(bridge))

    plain, injected = asked
    [mine] = plain.pop("tools")
    tools = injected.pop("tools")
    assert injected == plain
    assert {key: plain[key] for key in more} == more
    assert tools[-1 if kind == "anthropic" else 0] == mine


@pytest.mark.feature("gateway", 29)
@STREAMING
@pytest.mark.parametrize("injecting", [True, False], ids=["injecting", "plain"])
def test_a_refusal_that_is_no_json_passes_as_it_is(injecting: bool, streaming: bool):
    page = b"<html><body>502 Bad Gateway</body></html>"

    async def refuse(call: Call) -> Reply:
        return Reply(502, Headers([("content-type", "text/html")]), once(page))

    with (
        Bridge(refuse, tools=[clock] if injecting else []) as bridge,
        pytest.raises(openai.APIStatusError) as told,
    ):
        TALKS["responses"](bridge, streaming).say("Hi")

    assert (told.value.status_code, told.value.response.content) == (502, page)


@pytest.mark.feature("gateway", 9)
@DIALECTS
def test_variables_of_the_sdks_do_not_reach_the_provider(
    kind: str, monkeypatch: pytest.MonkeyPatch
):
    leaks = {
        name: f"leak-{name.lower()}"
        for name in (
            "ANTHROPIC_AUTH_TOKEN",
            "OPENAI_ORG_ID",
            "OPENAI_PROJECT_ID",
            "ANTHROPIC_CUSTOM_HEADERS",
        )
    }
    seen: list[str] = []

    async def note(call: Call, forward: Any) -> Reply:
        seen.append(repr(call.request.headers.pairs))
        return await forward(call)

    with (
        Bridge(Script("Hi."), interceptors=[note]) as provider,
        provider.serve(token=None) as server,
        Bridge(
            environ={**leaks, "ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "o"},
            base_urls={"anthropic": server.url, "openai": f"{server.url}/v1"},
        ) as bridge,
    ):
        for name in leaks:
            monkeypatch.delenv(name, raising=False)
        heard = TALKS[kind](bridge, False).say("Hi")

    assert heard.text == "Hi."
    assert "leak" not in seen[0]


@pytest.mark.feature("gateway", 34)
def test_each_round_may_go_on_with_the_next_key():
    used: list[str] = []
    script = Script(calls("clock"), "It is noon.")

    async def note(call: Call, forward: Any) -> Reply:
        used.append(call.request.headers["x-api-key"])
        if used == ["one", "one"]:
            return Reply(401, Headers([("content-type", "application/json")]), once(b"{}"))
        return await forward(call)

    with (
        Bridge(script, interceptors=[note]) as provider,
        provider.serve(token=None) as server,
        Bridge(
            base_urls={"anthropic": server.url},
            environ={"ANTHROPIC_API_KEY": "one, two"},
            tools=[clock],
        ) as bridge,
    ):
        heard = TALKS["anthropic"](bridge, True).say("Hi")
        statuses = [record.status for record in bridge.records]

    assert (heard.text, used, statuses) == ("It is noon.", ["one", "one", "two"], [200, 401, 200])
