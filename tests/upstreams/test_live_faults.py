"""What goes wrong at the provider: what the client hears, what is kept, and that the upstream is let go."""

import asyncio
import gzip
import socket
from collections.abc import Callable
from contextlib import suppress

import anyio
import pytest

from llmbridge import Live
from tests.upstreams.asking import (
    ANTHROPIC,
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
    Peer,
    Provider,
    chunk,
    chunked_head,
    hangs_up,
    head,
    holds,
    resets,
    says,
    streams,
    whole,
)

both = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.provider)
either_way = pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])


def started(wire: Wire, size: int = 3) -> bytes:
    """The first events of an answer."""
    return b"".join(event + b"\n\n" for event in wire.fixture("text.sse").split(b"\n\n")[:size])


# Errors that the provider tells


@both
@either_way
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 429, 500, 503, 529])
async def test_error_statuses_pass_with_their_bodies(
    wire: Wire, streaming: bool, status: int
) -> None:
    sent = wire.fixture("error_429.json")
    fields: Fields = (*JSON, ("retry-after", "17"), ("x-should-retry", "true"))
    async with Provider(says(whole(sent, fields, status))) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire, streaming=streaming)

    [record] = bridge.records
    assert heard == Heard(status, sent)
    assert (heard.headers["retry-after"], heard.headers["x-should-retry"]) == ("17", "true")
    assert (record.status, record.body, record.end) == (status, sent, "upstream_error")
    assert ends(bridge) == [(status, "upstream_error")]
    assert provider.connections == 1


@both
async def test_an_error_page_passes_as_the_page_it_is(wire: Wire) -> None:
    page = b"<html><h1>502 Bad Gateway</h1></html>"
    async with Provider(says(whole(page, [("content-type", "text/html")], 502))) as provider:
        heard = await ask(bridge_to(provider.url), wire)

    assert (heard, heard.headers["content-type"]) == (Heard(502, page), "text/html")


FIRST = {
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "api_error": 500,
    "authentication_error": 401,
    "invalid_request_error": 400,
    "of tomorrow": 500,
}


@pytest.mark.parametrize(("kind", "status"), FIRST.items())
@pytest.mark.parametrize("before", [b"", b": hello\n\n", b'event: ping\ndata: {"type":"ping"}\n\n'])
async def test_an_error_as_first_event_becomes_a_status(
    kind: str, status: int, before: bytes
) -> None:
    error = ANTHROPIC.error("So sorry", kind)
    stream = before, b"event: error\ndata: " + error + b"\n\n"
    async with Provider(streams(*filter(None, stream))) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, ANTHROPIC)

    assert (heard, heard.headers["content-type"]) == (Heard(status, error), "application/json")
    assert ends(bridge) == [(status, "upstream_error")]
    assert bridge.records[0].body == error


CODES = {
    '{"error":{"message":"m","type":"server_error","code":null}}': 500,
    '{"error":{"message":"m","type":"tokens","code":"rate_limit_exceeded"}}': 429,
    '{"error":{"message":"m","type":"invalid_request_error","code":"model_not_found"}}': 404,
    '{"error":{"message":"m","code":502}}': 502,
    '{"error":{"message":"m","code":"429"}}': 429,
    '{"error":"m"}': 500,
}


@pytest.mark.parametrize(("error", "status"), CODES.items())
async def test_an_error_as_first_chunk_becomes_a_status(error: str, status: int) -> None:
    async with Provider(streams(f"data: {error}\n\n".encode(), b"data: [DONE]\n\n")) as provider:
        heard = await ask(bridge_to(provider.url), OPENAI)

    assert heard == Heard(status, error.encode())


@both
@pytest.mark.parametrize("label", [JSON, SSE, ()], ids=["json", "stream", "none"])
async def test_an_error_instead_of_a_stream_becomes_a_status(wire: Wire, label: Fields) -> None:
    sent = b'{"error":{"type":"rate_limit_error","code":null,"message":"slow down"}}'
    async with Provider(says(whole(sent, label))) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    assert heard == Heard(429, sent)
    assert ends(bridge) == [(429, "upstream_error")]


