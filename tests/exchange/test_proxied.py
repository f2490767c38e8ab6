"""Clients of `/stream` and `/api/stream` at a bridge: a real server, a script or a recording behind it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from llmbridge.bridge import Bridge
from llmbridge.canon.events import fold
from llmbridge.canon.messages import Context, Model, Text, ToolCall, UserMessage
from llmbridge.errors import UpstreamError
from llmbridge.exchange.call import Call, Handler, Headers, Reply, once
from llmbridge.exchange.faults import status, truncate
from llmbridge.exchange.rewrite import append_text
from llmbridge.frontends.server import Server
from llmbridge.providers import DIALECTS, Provider
from llmbridge.upstreams.lines import Line, calls, fail, reply
from llmbridge.upstreams.replay import Replay
from llmbridge.upstreams.script import Script
from llmbridge.wire.sse import SSEDecoder

STREAM: dict[str, Any] = {
    "model": "claude-x",
    "context": {
        "system_prompt": "Be brief.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    },
    "options": {"max_tokens": 512},
}
API_STREAM: dict[str, Any] = {
    "model": {"provider": "anthropic", "id": "claude-x", "api": "anthropic-messages"},
    "context": {
        "system_prompt": "Be brief.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    },
    "options": {"temperature": None, "maxTokens": 512, "reasoning": None},
}
HI = Context(messages=(UserMessage((Text("hi"),)),))
FIXTURES = Path(__file__).parents[2] / "fixtures"
ANTHROPIC, CHAT, RESPONSES = "anthropic.messages", "openai.chat", "openai.responses"


@dataclass(slots=True)
class Served:
    """A bridge over a script, and a client of its server."""

    bridge: Bridge
    server: Server
    client: httpx2.Client

    def post(self, path: str, body: Any, **options: Any) -> httpx2.Response:
        return self.client.post(self.server.url + path, json=body, **options)

    def sent(self) -> dict[str, Any]:
        """What the provider was asked last."""
        request = self.bridge.records[-1].request
        assert request is not None, "a live record has its request"
        return json.loads(request.body)


def served(upstream: Any, token: str | None = None, **options: Any) -> Iterator[Served]:
    with (
        Bridge(upstream, environ={}, **options) as bridge,
        bridge.serve(token=token) as server,
        httpx2.Client() as client,
    ):
        yield Served(bridge, server, client)


@pytest.fixture
def serve() -> Iterator[Any]:
    running: list[Iterator[Served]] = []

    def start(*lines: Line | str, **options: Any) -> Served:
        running.append(served(Script(*lines), **options))
        return next(running[-1])

    yield start
    for each in running:
        next(each, None)


def read(dialect: str, answer: httpx2.Response) -> Any:
    sse, decoder = SSEDecoder(), DIALECTS[dialect].decoder()
    deltas = [delta for event in sse.feed(answer.content) for delta in decoder.feed(event)]
    return fold([*deltas, *decoder.close()])


@pytest.mark.feature("bitop", 1, 2, 13, 19)
@pytest.mark.parametrize(
    ("path", "model", "provider", "dialect"),
    [
        ("/stream", "claude-x", "anthropic", ANTHROPIC),
        ("/stream", "gpt-5-mini", "openai", CHAT),
        ("/stream", "groq/llama", "groq", CHAT),
        ("/stream/openai", "anything", "openai", CHAT),
        ("/anthropic/stream", "anything", "anthropic", ANTHROPIC),
    ],
)
def test_stream_asks_whom_path_or_model_name(
    serve: Any, path: str, model: str, provider: str, dialect: str
) -> None:
    there = serve("Hello")

    answer = there.post(path, {**STREAM, "model": model})

    record = there.bridge.records[0]
    assert (record.provider, record.dialect) == (provider, dialect)
    assert record.model == model.removeprefix("groq/")
    assert read("proxy.stream", answer).text == "Hello"
    assert answer.headers["content-type"] == "text/event-stream"
    assert there.bridge.interceptions[0].dialect == "proxy.stream"


@pytest.mark.feature("tinyagent", 8, 15, 16)
@pytest.mark.parametrize("path", ["/api/stream", "//api/stream"])
@pytest.mark.parametrize(
    ("provider", "api", "dialect"),
    [
        ("anthropic", "anthropic-messages", ANTHROPIC),
        ("openai", "openai-completions", CHAT),
        ("openai", "openai-responses", RESPONSES),
        ("openrouter", "openrouter", CHAT),
    ],
)
def test_api_stream_asks_whom_its_model_names(
    serve: Any, path: str, provider: str, api: str, dialect: str
) -> None:
    there = serve("Hello")
    model = {"provider": provider, "id": "m-1", "api": api, "baseUrl": "http://evil.example"}

    answer = there.post(path, {**API_STREAM, "model": model})

    record = there.bridge.records[0]
    assert (record.provider, record.dialect, record.model) == (provider, dialect, "m-1")
    assert read("proxy.api_stream", answer).text == "Hello"
    assert b"[DONE]" not in answer.content


@pytest.mark.feature("bitop", 4, 5, 6)
@pytest.mark.parametrize(
    ("provider", "wanted"),
    [
        (
            "anthropic",
            {
                "temperature": 0.5,
                "max_tokens": 1536,
                "thinking": {"type": "enabled", "budget_tokens": 1024},
                "cache_control": {"type": "ephemeral"},
            },
        ),
        ("openai", {"temperature": 0.5, "max_completion_tokens": 512, "reasoning_effort": "low"}),
    ],
)
def test_settings_reach_the_provider(serve: Any, provider: str, wanted: dict[str, Any]) -> None:
    there = serve("Hello")
    options = {
        "max_tokens": 512,
        "temperature": 0.5,
        "thinking_level": "minimal",
        "cache_retention": "short",
    }

    there.post(f"/stream/{provider}", {**STREAM, "options": options})

    assert {name: there.sent().get(name) for name in wanted} == wanted


def test_a_tool_is_offered_and_called(serve: Any) -> None:
    there = serve(calls("bash", command="ls"))
    context = {**STREAM["context"], "tools": [{"name": "bash", "parameters": {"type": "object"}}]}

    message = read("proxy.stream", there.post("/stream", {**STREAM, "context": context}))

    assert [tool["name"] for tool in there.sent()["tools"]] == ["bash"]
    assert [(c.name, c.arguments) for c in message.tool_calls] == [("bash", {"command": "ls"})]


@pytest.mark.feature("bitop", 12)
def test_a_client_may_ask_for_one_wire_alone(serve: Any) -> None:
    there = serve("Hello", "Hello")

    old = there.post("/stream?dialect=wire", STREAM)
    new = there.post("/stream?dialect=documented", STREAM)

    assert (b"partial" in old.content, b"message_end" in new.content) == (False, False)
    assert old.content.endswith(b"data: [DONE]\n\n")


@pytest.mark.feature("bitop", 14, 15)
@pytest.mark.parametrize(
    ("method", "path", "headers", "code", "text"),
    [
        ("POST", "/stream", {}, 401, "unauthorized\n"),
        ("POST", "/stream", {"authorization": "Bearer wrong"}, 401, "unauthorized\n"),
        ("POST", "/nowhere", {}, 401, None),
        ("GET", "/stream", {"authorization": "Bearer secret-1"}, 404, "not found\n"),
        ("POST", "/stream", {"authorization": "secret-1"}, 200, None),
        ("POST", "/stream", {"authorization": "Bearer secret-1"}, 200, None),
    ],
)
def test_a_token_is_asked_for_before_the_path(
    serve: Any, method: str, path: str, headers: dict[str, str], code: int, text: str | None
) -> None:
    there = serve("Hello", token="secret-1")

    answer = there.client.request(method, there.server.url + path, json=STREAM, headers=headers)

    assert answer.status_code == code
    if text is not None:
        assert (answer.text, answer.headers["content-type"]) == (text, "text/plain; charset=utf-8")
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/stream", b"", "bad request: the body is not"),
        ("/stream", b"{", "bad request: the body is not JSON"),
        (
            "/stream",
            b'{"model":"claude-x","context":{"messages":[{"role":"user","content":"x"}]}}',
            "bad request: the content of message 0 is no array",
        ),
        (
            "/stream",
            b'{"model":"nobody"}',
            "bad request: no provider is known for the model 'nobody': name one in the path, as in /stream/openai,",
        ),
        (
            "/stream?dialect=wired",
            b'{"model":"claude-x"}',
            "bad request: there is no dialect='wired': give wire or documented, or leave it out for both",
        ),
        ("/stream/nobody", b'{"model":"x"}', "bad request: no provider 'nobody': there are"),
        ("/api/stream", b"[]", '{"error":"the body is not a JSON object'),
        ("/api/stream", b'{"model":{"provider":"nobody"}}', """{"error":"no provider 'nobody'"""),
        (
            "/api/stream",
            b'{"model":{"id":"m"}}',
            """{"error":"no provider is known for the model 'm': name one as provider in the model""",
        ),
        (
            "/api/stream",
            b'{"model":{"provider":"openai","id":"m"},"options":{"topK":1}}',
            """{"error":"a route leads from proxy.api_stream to openai.chat, which cannot carry 'topK'""",
        ),
        (
            "/api/stream",
            b'{"model":{"provider":"openai","id":"m"},"options":{"reasoning":"much"}}',
            '{"error":"a route leads',
        ),
    ],
)
def test_a_bad_request_is_told_in_the_client_s_shape(
    serve: Any, path: str, body: bytes, said: str
) -> None:
    there = serve("Hello")

    answer = there.client.post(there.server.url + path, content=body)

    assert (answer.status_code, answer.text[: len(said)]) == (400, said)


