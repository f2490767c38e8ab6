import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import httpx2
import pytest

from llmbridge import Bridge, Live
from llmbridge.providers import Provider as Row
from tests.upstreams.asking import (
    ANTHROPIC,
    KEYS,
    OPENAI,
    WIRES,
    Heard,
    Wire,
    ask,
    bridge_to,
    client_of,
    ends,
    hear,
    text_of,
)
from tests.upstreams.faulty import (
    JSON,
    LAST,
    SSE,
    Behaviour,
    Fields,
    Provider,
    chunk,
    chunked_head,
    head,
    says,
    streams,
    whole,
)

both = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.provider)


def an_event_a_packet(body: bytes) -> list[bytes]:
    return re.findall(rb".+?(?:\r\n\r\n|\n\n|\Z)", body, re.DOTALL)


def all_at_once(body: bytes) -> list[bytes]:
    return [body]


def byte_by_byte(body: bytes) -> list[bytes]:
    return [body[place : place + 1] for place in range(len(body))]


CUTS = (an_event_a_packet, all_at_once, byte_by_byte)


@pytest.mark.feature("anthropic-proxy", 1, 3)
@both
@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
@pytest.mark.parametrize(
    "name", ["text.sse", "unicode.sse", "tool_call.sse", "crlf.sse", "comments.sse"]
)
@pytest.mark.feature("gateway", 3, 4, 5)
async def test_a_stream_passes_byte_for_byte_however_it_is_cut(
    wire: Wire, name: str, cut: Callable[[bytes], Iterable[bytes]]
) -> None:
    sent = wire.fixture(name)
    async with Provider(streams(*cut(sent))) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    [record] = bridge.records
    assert heard == Heard(200, sent)
    assert (record.body, text_of(record), record.end) == (sent, wire.text_of(name), "completed")
    assert ends(bridge) == [(200, "completed")]


@pytest.mark.feature("anthropic-proxy", 1, 3)
@both
@pytest.mark.feature("gateway", 3, 4, 5, 29)
async def test_a_blocking_answer_passes_byte_for_byte(wire: Wire) -> None:
    sent = wire.fixture("text.json")
    async with Provider(says(whole(sent))) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire, streaming=False)

    [record] = bridge.records
    assert heard == Heard(200, sent)
    assert (record.body, text_of(record), record.end) == (
        sent,
        wire.text_of("text.json"),
        "completed",
    )


def labelled(*labels: tuple[str, str]) -> Callable[[bytes], Behaviour]:
    return lambda sent: streams(*byte_by_byte(sent[:9]), sent[9:], fields=labels)


def closed_by_the_end(sent: bytes) -> Behaviour:
    return says(head(SSE), sent[:300], sent[300:])


def with_chunk_extensions(sent: bytes) -> Behaviour:
    return streams(*an_event_a_packet(sent), extension=b';signature="x y"')


def with_trailers(sent: bytes) -> Behaviour:
    return says(chunked_head(), chunk(sent), b"0\r\nx-checksum: 7\r\n\r\n", keep=True)


def after_early_hints(sent: bytes) -> Behaviour:
    hints = head([("link", "</style.css>; rel=preload")], 103)
    return says(hints + chunked_head(), chunk(sent), LAST, keep=True)


def with_a_byte_order_mark(sent: bytes) -> Behaviour:
    return streams(*byte_by_byte(b"\xef\xbb\xbf" + sent))


def with_its_length(sent: bytes) -> Behaviour:
    return says(whole(sent, SSE), keep=True)


ODD = {
    "no content type": labelled(),
    "labelled JSON": labelled(*JSON),
    "labelled Latin-1": labelled(("content-type", "text/event-stream; charset=latin-1")),
    "labelled text": labelled(("content-type", "text/plain")),
    "closed by the end": closed_by_the_end,
    "chunk extensions": with_chunk_extensions,
    "trailers": with_trailers,
    "early hints": after_early_hints,
    "content length": with_its_length,
    "byte order mark": with_a_byte_order_mark,
}


