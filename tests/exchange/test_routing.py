from typing import Any

import pytest

from llmbridge.errors import ConfigurationError, NotFound, NotOffered, RequestError
from llmbridge.exchange.call import Caller, Headers, Request
from llmbridge.exchange.routing import Classified, Router, classify
from llmbridge.providers import DIALECTS, PROVIDERS, Provider, rows_with

INSIDE, SERVER = Caller("transport"), Caller("server")
BODY = b'{"model":"m","messages":[],"stream":true}'


def post(url: str, body: bytes = BODY, caller: Caller = INSIDE) -> Request:
    return Request("POST", url, Headers(), body, caller)


def to_server(path: str, body: bytes = BODY) -> Request:
    return post(f"http://127.0.0.1:8765{path}", body, SERVER)


@pytest.mark.feature("aibridge", 7)
@pytest.mark.parametrize(
    ("path", "provider", "dialect", "target"),
    [
        ("/v1/messages", "anthropic", "anthropic.messages", "/v1/messages"),
        ("/v1/messages?beta=true", "anthropic", "anthropic.messages", "/v1/messages?beta=true"),
        (
            "/v1/messages/count_tokens",
            "anthropic",
            "anthropic.count_tokens",
            "/v1/messages/count_tokens",
        ),
        ("/anthropic/v1/messages", "anthropic", "anthropic.messages", "/v1/messages"),
        ("/v1/chat/completions", "openai", "openai.chat", "/chat/completions"),
        ("/openai/v1/chat/completions", "openai", "openai.chat", "/chat/completions"),
        ("/v1/responses", "openai", "openai.responses", "/responses"),
        ("/v1/completions", "openai", "openai.completions", "/completions"),
        ("/v1/embeddings", "openai", "openai.embeddings", "/embeddings"),
        ("/openrouter/api/v1/chat/completions", "openrouter", "openai.chat", "/chat/completions"),
        ("/openrouter/v1/chat/completions", "openrouter", "openai.chat", "/chat/completions"),
        ("/groq/openai/v1/chat/completions", "groq", "openai.chat", "/chat/completions"),
        ("/groq/v1/chat/completions", "groq", "openai.chat", "/chat/completions"),
        ("/zai/api/paas/v4/chat/completions", "zai", "openai.chat", "/chat/completions"),
    ],
)
@pytest.mark.feature("gateway", 1)
def test_a_server_finds_provider_and_dialect_by_the_path(
    path: str, provider: str, dialect: str, target: str
) -> None:
    where = Router().destination(to_server(path))

    assert (where.provider.name, where.dialect.name, where.target) == (provider, dialect, target)


@pytest.mark.parametrize(
    ("url", "provider", "dialect", "target"),
    [
        (
            "https://api.anthropic.com/v1/messages",
            "anthropic",
            "anthropic.messages",
            "/v1/messages",
        ),
        ("https://api.openai.com/v1/responses", "openai", "openai.responses", "/responses"),
        (
            "https://openrouter.ai/api/v1/chat/completions",
            "openrouter",
            "openai.chat",
            "/chat/completions",
        ),
        (
            "https://api.together.xyz/v1/chat/completions",
            "together",
            "openai.chat",
            "/chat/completions",
        ),
        (
            "https://a.openai.azure.com//openai/deployments/d/chat/completions?api-version=1",
            "azure",
            "openai.chat",
            "/openai/deployments/d/chat/completions?api-version=1",
        ),
        ("https://api.writer.com/v1/chat", "writer", "openai.chat", "/chat"),
        (
            "http://localhost:11434/v1/chat/completions",
            "ollama",
            "openai.chat",
            "/chat/completions",
        ),
        (
            "http://localhost:8787/anthropic/v1/messages",
            "anthropic",
            "anthropic.messages",
            "/v1/messages",
        ),
        ("http://bridge/v1/messages", "anthropic", "anthropic.messages", "/v1/messages"),
        (
            "https://api.unheard.ai/v1/chat/completions",
            "unheard",
            "openai.chat",
            "/chat/completions",
        ),
    ],
)
def test_in_process_the_host_comes_first(
    url: str, provider: str, dialect: str, target: str
) -> None:
    where = Router().destination(post(url))

    assert (where.provider.name, where.dialect.name, where.target) == (provider, dialect, target)


def test_a_server_never_goes_by_the_host() -> None:
    request = post("http://localhost:11434/v1/chat/completions", caller=SERVER)

    assert Router().destination(request).provider.name == "openai"


@pytest.mark.parametrize(
    ("fields", "provider"), [((), "openai"), ((("anthropic-version", "1"),), "anthropic")]
)
def test_a_model_list_goes_by_the_version_header(
    fields: tuple[tuple[str, str], ...], provider: str
) -> None:
    request = Request("GET", "http://127.0.0.1/v1/models", Headers(fields), caller=SERVER)

    where = Router().destination(request)

    assert (where.provider.name, where.dialect.name) == (provider, "models")