def test_a_provider_s_refusal_is_told_in_the_stream(serve: Any) -> None:
    there = serve(fail(529, message="overloaded"))

    answer = there.post("/stream?dialect=wire", STREAM)

    told = '"error_message":"anthropic: HTTP 529: overloaded"'
    end = f'data: {{"type":"message_end","stop_reason":"error",{told}}}\n\ndata: [DONE]\n\n'
    assert (answer.status_code, answer.text) == (200, end)
    assert there.bridge.interceptions[0].end == "upstream_error"


def test_a_provider_s_refusal_keeps_its_status_on_api_stream(serve: Any) -> None:
    there = serve(fail(429, message="slow down"))

    answer = there.post("/api/stream", API_STREAM)

    assert (answer.status_code, answer.json()) == (429, {"error": "slow down"})


@pytest.mark.parametrize(
    ("path", "body", "code"), [("/stream", STREAM, 200), ("/api/stream", API_STREAM, 502)]
)
def test_a_provider_that_cannot_be_reached_is_told(path: str, body: Any, code: int) -> None:
    async def nobody(call: Call) -> Reply:
        raise UpstreamError("nobody there")

    there = served(nobody)
    answer = next(there).post(path, body)
    next(there, None)

    assert (answer.status_code, "nobody there" in answer.text) == (code, True)