@both
@pytest.mark.parametrize("way", ODD.values(), ids=ODD)
async def test_odd_framing_and_labels_change_nothing(
    wire: Wire, way: Callable[[bytes], Behaviour]
) -> None:
    sent = wire.fixture("unicode.sse")
    async with Provider(way(sent)) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    [record] = bridge.records
    assert heard == Heard(200, sent)
    assert (text_of(record), record.end) == (wire.text_of("unicode.sse"), "completed")


def deflated(data: bytes) -> bytes:
    return zlib.compress(data)


def deflated_bare(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


@both
@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])
@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("deflate", deflated),
        ("DEFLATE", deflated_bare),
        ("identity", bytes),
    ],
    ids=["gzip", "deflate", "bare deflate", "identity"],
)
async def test_bytes_compressed_unasked_are_inflated(
    wire: Wire, streaming: bool, coding: str, compress: Callable[[bytes], bytes]
) -> None:
    sent = wire.fixture("text.sse" if streaming else "text.json")
    fields: Fields = (*(SSE if streaming else JSON), ("content-encoding", coding))
    async with Provider(streams(*byte_by_byte(compress(sent)), fields=fields)) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire, streaming=streaming)

    [record] = bridge.records
    assert heard == Heard(200, sent)
    assert (record.body, record.end) == (sent, "completed")
    assert heard.headers.get("content-encoding") in (None, "identity")
    assert provider.asked[0]["accept-encoding"] == "identity"


@both
async def test_an_event_of_a_mebibyte_passes_whole(wire: Wire) -> None:
    large = b": " + b"x" * 2**20 + b"\n" + wire.fixture("text.sse")
    async with Provider(streams(large)) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    assert heard == Heard(200, large)
    assert text_of(bridge.records[0]) == wire.text_of("text.sse")


async def test_a_request_of_several_mebibytes_arrives_whole() -> None:
    image = "x" * 3 * 2**20
    body = json.dumps({"model": "m", "stream": False, "messages": [image]}).encode()
    async with Provider(says(whole(b"{}"))) as provider:
        bridge = bridge_to(provider.url)
        async with client_of(bridge) as client:
            answer = await client.post(OPENAI.path, content=body)

    assert answer.status_code == 200
    assert (provider.asked[0].body, provider.asked[0]["content-length"]) == (body, str(len(body)))


@both
async def test_a_connection_is_used_again(wire: Wire) -> None:
    sent = wire.fixture("text.sse")
    async with Provider(streams(*an_event_a_packet(sent))) as provider:
        bridge = bridge_to(provider.url)
        async with client_of(bridge) as client:
            heard = [await hear(client, wire) for _ in range(3)]

    assert heard == [Heard(200, sent)] * 3
    assert provider.connections == 1


# What the provider is asked


@pytest.mark.feature("aibridge", 10)
@pytest.mark.feature("gateway", 9)
async def test_the_provider_gets_the_body_as_it_was_and_the_fields_but_for_the_hops_own() -> None:
    async with Provider(says(whole(b"{}"))) as provider:
        bridge = bridge_to(provider.url)

        await ask(
            bridge,
            ANTHROPIC,
            streaming=False,
            user_agent="sdk/1",
            anthropic_beta="a,b",
            connection="x-mine, keep-alive",
            x_mine="hop",
            te="trailers",
            expect="100-continue",
            x_forwarded_for="10.0.0.1",
            x_llmbridge_actor="alice",
        )

    [asked] = provider.asked
    assert (asked.method, asked.target) == ("POST", "/v1/messages")
    assert asked.body == ANTHROPIC.request(streaming=False)
    assert dict(asked.fields) == {
        "host": f"127.0.0.1:{provider.port}",
        "accept": "*/*",
        "user-agent": "sdk/1",
        "content-type": "application/json",
        "content-length": str(len(asked.body)),
        "anthropic-beta": "a,b",
        "accept-encoding": "identity",
        "x-api-key": "sk-ant-test-anthropic-1",
        "anthropic-version": "2023-06-01",
    }


