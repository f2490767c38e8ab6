"""Calliope's routes on a real server, asked raw and by our own client; a canary counts what must never be reached."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anyio.lowlevel
import httpx2
import pytest
from pytest_httpserver import HTTPServer

from llmbridge.bridge import Bridge
from llmbridge.calliope import CalliopeProxy
from llmbridge.errors import UpstreamError
from llmbridge.frontends.calliope import Calliope
from llmbridge.upstreams.lines import fail
from llmbridge.upstreams.live import Live
from llmbridge.upstreams.replay import Replay
from llmbridge.upstreams.script import Script
from llmbridge.upstreams.web import Crawled, Crawler, Recorded, SearchResult
from tests.shared import SHARED, needs_shared

HEADERS = {
    "key": "k",
    "timestamp": "170000000033",
    "v": "1",
    "extensionVersion": "0.0.0",
    "os": "linux",
    "uniqueId": "NOT_UNIQUE",
}
BEARER = {"authorization": "Bearer access"}
KEYS = {"OPENAI_API_KEY": "sk-FAKE0004", "COHERE_API_KEY": "co-FAKE0005"}
ASKED: dict[str, Any] = {
    "model": "owner/package/openai/gpt-4",
    "messages": [{"role": "user", "content": "hello"}],
    "calliopeProperties": {"apiKeyLocation": "env:OPENAI_API_KEY", "orgScopeId": None},
}
FOUND = SearchResult("Title", "https://example.com/result", "snippet", "whole page")


async def crawled(start_url: str, depth: int, limit: int) -> list[Crawled]:
    return [Crawled(start_url, "/", f"# {depth} {limit}")]


@dataclass(slots=True)
class Served:
    bridge: Bridge
    url: str
    client: httpx2.Client

    def post(self, path: str, body: Any, headers: dict[str, str] = BEARER) -> httpx2.Response:
        return self.client.post(self.url + path, json=body, headers=headers)

    def sent(self) -> dict[str, Any]:
        request = self.bridge.records[-1].request
        assert request is not None
        body: dict[str, Any] = json.loads(request.body)
        return body


@pytest.fixture
def serve() -> Iterator[Any]:
    running: list[tuple[Bridge, httpx2.Client]] = []

    def start(
        *lines: Any,
        upstream: Any = None,
        token: str | None = None,
        options: Any = None,
        **more: Any,
    ) -> Served:
        calliope = options or Calliope(Recorded({"what": [FOUND]}), crawled)
        bridge = Bridge(upstream or Script(*lines), calliope=calliope, environ=KEYS, **more)
        running.append((bridge, httpx2.Client()))
        return Served(bridge, bridge.serve(token=token).url, running[-1][1])

    yield start
    for bridge, client in running:
        client.close()
        bridge.close()


@pytest.mark.feature("calliope", 5)
@pytest.mark.parametrize("path", ["/web", "/api/web"])
def test_a_search_answers_in_all_spellings(serve: Any, path: str) -> None:
    answer = serve().post(path, {"query": "what", "n": 3}, HEADERS)

    assert answer.json() == [
        {
            "name": "Title",
            "title": "Title",
            "description": "snippet",
            "content": "whole page",
            "url": "https://example.com/result",
            "uri": {"type": "url", "value": "https://example.com/result"},
            "type": "web",
        }
    ]


@pytest.mark.feature("calliope", 6)
@pytest.mark.parametrize(
    ("asked", "heard"),
    [
        ({}, "# 2 50"),
        ({"maxDepth": 0, "limit": 0}, "# 2 50"),
        ({"maxDepth": "3", "limit": "100"}, "# 3 100"),
    ],
)
@pytest.mark.parametrize("path", ["/crawl", "/api/crawl"])
def test_a_crawl_takes_depth_and_limit(serve: Any, path: str, asked: Any, heard: str) -> None:
    answer = serve().post(path, {"startUrl": "https://example.com/", **asked}, HEADERS)

    assert answer.json() == [{"url": "https://example.com/", "path": "/", "content": heard}]


@pytest.mark.feature("calliope", 1, 3)
@pytest.mark.parametrize("path", ["/web", "/crawl"])
def test_missing_headers_are_named(serve: Any, path: str) -> None:
    served = serve()

    bare = served.post(path, {}, {})
    some = served.post(path, {}, {**HEADERS, "os": "", "v": ""})

    names = "key, timestamp, v, extensionversion, os, uniqueid"
    assert (bare.status_code, bare.json()) == (
        401,
        {"error": f"Unauthorized: Missing required headers: {names}"},
    )
    assert some.json() == {"error": "Unauthorized: Missing required headers: v, os"}


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/web", {}, 400, "Missing required parameter: query"),
        ("/crawl", {}, 400, "Missing required parameter: startUrl"),
    ],
)
def test_what_is_missing_is_named(
    serve: Any, path: str, body: Any, status: int, error: str
) -> None:
    answer = serve().post(path, body, HEADERS)

    assert (answer.status_code, answer.json()) == (status, {"error": error})


@pytest.mark.parametrize(
    ("path", "body"), [("/web", {"query": "x"}), ("/crawl", {"startUrl": "https://example.com"})]
)
def test_the_web_is_off_until_it_is_configured(serve: Any, path: str, body: Any) -> None:
    answer = serve(options=Calliope()).post(path, body, HEADERS)

    assert (answer.status_code, "is off" in answer.json()["error"]) == (403, True)


@pytest.mark.parametrize(
    ("said", "status", "error"),
    [
        ("the search answered 401", 401, "Search API authentication failed. Check API key."),
        ("the search answered 400", 400, "Search API bad request: the search answered 400"),
        ("no way", 500, "Web search failed."),
    ],
)
def test_a_failed_search_says_why(serve: Any, said: str, status: int, error: str) -> None:
    async def fails(query: str, count: int) -> list[SearchResult]:
        raise UpstreamError(said)

    answer = serve(options=Calliope(fails)).post("/web", {"query": "x"}, HEADERS)

    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_a_search_may_wait_where_a_replay_answers_without_a_socket() -> None:
    async def slow(query: str, count: int) -> list[SearchResult]:
        await anyio.lowlevel.checkpoint()
        return [FOUND]

    with (
        Bridge(Replay([]), calliope=Calliope(slow)) as bridge,
        httpx2.Client(transport=bridge.transport(), base_url="http://bridge") as client,
    ):
        answer = client.post("/web", json={"query": "what"}, headers=HEADERS)

    assert (answer.status_code, answer.json()[0]["url"]) == (200, FOUND.url)


def test_what_a_search_of_ones_own_raises_is_answered(serve: Any) -> None:
    async def broken(query: str, count: int) -> list[SearchResult]:
        raise RuntimeError("sk-FAKE0004")

    answer = serve(options=Calliope(broken)).post("/web", {"query": "what"}, HEADERS)

    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "Something went very wrong!", "statusCode": 500},
    )


@pytest.mark.feature("calliope", 21)
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0.0.0.0", "me@127.1"],
)
@pytest.mark.parametrize("port", ["", ":{port}"], ids=["80", "canary"])
def test_a_crawl_never_reaches_this_machine(
    serve: Any, httpserver: HTTPServer, host: str, port: str
) -> None:
    url = f"http://{host}{port.format(port=httpserver.port)}/"

    answer = serve(options=Calliope(crawl=Crawler())).post("/crawl", {"startUrl": url}, HEADERS)

    assert (answer.status_code, httpserver.log) == (403, [])


@pytest.mark.feature("calliope", 4, 7, 11, 12, 20)
@pytest.mark.parametrize("provider", ["openai", "OpenAI", "anthropic", "gemini", "groq"])
def test_chat_goes_to_the_provider_in_the_model_name(serve: Any, provider: str) -> None:
    served = serve("Hello.", "Hello.")
    body = {**ASKED, "model": f"owner/package/{provider}/maker/m-1", "stream": True}
    names = {"anthropic": "ANTHROPIC", "gemini": "GEMINI", "groq": "GROQ"}
    location = f"env:{names.get(provider, 'OPENAI')}_API_KEY"
    body["calliopeProperties"] = {"apiKeyLocation": location}
    body["metadata"] = {"inner": {"calliopeProperties": {"env": {"X": "sk-FAKE0007"}}}}
    del body["metadata"]

    answer = served.post("/model-proxy/v1/chat/completions", body)

    record = served.bridge.records[0]
    assert record.provider == {"gemini": "google"}.get(provider, provider.lower())
    assert record.model == "maker/m-1"
    assert answer.text.rstrip().endswith("data: [DONE]")


@pytest.mark.feature("calliope", 12)
def test_properties_are_removed_at_every_depth(serve: Any) -> None:
    served = serve("Hello.")
    inner = {"calliopeProperties": {"env": {"OPENAI_API_KEY": "sk-FAKE0007"}}, "role": "user"}
    body = {**ASKED, "messages": [{**inner, "content": [{"type": "text", "text": "hi", **inner}]}]}

    served.post("/model-proxy/v1/chat/completions", body)

    assert served.sent() == {
        "model": "gpt-4",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "role": "user"}]}],
    }
    assert b"FAKE0007" not in served.bridge.interceptions[0].request.body


@pytest.mark.feature("calliope", 3, 11, 13, 21)
@pytest.mark.parametrize(
    ("route", "changes", "status", "error"),
    [
        ("chat/completions", {"model": ""}, 400, "Missing required parameter: model"),
        (
            "chat/completions",
            {"calliopeProperties": {}},
            400,
            "Missing calliopeProperties in request body",
        ),
        (
            "chat/completions",
            {"calliopeProperties": {"apiBase": "x"}},
            400,
            "Missing required field: calliopeProperties.apiKeyLocation",
        ),
        ("chat/completions", {"model": "gpt-4"}, 400, "Invalid model string format."),
        (
            "chat/completions",
            {"model": "owner/package/provider"},
            400,
            "Invalid model string format.",
        ),
        (
            "rerank",
            {},
            400,
            "Reranking is not supported for provider 'openai'. Supported providers: cohere",
        ),
        (
            "chat/completions",
            {"calliopeProperties": {"apiKeyLocation": "not_found:OPENAI_API_KEY"}},
            400,
            "Failed to retrieve API key. Check apiKeyLocation and environment variables.",
        ),
        (
            "chat/completions",
            {"model": "o/p/nobody/m"},
            400,
            "apiBase is required for unknown providers. Please specify calliopeProperties.apiBase",
        ),
        (
            "chat/completions",
            {"calliopeProperties": {"apiKeyLocation": "env:AWS_SECRET_ACCESS_KEY"}},
            403,
            "Failed to retrieve API key. Check apiKeyLocation and environment variables.",
        ),
    ],
)
def test_a_bad_request_is_told_as_the_original_tells_it(
    serve: Any, route: str, changes: Any, status: int, error: str
) -> None:
    answer = serve("never").post(f"/model-proxy/v1/{route}", {**ASKED, **changes})

    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_a_bad_model_name_says_what_was_expected(serve: Any) -> None:
    answer = serve("never").post("/model-proxy/v1/completions", {**ASKED, "model": "gpt-4"})

    assert answer.json() == {
        "error": "Invalid model string format.",
        "details": (
            'Invalid model string format. Expected "{ownerSlug}/{packageSlug}/{provider}/{model}",'
            ' but got "gpt-4". Parts found: 1'
        ),
        "receivedModelString": "gpt-4",
    }


@pytest.mark.feature("calliope", 4)
@pytest.mark.parametrize("headers", [{}, {"authorization": "Basic abc"}])
@pytest.mark.parametrize("token", [None, "secret-token-1"])
def test_the_model_proxy_needs_a_bearer(
    serve: Any, headers: dict[str, str], token: str | None
) -> None:
    answer = serve("never", token=token).post("/model-proxy/v1/chat/completions", ASKED, headers)

    assert (answer.status_code, answer.json()) == (
        401,
        {"error": "Unauthorized: Missing or invalid Bearer token in Authorization header."},
    )


def test_the_servers_token_opens_every_route(serve: Any) -> None:
    served = serve("Hello.", token="secret-token-1")

    statuses = [
        served.post("/web", {"query": "what"}, {**HEADERS, "key": "secret-token-1"}).status_code,
        served.post("/web", {"query": "what"}, HEADERS).status_code,
        served.post(
            "/model-proxy/v1/chat/completions", ASKED, {"authorization": "Bearer secret-token-1"}
        ).status_code,
    ]

    assert statuses == [200, 401, 200]


def test_one_token_of_our_client_opens_search_and_crawl_too(serve: Any) -> None:
    served = serve("Hello.", token="secret-token-1")

    with CalliopeProxy("o/p/openai/gpt-4", proxy_url=served.url, token="secret-token-1") as client:
        found = [item["title"] for item in client.web("what")]
        pages = client.crawl("https://example.com/")

    assert (found, [page["url"] for page in pages]) == (["Title"], ["https://example.com/"])


def test_who_searches_without_the_token_is_told_where_it_goes(serve: Any) -> None:
    answer = serve(token="secret-token-1").post("/web", {"query": "what"}, HEADERS)

    assert answer.status_code == 401
    assert answer.json()["error"].endswith("'x-api-key: TOKEN'), or in the header 'key'")


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "none"),
        ({"token": "t"}, "t"),
        ({"token": "t", "key": "k"}, "k"),
        ({"token": "t", "on_prem_proxy_url": "http://127.0.0.1:9/"}, "none"),
    ],
)
def test_the_token_is_the_key_where_one_proxy_serves_both(
    options: dict[str, Any], key: str
) -> None:
    with CalliopeProxy("o/p/openai/gpt-4", **options) as client:
        assert client.headers()["key"] == key


@pytest.mark.feature("calliope", 13, 21)
@pytest.mark.parametrize(
    "where",
    [
        "{canary}",
        "{canary}/v1",
        "http://user:pass@127.0.0.1/v1",
        "{openai}/../../other",
        "{openai}?x=1",
        "file:///etc/passwd",
        "http://169.254.169.254/latest",
        "//evil.example/v1",
    ],
)
def test_no_key_goes_to_an_address_that_a_request_chose(
    serve: Any, httpserver: HTTPServer, where: str
) -> None:
    served = serve(upstream=Live(), base_urls={"openai": "http://127.0.0.1:9/v1"})
    base = where.format(canary=httpserver.url_for("").rstrip("/"), openai="http://127.0.0.1:9/v1")
    told = {"apiKeyLocation": "env:OPENAI_API_KEY", "apiBase": base}

    answer = served.post("/model-proxy/v1/chat/completions", {**ASKED, "calliopeProperties": told})

    assert (answer.status_code, len(httpserver.log)) == (403, 0)
    assert "sk-FAKE0004" not in answer.text


@pytest.mark.feature("calliope", 10, 13, 21)
def test_a_base_that_is_a_providers_own_is_taken_and_nobody_elses_key_goes_there(
    serve: Any, httpserver: HTTPServer
) -> None:
    results = {"id": "r", "results": [{"index": 1, "relevance_score": 0.98}]}
    httpserver.expect_request("/v1/rerank").respond_with_json(results)
    base = httpserver.url_for("/v1")
    served = serve(upstream=Live(), base_urls={"cohere": base})
    told = {"apiKeyLocation": "package:owner/pack/COHERE_API_KEY", "apiBase": base}
    body = {"model": "o/p/cohere/rerank-3", "query": "q", "documents": ["a", "b"]}

    answer = served.post("/model-proxy/v1/rerank", {**body, "calliopeProperties": told})
    other = {**told, "apiKeyLocation": "env:OPENAI_API_KEY"}
    refused = served.post("/model-proxy/v1/rerank", {**body, "calliopeProperties": other})

    assert answer.json() == {
        "data": [{"index": 0, "relevance_score": 0.0}, {"index": 1, "relevance_score": 0.98}]
    }
    sent = httpserver.log[0][0]
    assert (sent.headers["authorization"], sent.get_json()) == (
        "Bearer co-FAKE0005",
        {"model": "rerank-3", "query": "q", "documents": ["a", "b"]},
    )
    assert (refused.status_code, len(httpserver.log)) == (403, 1)


def test_an_unreachable_provider_is_told_as_the_original_tells_it(serve: Any) -> None:
    served = serve(upstream=Live(), base_urls={"openai": "http://127.0.0.1:9/v1"})

    answer = served.post("/model-proxy/v1/chat/completions", ASKED)

    assert (answer.status_code, answer.json()["error"]) == (500, "Error proxying request")


def test_a_providers_refusal_is_passed_on(serve: Any) -> None:
    served = serve(fail(429, message="slow down"))

    answer = served.post("/model-proxy/v1/chat/completions", ASKED)

    assert (answer.status_code, "slow down" in answer.text) == (429, True)


@pytest.mark.feature("calliope", 22)
def test_models_are_listed(serve: Any) -> None:
    served = serve(options=Calliope(models=["o/p/openai/gpt-4"]))

    answer = served.client.get(served.url + "/model-proxy/v1/models", headers=BEARER)

    assert answer.json() == {"data": [{"id": "o/p/openai/gpt-4"}]}


def test_other_routes_are_left_alone(serve: Any) -> None:
    served = serve("Hello.")

    answer = served.post(
        "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    )

    assert answer.json()["choices"][0]["message"]["content"] == "Hello."


# Our own client


def proxied(served: Served, provider: str = "openai", **options: Any) -> CalliopeProxy:
    location = f"env:{provider.upper()}_API_KEY"
    return CalliopeProxy(
        f"owner/package/{provider}/m-1",
        proxy_url=served.url,
        token="access",
        api_key_location=location,
        client=served.client,
        **options,
    )


@pytest.mark.feature("calliope", 1, 2, 18, 19, 20)
def test_the_client_chats_searches_and_crawls(serve: Any) -> None:
    served = serve("Hello there.", "Hello there.")
    client = proxied(served)

    assert client.chat([{"role": "user", "content": "hi"}]) == "Hello there."
    assert "".join(client.stream_chat([{"role": "user", "content": "hi"}])) == "Hello there."
    assert client.web("what") == [
        {
            "title": "Title",
            "description": "snippet",
            "content": "whole page",
            "url": "https://example.com/result",
        }
    ]
    assert client.crawl("https://example.com/") == [
        {"url": "https://example.com/", "path": "/", "content": "# 4 1000"}
    ]
    assert served.sent()["max_tokens"] == 4096


@pytest.mark.feature("calliope", 9, 18)
def test_the_client_embeds_in_the_order_of_the_texts(serve: Any) -> None:
    served = serve()

    vectors = proxied(served).embed([f"text {i}" for i in range(70)])

    assert (len(vectors), vectors[0] == vectors[69]) == (70, False)


@pytest.mark.feature("calliope", 8, 10, 14, 18, 22)
def test_the_client_reranks_completes_and_fills_in(serve: Any, httpserver: HTTPServer) -> None:
    results = {
        "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
    }
    httpserver.expect_request("/v1/rerank").respond_with_json(results)
    whole = {"choices": [{"text": "world", "index": 0}]}
    httpserver.expect_request("/v1/completions").respond_with_json(whole)
    piece = 'data: {"choices":[{"delta":{"content":"mid"}}]}\n\ndata: [DONE]\n\n'
    httpserver.expect_request("/v1/fim/completions").respond_with_data(
        piece, content_type="text/event-stream"
    )
    base = httpserver.url_for("/v1")
    served = serve(upstream=Live(), base_urls={"cohere": base, "openai": base})
    client = proxied(served, on_prem_proxy_url=served.url)

    assert proxied(served, "cohere").rerank("q", ["a", "b"]) == [0.1, 0.9]
    assert client.complete("hello ") == "world"
    assert list(client.stream_fim("a", "b")) == ["mid"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('data: {"error":"boom"}\n\n', "Error streaming response: boom"),
        ("data: {oops\n\n", "Malformed JSON sent from server"),
        ("data: [1]\n\n", "Malformed JSON sent from server"),
        ('data: {"choices":[]}\n\n', "stopped before its end"),
    ],
)
def test_the_client_never_takes_a_broken_stream_for_a_whole_one(
    serve: Any, httpserver: HTTPServer, answer: str, said: str
) -> None:
    httpserver.expect_request("/model-proxy/v1/chat/completions").respond_with_data(
        answer, content_type="text/event-stream"
    )
    client = CalliopeProxy("o/p/openai/m", proxy_url=httpserver.url_for("/"), token="t")

    with client, pytest.raises(UpstreamError, match=said):
        client.chat([])


@pytest.mark.feature("calliope", 18)
def test_the_client_takes_a_last_line_that_nothing_ends(httpserver: HTTPServer) -> None:
    answer = 'data:{"choices":[{"delta":{"content":"Hi"}}]}\n\n: ping\n\ndata: [DONE]'
    httpserver.expect_request("/model-proxy/v1/chat/completions").respond_with_data(answer)

    with CalliopeProxy("o/p/openai/m", proxy_url=httpserver.url_for("/")) as client:
        assert client.chat([]) == "Hi"


def test_the_client_hears_nothing_of_what_was_cancelled(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/model-proxy/v1/chat/completions").respond_with_data("x", 499)

    with CalliopeProxy("o/p/openai/m", proxy_url=httpserver.url_for("/")) as client:
        assert client.chat([]) == ""


@pytest.mark.parametrize("answer", ["<html>", "[1]"])
def test_the_client_says_when_an_answer_is_none(httpserver: HTTPServer, answer: str) -> None:
    httpserver.expect_request("/model-proxy/v1/embeddings").respond_with_data(answer)
    client = CalliopeProxy("o/p/openai/m", proxy_url=httpserver.url_for("/"))

    with client, pytest.raises(UpstreamError, match="the proxy's answer is no JSON"):
        client.embed(["a"])


def test_the_client_says_when_nobody_is_there() -> None:
    with HTTPServer(port=0) as server:
        url = server.url_for("/")

    with CalliopeProxy("o/p/openai/m", proxy_url=url) as client:
        with pytest.raises(UpstreamError, match="the proxy cannot be reached"):
            client.models()
        with pytest.raises(UpstreamError, match="the proxy cannot be reached"):
            client.chat([])


@pytest.mark.feature("calliope", 4)
def test_the_client_without_a_token_is_told_so(serve: Any) -> None:
    served = serve()

    client = CalliopeProxy("o/p/openai/m", proxy_url=served.url)

    with client, pytest.raises(UpstreamError, match="Missing or invalid Bearer token"):
        client.chat([])


def test_a_body_that_is_nested_too_deep_is_refused(serve: Any) -> None:
    served = serve()
    deep = json.dumps(ASKED)[:-1] + ', "x":' + "[" * 900 + "]" * 900 + "}"

    answer = served.client.post(
        served.url + "/model-proxy/v1/chat/completions", content=deep, headers=BEARER
    )

    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "The body is nested too deep: send it flatter"},
    )


@pytest.mark.feature("calliope", 15, 17)
def test_one_variable_leads_every_configured_model_to_the_proxy(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve("Hello.")
    monkeypatch.setenv("CALLIOPE_PROXY_URL", served.url)
    key = "${{ secrets.organization:acme/OPENAI_API_KEY }}"
    config = {"provider": "openai", "model": "gpt-4", "apiKey": key}

    with CalliopeProxy.of(config, token="access") as client:
        said = client.chat([{"role": "user", "content": "hi"}])

    assert (said, served.bridge.records[0].model) == ("Hello.", "gpt-4")


def test_a_model_with_a_key_of_its_own_needs_no_proxy() -> None:
    with pytest.raises(ValueError, match="no calliope-proxy's"):
        CalliopeProxy.of({"provider": "openai", "model": "gpt-4", "apiKey": "sk-1"})


def hostile_urls() -> list[dict[str, Any]]:
    if SHARED is None:
        return []
    text = (SHARED / "conformance" / "security" / "basic.json").read_text("utf-8")
    return [vector for vector in json.loads(text)["urls"] if vector["expect"] == "block"]


@needs_shared
@pytest.mark.feature("calliope", 21)
@pytest.mark.parametrize("vector", hostile_urls(), ids=lambda vector: vector["why"])
def test_a_hostile_start_of_a_crawl_is_refused_and_nothing_is_hit(
    serve: Any, httpserver: HTTPServer, vector: dict[str, Any]
) -> None:
    # Whatever is resolved leads to the canary's own machine, as a rebinding name would.
    async def resolver(host: str, port: int) -> list[str]:
        return vector.get("resolves_to", [["127.0.0.1"]])[0]

    served = serve(options=Calliope(crawl=Crawler(resolver=resolver)))
    url = vector["url"].replace(":8765", f":{httpserver.port}")

    answer = served.post("/crawl", {"startUrl": url}, HEADERS)

    assert (answer.status_code, len(httpserver.log)) == (403, 0)