def test_a_host_nobody_serves_has_no_base_url() -> None:
    where = Router().destination(post("https://api.unheard.ai/v1/chat/completions"))

    assert where.provider.base_url == ""


def test_a_call_knows_model_and_streaming() -> None:
    router, request = Router(), to_server("/v1/chat/completions")

    call = router.call(request, router.destination(request), "i")

    assert (call.id, call.model, call.streaming) == ("i", "m", True)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": NaN}', b"[" * 100_000, b"\xff\xfe"])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    router, request = Router(), to_server("/v1/messages", body)

    with pytest.raises(RequestError, match="JSON"):
        router.call(request, router.destination(request), "i")


def test_deep_json_is_refused_and_does_not_crash() -> None:
    body = b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    router, request = Router(), to_server("/v1/messages", body)

    with pytest.raises(RequestError, match="nested"):
        router.call(request, router.destination(request), "i")


@pytest.mark.feature("aibridge", 3, 17)
@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/v1/files", "/unheard/v1/files"])
@pytest.mark.feature("gateway", 1, 7)
def test_a_server_has_no_other_routes(path: str) -> None:
    router, request = Router(), to_server(path)

    with pytest.raises(NotFound, match="/v1/chat/completions"):
        router.call(request, router.destination(request), "i")


def passed(path: str, method: str = "GET", **passthrough: list[str]) -> str:
    """The target of what a server passes on; empty where it refuses."""
    request = Request(method, f"http://127.0.0.1:8765{path}", Headers(), b"\x00", SERVER)
    router = Router(rows_with((), {}, {}, passthrough))
    where = router.destination(request)
    try:
        return router.call(request, where, "i").target
    except NotFound:
        return ""


@pytest.mark.feature("aibridge", 17)
@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1/responses/resp_1?include=x", "/responses/resp_1?include=x"),
        ("/openai/v1/responses/resp_1/cancel", "/responses/resp_1/cancel"),
        ("/openai/v1/conversations", "/conversations"),
        ("/openai/v1/conversations/c_1/items", "/conversations/c_1/items"),
        ("/anthropic/api/event_logging/batch", "/api/event_logging/batch"),
        ("/openai/v1/conversationsx", ""),
        ("/openai/v1/files", ""),
        ("/anthropic/api/event_logging", ""),
        ("/groq/openai/v1/responses/resp_1", ""),
        ("/nobody/v1/responses/resp_1", ""),
        ("/openai/v1/responses/../files", ""),
        ("/openai/v1/responses/%2e%2E%2ffiles", ""),
        ("/openai/v1/responses/..\\files", ""),
        ("/openai/v1/responses/..%5Cfiles", ""),
    ],
)
@pytest.mark.feature("gateway", 7)
def test_a_server_passes_on_what_its_provider_lists_and_nothing_beside(
    path: str, target: str
) -> None:
    assert passed(path) == passed(path, "POST") == target


@pytest.mark.feature("aibridge", 17)
@pytest.mark.feature("gateway", 7)
def test_a_bridge_may_let_more_through_or_everything() -> None:
    assert passed("/openai/v1/files/f_1/content", openai=["/files/"]) == "/files/f_1/content"
    assert passed("/openai/v1/files/f_1/content", openai=["/files"]) == ""
    assert passed("/groq/openai/v1/batches?x=%41", "DELETE", groq=["/"]) == "/batches?x=%41"
    assert passed("/openai/v1/responses/r_1", openai=["/files"]) == "/responses/r_1"
    assert passed("/openai/v1/batches", groq=["/"]) == ""


@pytest.mark.parametrize(
    ("passthrough", "complaint"),
    [
        ({"nobody": ["/"]}, "passthrough names 'nobody', which is no provider"),
        ({"openai": ["files"]}, "has 'files': give paths below its base URL"),
        ({"openai": "/files"}, "is '/files': give a list of paths"),
    ],
)
def test_a_passthrough_that_cannot_be_is_refused(passthrough: Any, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        rows_with((), {}, {}, passthrough)


@pytest.mark.parametrize("name", ["", "A", "a--b", "-a", "a-", "a_b", "a/b", "a b", "v1", "stream"])
def test_a_name_that_no_path_could_hold_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{name}' is no name of a provider"):
        rows_with([Provider(name, "https://x")], {}, {})


def test_a_name_is_given_once() -> None:
    row = Provider("team", "https://x")

    with pytest.raises(ConfigurationError, match="the provider 'team' is there twice"):
        rows_with([row, row], {}, {})


@pytest.mark.parametrize("path", ["/v1/responses", "/openai/v1/responses"])
@pytest.mark.feature("gateway", 38)
def test_a_server_refuses_a_background_response(path: str) -> None:
    request = to_server(path, b'{"model":"m","input":"hi","background":true,"stream":true}')
    router = Router()

    with pytest.raises(NotOffered, match=r'"background": true\) is not served here'):
        router.call(request, router.destination(request), "i")


@pytest.mark.parametrize(
    ("path", "word", "caller"),
    [
        ("/v1/responses", "false", SERVER),
        ("/v1/chat/completions", "true", SERVER),
        ("/v1/responses", "true", INSIDE),
    ],
)
def test_no_other_request_is_refused_for_that_word(path: str, word: str, caller: Caller) -> None:
    body = b'{"model":"m","background":%s}' % word.encode()
    request, router = post(f"http://127.0.0.1:8765{path}", body, caller), Router()

    call = router.call(request, router.destination(request), "i")

    assert call.request.body == body


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/chat/completions", "is it /v1/chat/completions? The base URL has to end in /v1"),
        ("/responses", "is it /v1/responses? The base URL has to end in /v1"),
        (
            "/model-proxy/v1/chat/completions",
            "Calliope's proxy is off, switch it on with Bridge(calliope=Calliope(...))",
        ),
        ("/api/web", "Calliope's proxy is off, switch it on with Bridge(calliope=Calliope(...))"),
        (
            "/metrics",
            "counters are off, start with --metrics, in Python Bridge(store=MeteredStore())",
        ),
    ],
)
def test_a_path_that_means_something_else_is_told_what(path: str, said: str) -> None:
    request, router = to_server(path), Router()

    with pytest.raises(NotFound) as caught:
        router.call(request, router.destination(request), "i")

    assert caught.value.message == f"no route POST {path!r}: {said}"