@both
async def test_an_error_in_mid_stream_is_relayed_and_ends_it(wire: Wire) -> None:
    sent = wire.fixture("error_after_content.sse")
    async with Provider(streams(sent, started(wire))) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    assert heard == Heard(200, sent)
    assert ends(bridge) == [(200, "upstream_error")]
    assert bridge.records[0].end == "upstream_error"


# Streams that end too early, too late, or not at all


@both
async def test_a_stream_without_its_last_event_ends_with_an_error(wire: Wire) -> None:
    sent = started(wire)
    async with Provider(streams(sent)) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    message = "the provider's stream stopped before its last event"
    last = wire.error_event(message)
    assert heard == Heard(200, sent + last)
    assert ends(bridge) == [(200, "truncated")]
    assert (bridge.records[0].body, bridge.records[0].end) == (sent, "truncated")


def drops(*pieces: bytes) -> Behaviour:
    return says(chunked_head(), *map(chunk, pieces))


def shorter_than_told(*pieces: bytes) -> Behaviour:
    return says(head((*SSE, ("content-length", "99999"))), *pieces)


def cut_inside_a_chunk(*pieces: bytes) -> Behaviour:
    return says(chunked_head(), *map(chunk, pieces[:-1]), b"ffff\r\n" + pieces[-1])


def goes_on_in_garbage(*pieces: bytes) -> Behaviour:
    return says(chunked_head(), *map(chunk, pieces), b"not a length\r\n")


BREAKS: dict[str, Callable[..., Behaviour]] = {
    "dropped": drops,
    "length not reached": shorter_than_told,
    "cut inside a chunk": cut_inside_a_chunk,
    "garbage": goes_on_in_garbage,
}


@both
@pytest.mark.parametrize("way", BREAKS.values(), ids=BREAKS)
async def test_a_break_between_events_ends_with_an_error_event(
    wire: Wire, way: Callable[..., Behaviour]
) -> None:
    sent = started(wire)
    async with Provider(way(sent[:99], sent[99:])) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    message = f"the connection to {provider.url}{wire.path} broke before the end of the answer"
    last = wire.error_event(message)
    assert heard == Heard(200, sent + last)
    assert ends(bridge) == [(200, "truncated")]
    assert (bridge.records[0].body, bridge.records[0].end) == (sent, "truncated")


@both
@pytest.mark.parametrize("way", BREAKS.values(), ids=BREAKS)
async def test_a_break_inside_an_event_adds_nothing_and_is_no_clean_end(
    wire: Wire, way: Callable[..., Behaviour]
) -> None:
    sent = started(wire) + b'data: {"half'
    async with Provider(way(sent[:99], sent[99:])) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    assert heard == Heard(200, sent, "RemoteProtocolError")
    assert ends(bridge) == [(200, "truncated")]
    assert (bridge.records[0].body, bridge.records[0].end) == (sent, "truncated")


@both
async def test_a_blocking_answer_that_breaks_off_is_a_502(wire: Wire) -> None:
    cut = whole(wire.fixture("text.json"))[:-20]
    async with Provider(says(cut)) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire, streaming=False)

    message = f"the connection to {provider.url}{wire.path} broke before the end of the answer"
    body = wire.error(message)
    assert heard == Heard(502, body)
    assert ends(bridge) == [(502, "truncated")]


@both
async def test_what_came_before_a_break_is_not_lost_on_a_slow_reader(wire: Wire) -> None:
    sent = wire.fixture("text.sse")
    broken = asyncio.Event()

    async def behave(peer: Peer) -> None:
        await drops(started(wire), sent.removeprefix(started(wire)))(peer)
        broken.set()

    async with Provider(behave) as provider:
        bridge = bridge_to(provider.url)
        async with client_of(bridge) as client:
            request = client.build_request("POST", wire.path, content=wire.request())
            response = await client.send(request, stream=True)
            pieces = response.aiter_raw()
            first = await anext(pieces)
            await broken.wait()
            for _turn_of_the_loop in range(20):
                await asyncio.sleep(0)
            rest = b"".join([piece async for piece in pieces])

    assert first + rest == sent
    assert ends(bridge) == [(200, "completed")]


