"""Stream functions in tinyagent's spelling, at a real server of a bridge."""

import asyncio
import json
import operator
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from pytest_httpserver import HTTPServer

from llmbridge import streams
from llmbridge.bridge import Bridge
from llmbridge.canon.messages import Usage
from llmbridge.errors import CassetteMissed
from llmbridge.exchange.call import Call, Headers, Reply
from llmbridge.exchange.faults import truncate
from llmbridge.upstreams.lines import calls, fail, reply
from llmbridge.upstreams.replay import Replay
from llmbridge.upstreams.script import Script

HI = {
    "system_prompt": "Be brief.",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    "tools": [{"name": "clock", "description": "Time", "parameters": {"type": "object"}}],
}
ANSWER = reply("Let me look.", calls("clock", zone="é"), usage=Usage(7, None, None, 5, None, 12))
KINDS = ("text_start", "text_delta", "text_end")
TOOL = ("tool_call_start", "tool_call_delta", "tool_call_end")


@pytest.fixture
def bridges() -> Iterator[list[Bridge]]:
    opened: list[Bridge] = []
    yield opened
    for bridge in opened:
        bridge.close()


def url_of(bridges: list[Bridge], upstream: Any, token: str | None = None, **options: Any) -> str:
    bridge = Bridge(upstream, environ={}, **options)
    bridges.append(bridge)
    return bridge.serve(token=token).url


async def stream(kind: str, url: str, **options: Any) -> streams.Response:
    if kind == "proxy":
        model = SimpleNamespace(provider="anthropic", id="claude-x", api="anthropic-messages")
        token = options.pop("api_key", "secret-1")
        return await streams.stream_proxy(
            model, HI, streams.ProxyStreamOptions(token, url, **options)
        )
    given = {"api_key": "secret-1", **options}
    if kind == "openrouter":
        model = SimpleNamespace(id="claude-x", base_url=f"{url}/openrouter/api/v1")
        return await streams.stream_openrouter(model, HI, given)
    base_url = f"{url}/v1/chat/completions"
    return await streams.stream_openai_compat(
        streams.OpenAICompatModel("openai", "gpt-x", base_url=base_url), HI, given
    )


every_kind = pytest.mark.parametrize("kind", ["proxy", "openrouter", "compat"])


async def test_a_proxy_s_options_may_be_a_dict(bridges: list[Bridge]) -> None:
    url = url_of(bridges, Script("Hello."), "secret-1")
    model = {"provider": "anthropic", "id": "claude-x", "api": "anthropic-messages"}

    response = await streams.stream_proxy(model, HI, {"auth_token": "secret-1", "proxy_url": url})

    assert (await response.result())["content"][0]["text"] == "Hello."


async def test_a_proxy_s_option_that_is_unknown_is_named() -> None:
    with pytest.raises(TypeError, match="tokn"):
        await streams.stream_proxy({}, HI, {"tokn": "secret-1", "proxy_url": "http://127.0.0.1:9"})


def test_no_key_is_shown_with_what_holds_it() -> None:
    model = streams.OpenAICompatModel(headers={"authorization": "Bearer secret-1"})

    assert "secret-1" not in repr((streams.ProxyStreamOptions("secret-1", "http://x"), model))


@pytest.mark.feature("tinyagent", 2, 3, 4, 6, 8, 10, 13, 14)
@every_kind
async def test_every_event_has_the_message_so_far(bridges: list[Bridge], kind: str) -> None:
    url = url_of(bridges, Script(ANSWER), "secret-1")

    response = await stream(kind, url)
    events = [event async for event in response]

    kinds = [event["type"] for event in events]
    assert list(dict.fromkeys(kinds)) == ["start", *KINDS, *TOOL, "done"]
    texts = ["".join(b.get("text", "") for b in e["partial"]["content"]) for e in events]
    assert all("Let me look.".startswith(text) for text in texts)
    assert texts[-1] == "Let me look."
    call = next(e for e in events if e["type"] == "tool_call_end")["tool_call"]
    assert (call["name"], call["arguments"], "partial_json" in call) == (
        "clock",
        {"zone": "é"},
        False,
    )
    message = await response.result()
    assert events[-1]["message"] == message == events[-1]["partial"]
    assert message["stop_reason"] == ("tool_use" if kind == "proxy" else "tool_calls")
    assert (message["usage"]["input"], message["usage"]["total_tokens"]) == (7, 12)