@pytest.mark.parametrize(
    ("path", "body", "dialect"),
    [
        ("/stream", STREAM, "proxy.stream"),
        ("/stream?dialect=documented", STREAM, "proxy.stream"),
        ("/api/stream", API_STREAM, "proxy.api_stream"),
    ],
)
def test_a_stream_that_is_cut_never_passes_for_a_whole_one(
    serve: Any, path: str, body: Any, dialect: str
) -> None:
    there = serve("Hello there", faults=[truncate(event=3)])

    answer = there.post(path, body)

    message = read(dialect, answer)
    assert message.stop_reason == "error"
    assert there.bridge.interceptions[0].end == "truncated"


@pytest.mark.feature("tinyagent", 15)
@pytest.mark.parametrize(("given", "told"), [(201, 200), (204, 502), (302, 502)])
def test_an_odd_status_of_a_provider_does_not_reach_the_client(given: int, told: int) -> None:
    """Tinyagent takes 200 alone for a stream; over one without a body pi waits for ever."""
    hello = (FIXTURES / ANTHROPIC / "text.sse").read_bytes() if given == 201 else b""

    async def odd(call: Call) -> Reply:
        return Reply(given, Headers({"content-type": "text/event-stream"}), once(hello))

    there = served(odd)
    answer = next(there).post("/api/stream", API_STREAM)
    next(there, None)

    said = '{"error":' if told == 502 else 'data: {"type":"start"}'
    assert (answer.status_code, answer.text[: len(said)]) == (told, said)