@both
async def test_a_last_event_left_open_is_an_end(wire: Wire) -> None:
    sent = wire.fixture("text.sse").removesuffix(b"\n\n")
    async with Provider(streams(sent)) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    assert heard == Heard(200, sent)
    assert ends(bridge) == [(200, "completed")]


@both
async def test_a_stream_held_open_after_its_last_event_is_ended(wire: Wire) -> None:
    sent = wire.fixture("text.sse")
    left = asyncio.Event()
    async with Provider(holds(chunked_head(), chunk(sent), left=left)) as provider:
        bridge = bridge_to(provider.url)
        async with client_of(bridge) as client:
            with anyio.fail_after(10):
                heard = await hear(client, wire)
                await left.wait()

    assert heard == Heard(200, sent)
    assert ends(bridge) == [(200, "completed")]


@both
async def test_nothing_passes_after_the_last_event_and_the_connection_is_not_used_again(
    wire: Wire,
) -> None:
    sent = wire.fixture("text.sse")
    late = streams(sent + started(wire), started(wire))
    async with Provider(late) as provider:
        bridge = bridge_to(provider.url)
        async with client_of(bridge) as client:
            heard = [await hear(client, wire) for _ in range(2)]

    assert heard == [Heard(200, sent)] * 2
    assert [record.body for record in bridge.records] == [sent] * 2
    assert provider.connections == 2


# No answer


def unused_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@both
@either_way
async def test_a_refused_connection_is_a_502(wire: Wire, streaming: bool) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    bridge = bridge_to(url)

    heard = await ask(bridge, wire, streaming=streaming)

    message = (
        f"could not reach {url}{wire.path}: Connection refused; check the base URL and the network"
    )
    assert heard == Heard(502, wire.error(message))
    assert [each.error for each in bridge.interceptions] == [message]
    assert ends(bridge) == [(502, "upstream_error")]


async def test_a_name_that_does_not_resolve_is_a_502(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    bridge = bridge_to("http://nowhere.invalid")

    heard = await ask(bridge, OPENAI)

    message = (
        "could not reach http://nowhere.invalid/v1/chat/completions: the name 'nowhere.invalid'"
        " does not resolve; check the base URL and the network"
    )
    assert heard == Heard(502, OPENAI.error(message))


async def test_tls_to_a_plain_port_is_a_502() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        bridge = bridge_to(url)

        heard = await ask(bridge, OPENAI)

    assert heard.status == 502
    assert f"could not reach {url}/v1/chat/completions: TLS failed (" in heard.body.decode()
    assert ends(bridge) == [(502, "upstream_error")]


@both
@pytest.mark.parametrize("lost", [hangs_up, resets])
async def test_a_connection_lost_before_the_head_is_tried_once_more(
    wire: Wire, lost: Behaviour
) -> None:
    sent = wire.fixture("text.sse")
    async with Provider(lost, streams(sent)) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    assert heard == Heard(200, sent)
    assert [asked.body for asked in provider.asked] == [wire.request()] * 2
    assert ends(bridge) == [(200, "completed")]


@both
@pytest.mark.parametrize("lost", [hangs_up, resets])
async def test_a_connection_lost_twice_is_a_502(wire: Wire, lost: Behaviour) -> None:
    async with Provider(lost) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    message = f"{provider.url}{wire.path} closed the connection without an answer: try again"
    assert heard == Heard(502, wire.error(message))
    assert provider.connections == 2
    assert ends(bridge) == [(502, "upstream_error")]


@both
async def test_kept_connections_that_died_are_not_noticed_by_clients(wire: Wire) -> None:
    sent = wire.fixture("text.sse")
    both_in = asyncio.Barrier(2)

    async def together(peer: Peer) -> None:
        await both_in.wait()
        await streams(sent)(peer)

    async with Provider(together, together, resets, streams(sent)) as provider:
        bridge = bridge_to(provider.url)
        async with client_of(bridge) as client:
            # Two kept connections, of which the first dies: the second try must not take the other.
            first = await asyncio.gather(hear(client, wire), hear(client, wire))
            second = await hear(client, wire)

    assert [*first, second] == [Heard(200, sent)] * 3
    assert provider.connections == 3


# Silence


@both
@either_way
async def test_silence_before_the_head_is_a_504(wire: Wire, streaming: bool) -> None:
    left = asyncio.Event()
    async with Provider(holds(left=left)) as provider:
        bridge = bridge_to(provider.url, Live(idle_s=0.05))

        heard = await ask(bridge, wire, streaming=streaming)

        with anyio.fail_after(10):
            await left.wait()
    message = f"{provider.url}{wire.path} sent nothing for 0.05 s: allow more with Live(idle_s=...)"
    assert heard == Heard(504, wire.error(message, "timeout_error"))
    assert ends(bridge) == [(504, "upstream_timeout")]
    assert provider.connections == 1


@both
@either_way
async def test_silence_after_the_head_is_a_504_too(wire: Wire, streaming: bool) -> None:
    fields = SSE if streaming else JSON
    async with Provider(holds(chunked_head(fields))) as provider:
        bridge = bridge_to(provider.url, Live(idle_s=0.05))

        heard = await ask(bridge, wire, streaming=streaming)

    assert heard.status == 504
    assert ends(bridge) == [(504, "upstream_timeout")]


@both
async def test_silence_between_events_ends_with_an_error_event(
    wire: Wire, much_later: Callable[[], None]
) -> None:
    sent = started(wire)
    left = asyncio.Event()
    async with Provider(holds(chunked_head(), chunk(sent), left=left)) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire, heed=lambda body: much_later() if body == sent else None)

        with anyio.fail_after(10):
            await left.wait()
    message = f"{provider.url}{wire.path} sent nothing for 120 s: allow more with Live(idle_s=...)"
    last = wire.error_event(message, "timeout_error")
    assert heard == Heard(200, sent + last)
    assert ends(bridge) == [(200, "upstream_timeout")]
    assert (bridge.records[0].body, bridge.records[0].end) == (sent, "upstream_timeout")