@every_kind
async def test_the_result_needs_no_iteration(bridges: list[Bridge], kind: str) -> None:
    response = await stream(kind, url_of(bridges, Script("Hello")))

    message = await response.result()

    assert message["content"][0]["text"] == "Hello"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("proxy", "Proxy error: bad token"),
        ("openrouter", "OpenRouter error 401: bad token"),
        ("compat", "openai error 401: bad token"),
    ],
)
async def test_a_refusal_is_the_last_event(bridges: list[Bridge], kind: str, said: str) -> None:
    response = await stream(kind, url_of(bridges, Script(fail(401, message="bad token"))))
    events = [event async for event in response]

    assert (events[-1]["type"], events[-1]["reason"]) == ("error", "error")
    assert (await response.result())["error_message"] == said


@every_kind
async def test_nobody_there_is_the_last_event(kind: str) -> None:
    response = await stream(kind, "http://127.0.0.1:9")

    message = await response.result()

    assert (message["stop_reason"], "127.0.0.1" in message["error_message"]) == ("error", True)


@every_kind
async def test_a_cut_stream_is_no_success(bridges: list[Bridge], kind: str) -> None:
    response = await stream(kind, url_of(bridges, Script(ANSWER), faults=[truncate(event=3)]))

    message = await response.result()

    assert message["stop_reason"] == "error"


class Stalling:
    """Sends the beginning of an answer, and then nothing."""

    def __init__(self) -> None:
        self.left = anyio.Event()
        self.begun = asyncio.Event()

    async def __call__(self, call: Call) -> Reply:
        async def chunks() -> Any:
            yield b'data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'
            self.begun.set()
            await anyio.sleep_forever()

        return Reply(200, Headers({"content-type": "text/event-stream"}), chunks())


@pytest.mark.feature("tinyagent", 12)
@pytest.mark.parametrize("how", ["event", "function"])
async def test_a_signal_ends_a_stalled_stream(how: str) -> None:
    upstream, raised = Stalling(), asyncio.Event()
    async with Bridge(upstream, environ={}) as bridge:
        options = {"bridge": bridge, "signal": raised if how == "event" else raised.is_set}
        response = await streams.stream_openrouter(streams.OpenRouterModel(), HI, options)
        await upstream.begun.wait()

        raised.set()
        message = await response.result()

        assert (message["stop_reason"], message["error_message"]) == (
            "aborted",
            "Request aborted by user",
        )
        assert message["content"][0]["text"] == "Hel"
        assert bridge.interceptions[0].end == "client_gone"


async def test_a_signal_that_is_raised_before_makes_no_request() -> None:
    async with Bridge(Script("Hello"), environ={}) as bridge:
        options = {"bridge": bridge, "signal": lambda: True}
        response = await streams.stream_openrouter(streams.OpenRouterModel(), HI, options)
        events = [event async for event in response]

        assert [event["type"] for event in events] == ["start", "error"]
        assert (events[-1]["reason"], len(bridge.interceptions)) == ("aborted", 0)


async def test_a_response_may_be_closed_early() -> None:
    upstream = Stalling()
    async with Bridge(upstream, environ={}) as bridge:
        response = await streams.stream_openrouter(
            streams.OpenRouterModel(), HI, {"bridge": bridge}
        )
        await upstream.begun.wait()
        await response.aclose()

        assert bridge.interceptions[0].end == "client_gone"


async def test_a_response_that_was_closed_has_an_end_and_a_message() -> None:
    async with Bridge(Script("Hello"), environ={}) as bridge:
        response = await streams.stream_openrouter(
            streams.OpenRouterModel(), HI, {"bridge": bridge}
        )
        await response.aclose()
        events = [event["type"] async for event in response]

        assert events == ["start", "error"]
        assert (await response.result())["stop_reason"] == "aborted"


async def test_a_signal_that_fails_ends_the_stream_with_an_error() -> None:
    def signal() -> bool:
        raise RuntimeError("no signal here")

    async with Bridge(Script("Hello"), environ={}) as bridge:
        response = await streams.stream_openrouter(
            streams.OpenRouterModel(), HI, {"bridge": bridge, "signal": signal}
        )
        events = [event async for event in response]

        assert (events[-1]["type"], events[-1]["error"]["error_message"]) == (
            "error",
            "RuntimeError: no signal here",
        )