async def test_a_key_that_is_refused_gives_way_to_the_next_and_the_record_tells_which_was_used() -> (
    None
):
    keys = "sk-first-key-AAAAAAAA0001", "sk-other-key-BBBBBBBB0002"
    environ = {"OPENAI_API_KEY": ", ".join(keys)}
    refused = whole(b'{"error":{"message":"Incorrect API key provided"}}', status=401)
    async with (
        Provider(says(refused), says(whole(b"{}"))) as provider,
        bridge_to(provider.url, environ=environ) as bridge,
    ):
        heard = await ask(bridge, OPENAI, streaming=False)
        hints = [(record.status, record.key_hint) for record in bridge.records]
        kept = repr((bridge.records, bridge.interceptions, bridge.providers))

    assert (heard.status, hints) == (200, [(401, "sk-f...0001"), (200, "sk-o...0002")])
    assert [asked["authorization"] for asked in provider.asked] == [f"Bearer {key}" for key in keys]
    assert not any(key in kept for key in keys)


@pytest.mark.feature("gateway", 10)
async def test_the_record_tells_which_key_a_client_brought() -> None:
    async with (
        Provider(says(whole(b"{}"))) as provider,
        bridge_to(provider.url, Live(client_keys=True), environ={}) as bridge,
    ):
        await ask(bridge, ANTHROPIC, streaming=False, x_api_key="sk-ant-of-the-client-0003")
        hints = [record.key_hint for record in bridge.records]

    assert hints == ["sk-a...0003"]


async def test_the_clients_own_version_of_the_api_stays() -> None:
    async with Provider(says(whole(b"{}"))) as provider:
        await ask(
            bridge_to(provider.url), ANTHROPIC, streaming=False, anthropic_version="2024-01-01"
        )

    assert provider.asked[0]["anthropic-version"] == "2024-01-01"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1/models/ft%2Fone%3Aa?limit=2&after=%41", "/v1/models/ft%2Fone%3Aa?limit=2&after=%41"),
        ("/openai/v1/files/a~b/content", "/v1/files/a~b/content"),
    ],
)
@pytest.mark.feature("gateway", 8)
async def test_path_and_query_go_on_as_they_are(path: str, target: str) -> None:
    async with (
        Provider(says(whole(b"{}"))) as provider,
        client_of(bridge_to(provider.url)) as client,
    ):
        await client.get(path)

    assert [(asked.method, asked.target) for asked in provider.asked] == [("GET", target)]


@pytest.mark.feature("aibridge", 7)
@pytest.mark.feature("gateway", 8)
async def test_a_base_url_with_a_prefix_keeps_it() -> None:
    async with Provider(says(whole(b"{}"))) as provider:
        bridge = bridge_to("", base_urls={"openai": f"{provider.url}/proxy/v1"})

        await ask(bridge, OPENAI, streaming=False)

    assert provider.asked[0].target == "/proxy/v1/chat/completions"


@pytest.mark.feature("aibridge", 2, 7, 17)
@pytest.mark.feature("gateway", 2)
async def test_instances_of_one_provider_have_each_their_name_address_key_and_routes() -> None:
    def instance(name: str, url: str, key: str) -> Row:
        return Row(name, f"{url}/{name}/v1", key=key, passthrough=("/files/",))

    async with Provider(says(whole(b"{}"))) as provider:
        rows = [instance("openai-eu", provider.url, "k-eu"), instance("b2", provider.url, "k-b2")]
        bridge = Bridge(providers=rows, environ={})
        with bridge, bridge.serve(token=None) as server:
            async with httpx2.AsyncClient(base_url=server.url) as client:
                await client.post(
                    "/openai-eu/v1/chat/completions", content=OPENAI.request(streaming=False)
                )
                put = await client.put("/b2/v1/files/a%20b?x=1", content=b"\x00", headers=FIELDS)
                refused = await client.put("/b2/v1/batches/x")
            kept = [(each.provider, each.dialect, each.end) for each in bridge.interceptions]

    assert [(each.method, each.target, each["authorization"]) for each in provider.asked] == [
        ("POST", "/openai-eu/v1/chat/completions", "Bearer k-eu"),
        ("PUT", "/b2/v1/files/a%20b?x=1", "Bearer k-b2"),
    ]
    assert (provider.asked[1].body, provider.asked[1]["x-custom"]) == (b"\x00", "kept")
    assert (put.status_code, put.content, refused.status_code) == (200, b"{}", 404)
    assert kept == [
        ("openai-eu", "openai.chat", "completed"),
        ("b2", "opaque", "completed"),
        ("b2", "opaque", "bridge_limit"),
    ]