@both
async def test_silence_inside_an_event_adds_nothing(
    wire: Wire, much_later: Callable[[], None]
) -> None:
    sent = started(wire) + b"data: {"
    async with Provider(holds(chunked_head(), chunk(sent))) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire, heed=lambda body: much_later() if body == sent else None)

    assert heard == Heard(200, sent, "RemoteProtocolError")
    assert ends(bridge) == [(200, "upstream_timeout")]


STILL_THERE = b": still there\n\n"


@both
async def test_an_answer_may_not_take_for_ever(wire: Wire, much_later: Callable[[], None]) -> None:
    async def murmurs(peer: Peer) -> None:
        await peer.send(chunked_head(), chunk(started(wire)))
        while True:
            await peer.send(chunk(STILL_THERE))

    async with Provider(murmurs) as provider:
        bridge = bridge_to(provider.url, Live(total_s=100))

        heard = await ask(
            bridge, wire, heed=lambda body: much_later() if STILL_THERE in body else None
        )

    message = f"{provider.url}{wire.path} took longer than 100 s: allow more with Live(total_s=...)"
    last = wire.error_event(message, "timeout_error")
    assert heard.body.startswith(started(wire))
    assert heard.body.endswith(last)
    assert ends(bridge) == [(200, "upstream_timeout")]


@both
async def test_the_head_does_not_wait_for_ever_for_the_first_event(wire: Wire) -> None:
    sent = wire.fixture("text.sse")
    go_on = asyncio.Event()

    async def hesitates(peer: Peer) -> None:
        await peer.send(chunked_head(), chunk(sent[:9]))
        await go_on.wait()
        await peer.send(chunk(sent[9:]), LAST)

    async with Provider(hesitates) as provider:
        bridge = bridge_to(provider.url, Live(first_event_s=0.01))
        async with (
            client_of(bridge) as client,
            client.stream("POST", wire.path, content=wire.request()) as response,
        ):
            go_on.set()
            body = await response.aread()

    assert (response.status_code, body) == (200, sent)
    assert ends(bridge) == [(200, "completed")]