async def test_a_loud_miss_is_raised_by_iteration_and_result() -> None:
    async with Bridge(Replay([], on_miss="raise"), environ={}) as bridge:
        response = await streams.stream_openrouter(
            streams.OpenRouterModel(), HI, {"bridge": bridge}
        )

        with pytest.raises(CassetteMissed):
            await anext(response)
        with pytest.raises(CassetteMissed):
            await response.result()


async def from_proxy(server: HTTPServer, body: bytes, status: int = 200) -> list[Any]:
    kind = "text/event-stream" if status == 200 else "application/json"
    server.expect_request("/api/stream").respond_with_data(body, status, content_type=kind)
    response = await streams.create_proxy_stream(
        {"provider": "anthropic", "id": "m"}, HI, "secret-1", server.url_for("").rstrip("/")
    )
    return [event async for event in response]


def lines(*events: str) -> bytes:
    return "".join(f"data: {event}\n\n" for event in events).encode()


HELLO = (
    '{"type":"start"}',
    '{"type":"text_start","contentIndex":2}',
    '{"type":"ping"}',
    '{"type":"text_delta","contentIndex":2,"delta":"Hi"}',
    '{"type":"text_end","contentIndex":2,"contentSignature":"s"}',
)
DONE = '{"type":"done","reason":"stop","usage":{}}'


@pytest.mark.feature("tinyagent", 10, 14)
async def test_places_that_a_proxy_leaves_empty_are_closed_up(httpserver: HTTPServer) -> None:
    events = await from_proxy(httpserver, lines(*HELLO, DONE))

    assert [(e["type"], e.get("content_index")) for e in events] == [
        ("start", None),
        ("text_start", 0),
        ("text_delta", 0),
        ("text_end", 0),
        ("done", None),
    ]
    assert events[-1]["message"]["content"] == [
        {"type": "text", "text": "Hi", "text_signature": "s"}
    ]


@pytest.mark.feature("tinyagent", 10)
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (lines(*HELLO), "stopped before its last event"),
        (lines(HELLO[0], HELLO[3]), "Received text_delta for non-text content"),
        (b"", "an answer without a body"),
    ],
    ids=["no last event", "a delta before its start", "nothing at all"],
)
async def test_a_proxy_that_breaks_off_is_an_error(
    httpserver: HTTPServer, body: bytes, said: str
) -> None:
    events = await from_proxy(httpserver, body)

    assert (events[-1]["type"], events[-1]["reason"]) == ("error", "error")
    assert said in events[-1]["error"]["error_message"]


@pytest.mark.feature("tinyagent", 10)
@pytest.mark.parametrize(
    ("body", "said"),
    [(b'{"error":"bad token"}', "Proxy error: bad token"), (b"no", "Proxy error: ")],
    ids=["an object", "something else"],
)
async def test_a_proxy_that_refuses_is_an_error(
    httpserver: HTTPServer, body: bytes, said: str
) -> None:
    events = await from_proxy(httpserver, body, 401)

    assert [event["type"] for event in events][-1] == "error"
    assert events[-1]["error"]["error_message"].startswith(said)


@pytest.mark.feature("tinyagent", 1, 2)
async def test_a_key_is_taken_from_the_options_then_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    model = streams.OpenRouterModel()

    with pytest.raises(ValueError, match="OpenRouter API key required"):
        await streams.stream_openrouter(model, HI, {})

    assert (model.provider, model.id, model.api) == (
        "openrouter",
        "anthropic/claude-3.5-sonnet",
        "openrouter",
    )