def test_a_model_s_name_may_be_routed_elsewhere(serve: Any) -> None:
    there = serve("Hello", "Hello", routes={"claude-*": "openai/gpt-5-mini"})

    there.post("/stream", STREAM)
    first = there.bridge.records[0]
    there.post("/api/stream", {**API_STREAM, "model": {"id": "claude-x"}})

    assert (first.provider, first.model) == ("openai", "gpt-5-mini")
    assert there.bridge.records[1].model == "gpt-5-mini"


def test_a_replay_answers_proxies_too(serve: Any) -> None:
    there = serve("Hello")
    there.post("/stream", STREAM)

    again = served(Replay(list(there.bridge.records)))
    answer = next(again).post("/stream", STREAM)
    next(again, None)

    assert read("proxy.stream", answer).text == "Hello"


@pytest.mark.feature("bitop", 18)
def test_changes_and_interceptors_see_the_provider_s_request(serve: Any) -> None:
    seen: list[str] = []

    async def watch(call: Call, forward: Handler) -> Reply:
        seen.append(call.dialect.name)
        return await forward(call)

    there = serve("Hello", interceptors=[watch])
    there.bridge.rewrite(append_text(" now"))

    there.post("/stream", STREAM)

    assert seen == [ANTHROPIC]
    assert there.sent()["messages"][-1]["content"][-1] == {"type": "text", "text": " now"}


@pytest.mark.feature("bitop", 16)
@pytest.mark.parametrize(
    ("dialect", "path"), [("proxy.stream", "/stream"), ("proxy.api_stream", "/api/stream")]
)
async def test_such_a_server_is_a_provider_itself(serve: Any, dialect: str, path: str) -> None:
    there = serve(reply("Let me look.", calls("bash", command="ls")), token="secret-1")
    row = Provider("team", there.server.url, (dialect,), key="secret-1")
    model = "anthropic/claude-x"

    async with Bridge(providers=[row], environ={}) as bridge:
        message = await (await bridge.stream(Model("team", model), HI)).result()

    assert [type(block) for block in message.content] == [Text, ToolCall]
    assert (message.stop_reason, there.bridge.records[0].model) == ("tool_use", "claude-x")


async def test_a_provider_s_own_wire_is_passed_on_as_it_is(serve: Any) -> None:
    there = serve("Hello", "Hello")
    row = Provider("team", there.server.url, ("proxy.stream",), keyless=True)
    near = served(None, providers=[row])

    direct = there.post("/stream", STREAM)
    relayed = next(near).post("/stream/team", STREAM)
    next(near, None)

    assert relayed.content == direct.content


def test_a_fault_in_front_of_a_script_is_told_in_the_stream(serve: Any) -> None:
    there = serve("Hello", faults=[status(503)])

    answer = there.post("/stream", STREAM)

    assert read("proxy.stream", answer).stop_reason == "error"


@pytest.mark.feature("bitop", 16)
async def test_a_refusal_of_such_a_server_is_told_as_its_own_client_tells_it(serve: Any) -> None:
    there = serve("Hello", token="secret-1")
    row = Provider("team", there.server.url, ("proxy.stream",), key="wrong")

    async with Bridge(providers=[row], environ={}) as bridge:
        message = await (await bridge.stream(Model("team", "claude-x"), HI)).result()

    assert (message.stop_reason, message.error) == (
        "error",
        "proxy: server 401: unauthorized\n",
    )


@pytest.mark.feature("bitop", 19)
@pytest.mark.parametrize(
    ("path", "body"),
    [("/stream", STREAM), ("/stream/openai", STREAM), ("/api/stream", API_STREAM)],
)
async def test_a_bridge_that_is_mounted_below_a_prefix_serves_them_too(
    path: str, body: dict[str, Any]
) -> None:
    async with Bridge(Script("Hello"), environ={}) as bridge:
        app = httpx2.ASGITransport(app=bridge.asgi, root_path="/team/llm")
        async with httpx2.AsyncClient(transport=app, base_url="http://localhost") as client:
            answer = await client.post(f"/team/llm{path}", json=body)

    assert (answer.status_code, b"Hello" in answer.content) == (200, True)