@pytest.mark.feature("anthropic-proxy", 4)
@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/messages", "/proxy/v1/messages"])
async def test_a_variable_may_hold_the_whole_address(path: str) -> None:
    async with Provider(says(whole(b"{}"))) as provider:
        environ = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_API_URL": f"{provider.url}{path}"}
        async with Bridge(environ=environ) as bridge, client_of(bridge) as client:
            await client.post("/v1/messages", content=b"{}")

    prefix = "/proxy" if "proxy" in path else ""
    assert provider.asked[0].target == f"{prefix}/v1/messages"


FIELDS = {"content-type": "application/octet-stream", "x-custom": "kept"}
CANARY = "sk-canary-0123456789"
OWN: Any = {
    "authorization": f"Bearer {CANARY}",
    "x_api_key": CANARY,
    "api_key": CANARY,
    "cookie": f"s={CANARY}",
    "proxy_authorization": f"Basic {CANARY}",
}


@both
async def test_the_clients_own_credentials_never_leave(wire: Wire) -> None:
    async with Provider(says(whole(b"{}"))) as provider:
        await ask(bridge_to(provider.url), wire, streaming=False, **OWN)

    [asked] = provider.asked
    given = {name: asked[name] for name in ("authorization", "x-api-key")}
    assert CANARY not in repr(asked)
    assert given == (
        {"authorization": None, "x-api-key": "sk-ant-test-anthropic-1"}
        if wire is ANTHROPIC
        else {"authorization": "Bearer sk-test-openai-1", "x-api-key": None}
    )


@pytest.mark.feature("aibridge", 1)
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.feature("gateway", 11)
async def test_the_provider_is_told_who_asks_only_where_that_is_wanted(told: bool) -> None:
    claimed: Any = {"x_ai_bridge_actor_id": "eve", "x_ai_bridge_actor_metadata_role": "admin"}
    async with Provider(says(whole(b"{}"))) as provider:
        bridge = bridge_to(provider.url, Live(actor_headers=told))
        with bridge.actor("Zoë", team="red"):
            await ask(bridge, OPENAI, streaming=False, **claimed)

    [asked] = provider.asked
    found = {name: asked[f"x-ai-bridge-actor-{name}"] for name in ("id", "metadata-team")}
    assert found == ({"id": "Zo%C3%AB", "metadata-team": "red"} if told else dict.fromkeys(found))
    assert asked["x-ai-bridge-actor-metadata-role"] is None


@both
@pytest.mark.feature("gateway", 10)
async def test_clients_may_bring_their_own_key_where_the_bridge_has_none(wire: Wire) -> None:
    async with Provider(says(whole(b"{}"))) as provider:
        bridge = bridge_to(provider.url, Live(client_keys=True), environ={})

        await ask(bridge, wire, streaming=False, **OWN)

    [asked] = provider.asked
    assert [asked[name] for name in ("authorization", "x-api-key", "cookie")] == [
        f"Bearer {CANARY}",
        CANARY,
        None,
    ]