@pytest.mark.feature("tinyagent", 2, 6)
@pytest.mark.parametrize(
    ("given", "environment", "stop_reason"),
    [
        ("secret-1", "wrong", "complete"),
        (None, "secret-1", "complete"),
        ("", "secret-1", "complete"),
        ("wrong", "secret-1", "error"),
    ],
)
@pytest.mark.parametrize("kind", ["openrouter", "compat"])
async def test_the_key_of_the_options_goes_before_that_of_the_environment(
    bridges: list[Bridge],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    given: str | None,
    environment: str,
    stop_reason: str,
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", environment)
    monkeypatch.setenv("OPENAI_API_KEY", environment)
    url = url_of(bridges, Script("Hello"), "secret-1")

    message = await (await stream(kind, url, api_key=given)).result()

    assert message["stop_reason"] == stop_reason


@pytest.mark.feature("tinyagent", 5)
@pytest.mark.parametrize(
    ("base_url", "said"), [(" ", "no base_url"), ("https://x.example/v1", "set NOBODY_API_KEY")]
)
async def test_a_compatible_endpoint_needs_an_address_and_a_key(base_url: str, said: str) -> None:
    model = streams.OpenAICompatModel("nobody", base_url=base_url)

    with pytest.raises(ValueError, match=said):
        await streams.stream_openai_compat(model, HI, {})


@pytest.mark.feature("tinyagent", 5, 6)
async def test_a_compatible_endpoint_gets_images_headers_and_settings(
    bridges: list[Bridge],
) -> None:
    url = url_of(bridges, Script("A dot."))
    picture = {"type": "image", "url": "data:image/png;base64,AA=="}
    context = {"messages": [{"role": "user", "content": [picture]}]}
    model = streams.OpenAICompatModel(
        "openai", "gpt-x", base_url=f"{url}/v1", headers={"x-team": "a"}, reasoning="low"
    )

    response = await streams.stream_alchemy_openai_completions(model, context, {"temperature": 0})
    await response.result()

    request = bridges[0].interceptions[0].request
    body = json.loads(request.body)
    assert body["messages"][0]["content"][0]["image_url"]["url"] == picture["url"]
    assert (body["temperature"], body["max_tokens"], body["reasoning_effort"]) == (0, 4096, "low")


@pytest.mark.feature("tinyagent", 7, 9)
async def test_a_proxy_gets_its_options_one_by_one(bridges: list[Bridge]) -> None:
    url = url_of(bridges, Script("Hello"), "secret-1")
    model = SimpleNamespace(provider="openai", id="m", api="openai-responses")

    response = await streams.create_proxy_stream(
        model, HI, "secret-1", url + "/", temperature=0.5, max_tokens=9, reasoning="low"
    )
    message = await response.result()

    assert (message["provider"], message["model"]) == ("openai", "m")
    sent = json.loads(bridges[0].records[0].request.body)  # type: ignore[union-attr]
    assert (sent["temperature"], sent["max_output_tokens"], sent["reasoning"]) == (
        0.5,
        9,
        {"effort": "low"},
    )


@pytest.mark.parametrize("message", [object(), SimpleNamespace(model_dump=lambda **_: [])])
async def test_a_message_of_an_unknown_kind_is_named(message: Any) -> None:
    context = {"messages": [message]}

    with pytest.raises(TypeError, match=r"context\.messages"):
        await streams.stream_openrouter(streams.OpenRouterModel(), context, {"api_key": "k"})


def test_an_event_is_a_whole_dict_for_whoever_reads_it_whole() -> None:
    built: list[int] = []

    def partial() -> dict[str, Any]:
        built.append(1)
        return {"role": "assistant"}

    event = streams.StreamEvent({"type": "start"}, partial)

    assert (event["type"], built) == ("start", [])
    assert ("partial" in event, event.get("nothing")) == (True, None)
    assert [event] != [{"type": "start"}]
    assert operator.ne(event, {"type": "start", "partial": {"role": "assistant"}}) is False
    assert json.loads(json.dumps(event)) == {"type": "start", "partial": {"role": "assistant"}}
    assert dict(event) == event == {"type": "start", "partial": {"role": "assistant"}}
    assert built == [1]


@pytest.mark.feature("tinyagent", 11)
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("{", {}),
        ('{"a"', {}),
        ('{"a":', {}),
        ('{"a":1', {"a": 1}),
        ('{"a":1,', {"a": 1}),
        ('{"query": "hello', {"query": "hello"}),
        ('{"query": "hello"', {"query": "hello"}),
        ('{"a":{"b":1', {"a": {"b": 1}}),
        ('{"a":{"b":1}', {"a": {"b": 1}}),
        ('{"a":[1,2', {"a": [1, 2]}),
        ('{"a":[1,2]', {"a": [1, 2]}),
        ('{"a":"x}', {"a": "x}"}),
        ('{"a":"{"', {"a": "{"}),
        ('{"a":12.', {}),
        ('{"a":-', {}),
        ('{"a":tru', {}),
        ('{"a":nul', {}),
        ('{"a":1}}', None),
        ('{"a":1} x', None),
        ('{"a":NaN}', None),
        ("[1,2]", None),
        ('"s"', None),
        ("null", None),
    ],
)
def test_streamed_arguments_are_read_as_far_as_they_go(text: str, value: Any) -> None:
    assert streams.parse_streaming_json(text) == value