# Answers that cannot be passed on


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_a_redirect_is_refused_and_not_followed(status: int) -> None:
    async with Provider(says(whole(b"{}"))) as canary:
        away = head([("location", f"{canary.url}/v1/messages"), ("content-length", "0")], status)
        async with Provider(says(away)) as provider:
            bridge = bridge_to(provider.url)

            heard = await ask(bridge, ANTHROPIC)

    message = (
        f"'anthropic' answered with a redirect or the like ({status}), which is not followed:"
        " check the base URL"
    )
    assert heard == Heard(502, ANTHROPIC.error(message))
    assert (provider.connections, canary.connections) == (1, 0)
    assert ends(bridge) == [(502, "upstream_error")]


@both
@either_way
async def test_a_web_page_is_refused(wire: Wire, streaming: bool) -> None:
    page = whole(b"<html>Welcome", [("content-type", "text/html; charset=utf-8")])
    async with Provider(says(page)) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire, streaming=streaming)

    message = f"{wire.provider!r} answered with a web page: check the base URL"
    assert heard == Heard(502, wire.error(message))
    assert ends(bridge) == [(502, "upstream_error")]


@both
async def test_json_instead_of_a_stream_is_refused(wire: Wire) -> None:
    async with Provider(says(whole(b'{"id":"x"}'))) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    message = f"""{wire.provider!r} was asked for a stream and answered '{{"id":"x"}}'"""
    body = wire.error(message)
    assert heard == Heard(502, body)
    assert ends(bridge) == [(502, "upstream_error")]


@both
@either_way
@pytest.mark.parametrize("status", [200, 204])
async def test_an_answer_without_a_body_is_refused(
    wire: Wire, streaming: bool, status: int
) -> None:
    fields = [*(SSE if streaming else JSON), ("content-length", "0")]
    async with Provider(says(head(fields, status))) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire, streaming=streaming)

    message = f"{wire.provider!r} sent an answer without a body"
    body = wire.error(message)
    assert heard == Heard(502, body)
    assert ends(bridge) == [(502, "truncated")]


@both
@either_way
async def test_an_unknown_coding_is_refused(wire: Wire, streaming: bool) -> None:
    fields = [*(SSE if streaming else JSON), ("content-encoding", "br")]
    async with Provider(says(whole(b"abc", fields))) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire, streaming=streaming)

    message = "the answer is encoded as 'br', which was not asked for"
    body = wire.error(message)
    assert heard == Heard(502, body)
    assert ends(bridge) == [(502, "upstream_error")]


@both
async def test_broken_compression_is_refused(wire: Wire) -> None:
    async with Provider(
        says(whole(b"not gzip at all", [*SSE, ("content-encoding", "gzip")]))
    ) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    message = "the answer's compression is broken: Error -3 while decompressing data: incorrect header check"
    body = wire.error(message)
    assert heard == Heard(502, body)
    assert ends(bridge) == [(502, "upstream_error")]


@both
async def test_compression_cut_short_is_truncated(wire: Wire) -> None:
    sent = started(wire)
    squeezed = gzip.compress(sent)
    async with Provider(
        says(whole(squeezed[:-4], [*SSE, ("content-encoding", "gzip")]))
    ) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    last = wire.error_event("the compressed answer stopped before its end")
    assert heard == Heard(200, sent + last)
    assert ends(bridge) == [(200, "truncated")]


@both
@either_way
async def test_a_bomb_is_defused(wire: Wire, streaming: bool) -> None:
    start = wire.fixture("text.sse")[:200] if streaming else b'{"id":"'
    bomb = gzip.compress(start + b" " * (16 * 2**20))
    fields = [*(SSE if streaming else JSON), ("content-encoding", "gzip")]
    async with Provider(says(whole(bomb, fields))) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire, streaming=streaming)

    assert len(heard.body) < 2 * 2**20
    assert ends(bridge) == [(heard.status, "bridge_limit")]


@both
async def test_an_answer_over_the_limit_is_cut(wire: Wire) -> None:
    sent = started(wire)
    async with Provider(
        says(chunked_head(), chunk(sent), chunk(wire.fixture("text.sse")))
    ) as provider:
        bridge = bridge_to(provider.url, Live(limit_bytes=len(sent) + 7))

        heard = await ask(bridge, wire)

    message = f"the answer is larger than {len(sent) + 7:,} bytes"
    last = wire.error_event(message)
    assert heard == Heard(200, sent + last)
    assert ends(bridge) == [(200, "bridge_limit")]
    assert bridge.records[0].end == "bridge_limit"