@pytest.mark.feature("gateway", 10)
@both
async def test_a_clients_own_key_may_go_first_and_gets_one_try(wire: Wire) -> None:
    refusal = says(whole(b"{}", status=401))
    async with Provider(refusal) as provider:
        keys = {name: f"{key},{key}-2" for name, key in KEYS.items()}
        bridge = bridge_to(provider.url, Live(client_keys="first"), environ=keys)

        await ask(bridge, wire, streaming=False, x_api_key=CANARY)
        await ask(bridge, wire, streaming=False)

    hints = [record.key_hint for record in bridge.records]
    assert [asked["x-api-key"] == CANARY for asked in provider.asked] == [True, False, False]
    assert hints[0] == "sk-c...6789"


GEMINI = "http://localhost/google/v1beta/models/m-1:generateContent"


@pytest.mark.parametrize("auth", ["", "key=AIzaClient&"])
@pytest.mark.parametrize("environ", [{}, {"GEMINI_API_KEY": "AIzaBridge"}], ids=["none", "own"])
async def test_googles_key_in_the_address_goes_on_as_a_header(
    auth: str, environ: dict[str, str]
) -> None:
    async with Provider(says(whole(b'{"candidates":[]}'))) as provider:
        urls = {"google": provider.url}
        bridge = bridge_to(provider.url, Live(client_keys=True), environ=environ, base_urls=urls)
        async with client_of(bridge) as client:
            answer = await client.post(f"{GEMINI}?{auth}x=1", json={"contents": []})

    if not auth and not environ:
        assert (answer.status_code, provider.asked) == (401, [])
        return
    [asked] = provider.asked
    assert asked["x-goog-api-key"] == ("AIzaBridge" if environ else "AIzaClient")
    assert asked.target == "/v1beta/models/m-1:generateContent?x=1"
    assert "AIza" not in repr([*bridge.records, *bridge.interceptions])


@pytest.mark.parametrize("prefix", ["", "/google"], ids=["bare", "named"])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1beta/models"), ("POST", "/v1beta/models/m-1:countTokens")]
)
async def test_googles_other_operations_reach_google(prefix: str, method: str, path: str) -> None:
    async with Provider(says(whole(b"{}"))) as provider:
        bridge = bridge_to(
            provider.url, environ={"GEMINI_API_KEY": "AIzaB"}, base_urls={"google": provider.url}
        )
        async with client_of(bridge) as client:
            await client.request(method, f"{prefix}{path}?key=AIzaC&pageSize=5", content=b"{}")

    [asked] = provider.asked
    assert (asked.method, asked.target) == (method, f"{path}?pageSize=5")
    assert asked["x-goog-api-key"] == "AIzaB"


async def test_a_key_in_the_address_that_no_header_can_hold_is_refused() -> None:
    async with Provider(says(whole(b"{}"))) as provider:
        urls = {"google": provider.url}
        bridge = bridge_to(provider.url, Live(client_keys=True), environ={}, base_urls=urls)
        async with client_of(bridge) as client:
            answer = await client.post(f"{GEMINI}?key=a%0d%0aX:1", json={"contents": []})

    assert (answer.status_code, provider.connections) == (400, 0)
    assert "the key in the address has a line break" in answer.json()["error"]["message"]


async def test_the_bridges_key_goes_before_the_clients() -> None:
    async with Provider(says(whole(b"{}"))) as provider:
        await ask(bridge_to(provider.url, Live(client_keys=True)), OPENAI, streaming=False, **OWN)

    assert provider.asked[0]["authorization"] == "Bearer sk-test-openai-1"
    assert provider.asked[0]["x-api-key"] is None


@both
@pytest.mark.parametrize("client_keys", [True, False])
async def test_without_a_key_nothing_is_sent(wire: Wire, client_keys: bool) -> None:
    async with Provider(says(whole(b"{}"))) as provider:
        bridge = bridge_to(provider.url, Live(client_keys=client_keys), environ={})

        heard = await ask(bridge, wire)

    message = (
        f"no key for {wire.provider!r}: set {wire.provider.upper()}_API_KEY before the bridge starts, or let"
        " clients bring theirs: client_keys: true in its configuration file, Live(client_keys=True) in Python"
    )
    assert heard == Heard(401, wire.error(message, "authentication_error"))
    assert (provider.connections, ends(bridge)) == (0, [(401, "upstream_error")])