def test_a_path_that_takes_post_says_so() -> None:
    request = Request("GET", "http://127.0.0.1:8765/openai/v1/chat/completions", caller=SERVER)
    router = Router()

    with pytest.raises(NotFound, match="takes POST, not GET"):
        router.call(request, router.destination(request), "i")


def test_a_provider_that_is_not_there_is_named_with_those_that_are() -> None:
    router, request = Router(), to_server("/opnai/v1/chat/completions")

    with pytest.raises(NotFound, match="no provider 'opnai': there are anthropic, openai"):
        router.call(request, router.destination(request), "i")


def test_a_route_sends_a_bare_request_elsewhere_and_renames_the_model() -> None:
    router = Router(routes={"gpt-*": "openrouter/openai/gpt", "*": "groq"})
    request = to_server("/v1/chat/completions", b'{"model":"gpt-9","messages":[],"n":1}')

    call = router.call(request, router.destination(request), "i")

    assert (call.provider.name, call.model, call.request.body) == (
        "openrouter",
        "openai/gpt",
        b'{"model":"openai/gpt","messages":[],"n":1}',
    )


def test_a_route_without_a_model_leaves_the_bytes_alone() -> None:
    router = Router(routes={"*": "groq"})
    request = to_server("/v1/chat/completions", b'{ "model": "m" }')

    call = router.call(request, router.destination(request), "i")

    assert (call.provider.name, call.request.body) == ("groq", b'{ "model": "m" }')


def test_a_request_that_names_its_provider_is_not_rerouted() -> None:
    router = Router(routes={"*": "groq"})
    request = to_server("/openai/v1/chat/completions")

    assert router.call(request, router.destination(request), "i").provider.name == "openai"


def test_a_route_to_a_provider_of_another_dialect_is_a_call_to_translate() -> None:
    router = Router(routes={"claude-*": "openai/gpt"})
    request = to_server("/v1/messages", b'{"model":"claude-x"}')

    call = router.call(request, router.destination(request), "i")

    asked = call.client_dialect and call.client_dialect.name
    assert (asked, call.dialect.name, call.target, call.model) == (
        "anthropic.messages",
        "openai.chat",
        "/chat/completions",
        "gpt",
    )


def test_a_route_that_cannot_be_translated_is_an_error_of_the_request() -> None:
    router = Router(routes={"*": "anthropic"})
    request = to_server("/v1/embeddings", b'{"model":"m"}')

    with pytest.raises(NotFound, match=r"does not speak openai\.embeddings"):
        router.call(request, router.destination(request), "i")


def test_a_route_to_no_provider_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="'nowhere', which is no provider"):
        Router(routes={"*": "nowhere/m"})


@pytest.mark.feature("aibridge", 2)
@pytest.mark.parametrize("row", PROVIDERS, ids=lambda row: row.name)
def test_every_provider_is_found_by_its_own_name(row: Provider) -> None:
    dialect = DIALECTS[row.dialects[0]]
    path = f"/{row.name}{dialect.target('m', streaming=False)}"

    where = Router().destination(to_server(path))

    assert (where.provider, where.dialect.name) == (row, row.dialects[0])


def test_classify_tells_a_recorded_request_in_names() -> None:
    assert classify(post("https://api.openai.com/v1/chat/completions")) == Classified(
        "openai", "openai.chat", "m", True
    )


@pytest.mark.parametrize("url", ["not a url \x00", "", "http://[::1", "//", "http://a:b:c/?#"])
def test_classify_never_raises(url: str) -> None:
    found = classify(Request("GET", url, body=b"\xff"))

    assert (found.dialect, found.model, found.streaming) == ("opaque", None, False)