@both
async def test_a_line_without_end_is_cut(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmbridge.exchange.framing.EVENT_LIMIT_BYTES", 50_000)
    left = asyncio.Event()

    async def goes_on(peer: Peer) -> None:
        await peer.send(chunked_head(), chunk(started(wire)))
        with suppress(ConnectionError):
            while True:
                await peer.send(chunk(b"data: " + b"x" * 9_994))
        left.set()

    async with Provider(goes_on) as provider:
        bridge = bridge_to(provider.url)
        async with client_of(bridge) as client:
            heard = await hear(client, wire)
            with anyio.fail_after(10):
                await left.wait()

    assert (heard.status, heard.failure) == (200, "RemoteProtocolError")
    assert len(heard.body) <= len(started(wire)) + 50_000
    assert ends(bridge) == [(200, "bridge_limit")]


async def test_a_reader_that_stops_holds_the_provider() -> None:
    sent = 0
    held = asyncio.Event()

    async def floods(peer: Peer) -> None:
        nonlocal sent
        await peer.send(chunked_head(), chunk(started(OPENAI)))
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0.1):
                    await peer.send(chunk(b": " + b"x" * 65_534 + b"\n\n"))
                sent += 65_536
        held.set()

    async with Provider(floods) as provider:
        bridge = bridge_to(provider.url)
        async with (
            client_of(bridge) as client,
            client.stream("POST", OPENAI.path, content=OPENAI.request()) as response,
        ):
            pieces = response.aiter_raw()
            await anext(pieces)
            await held.wait()

    # What the operating system's own buffers take is beside the point, and a few MiB.
    assert sent < 16 * 2**20
    assert sum(len(piece) for _, piece in bridge.records[0].chunks) < 2**20


HEADS = {
    "a line of 64 KiB": (head([("x-a", "a" * 65536)]), "bridge_limit"),
    "a status line of 64 KiB": (b"HTTP/1.1 200 " + b"a" * 65536 + b"\r\n\r\n", "bridge_limit"),
    "1000 fields": (head([(f"x-{i}", "1") for i in range(1000)]), "bridge_limit"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "upstream_error"),
    "a bad status": (b"HTTP/1.1 abc Fine\r\n\r\n", "upstream_error"),
    "a bad field": (b"HTTP/1.1 200 OK\r\nx\0y: 1\r\n\r\n", "upstream_error"),
    "two lengths": (head([("content-length", "1"), ("content-length", "2")]), "upstream_error"),
    "an upgrade": (head([("upgrade", "h2c"), ("connection", "upgrade")], 101), "upstream_error"),
}


@both
@pytest.mark.parametrize(("sent", "end"), HEADS.values(), ids=HEADS)
async def test_a_head_that_is_none_is_a_502(wire: Wire, sent: bytes, end: str) -> None:
    async with Provider(says(sent)) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    assert heard.status == 502
    assert ends(bridge) == [(502, end)]
    assert provider.connections == 1


async def test_an_answer_before_the_request_was_read_passes() -> None:
    sent = ANTHROPIC.fixture("error_413.json")
    left = asyncio.Event()

    async def refuses(peer: Peer) -> None:
        await peer.send(whole(sent, JSON, 413))
        await peer.left()
        left.set()

    async with (
        Provider(refuses, reads_bodies=False) as provider,
        client_of(bridge_to(provider.url)) as client,
    ):
        answer = await client.post(ANTHROPIC.path, content=b'{"x":"' + b"x" * 2**23 + b'"}')
        with anyio.fail_after(10):
            await left.wait()

    assert (answer.status_code, answer.content) == (413, sent)


@both
async def test_odd_bytes_pass_as_they_are(wire: Wire) -> None:
    sent = b"data: {not json\n\n\xff\xfe\x00: \xf0\x9f\n\nretry: x\n\n" + wire.fixture(
        "unknown.sse"
    )
    async with Provider(streams(sent)) as provider:
        bridge = bridge_to(provider.url)

        heard = await ask(bridge, wire)

    assert heard == Heard(200, sent)
    assert text_of(bridge.records[0]) == wire.text_of("unknown.sse")