async def test_a_key_goes_to_its_own_provider_alone() -> None:
    async with Provider(says(whole(b"{}"))) as ours, Provider(says(whole(b"{}"))) as theirs:
        bridge = bridge_to("", base_urls={"anthropic": ours.url, "openai": theirs.url})
        async with client_of(bridge) as client:
            await hear(client, ANTHROPIC, streaming=False)
            await hear(client, OPENAI, streaming=False)
            strange = await client.post("https://elsewhere.example/v1/chat/completions", json={})

    assert "sk-test-openai" not in repr(ours.asked)
    assert "sk-ant" not in repr(theirs.asked)
    assert strange.status_code == 404


async def test_a_key_that_ends_its_line_is_not_sent_with_it() -> None:
    async with Provider(says(whole(b"{}"))) as provider:
        bridge = bridge_to(provider.url, environ={"OPENAI_API_KEY": "sk-test-openai-1\n"})

        await ask(bridge, OPENAI, streaming=False)

    assert provider.asked[0]["authorization"] == "Bearer sk-test-openai-1"


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-a", "1\r\nx-b: 2"), ("x-a", "1\0"), ("x-a: 1\r\nx-b", "2"), ("authorization: x", "2")],
)
async def test_a_header_that_would_begin_another_is_refused(name: str, value: str) -> None:
    async with (
        Provider(says(whole(b"{}"))) as provider,
        client_of(bridge_to(provider.url)) as client,
    ):
        answer = await client.post(OPENAI.path, json={}, headers={name: value})

    assert (answer.status_code, provider.connections) == (400, 0)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_the_environments_proxy_is_not_used(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Provider(says(whole(b"{}"))) as provider, Provider(says(whole(b"{}"))) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)

        heard = await ask(bridge_to(provider.url), OPENAI, streaming=False)

    assert (heard, proxy.connections) == (Heard(200, b"{}"), 0)


# What the client gets of the answer's head

ANSWERED = (
    ("date", "Sat, 21 Nov 2026 00:00:00 GMT"),
    ("server", "cloudflare"),
    ("x-request-id", "req_1"),
    ("request-id", "req_2"),
    ("retry-after", "7"),
    ("retry-after-ms", "700"),
    ("x-should-retry", "true"),
    ("openai-processing-ms", "12"),
    ("openai-organization", "org-1"),
    ("openai-project", "proj-1"),
    ("anthropic-organization-id", "org-2"),
    ("anthropic-ratelimit-requests-remaining", "4"),
    ("x-ratelimit-remaining-tokens", "99"),
    ("set-cookie", "s=1"),
    ("strict-transport-security", "max-age=1"),
    ("alt-svc", "h3"),
    ("access-control-allow-origin", "*"),
    ("connection", "x-hop, keep-alive"),
    ("x-hop", "1"),
)


@both
@pytest.mark.parametrize("status", [200, 429])
async def test_the_client_gets_what_sdks_read_and_the_record_keeps_the_rest(
    wire: Wire, status: int
) -> None:
    sent = whole(wire.fixture("text.json"), (*JSON, *ANSWERED), status)
    async with Provider(says(sent)) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire, streaming=False)

    assert heard.headers == {
        "content-type": "application/json",
        "x-request-id": "req_1",
        "request-id": "req_2",
        "retry-after": "7",
        "retry-after-ms": "700",
        "x-should-retry": "true",
        "openai-processing-ms": "12",
        "anthropic-ratelimit-requests-remaining": "4",
        "x-ratelimit-remaining-tokens": "99",
    }
    assert dict(bridge.records[0].headers) == {
        **dict(JSON),
        **dict(ANSWERED[:-2]),
        "content-length": str(len(wire.fixture("text.json"))),
        "openai-organization": "<redacted:header>",
        "openai-project": "<redacted:header>",
        "anthropic-organization-id": "<redacted:header>",
        "set-cookie": "<redacted:header>",
    }
