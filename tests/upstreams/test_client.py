import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from llmbridge import Live
from llmbridge.errors import ConfigurationError
from tests.upstreams.asking import (
    OPENAI,
    WIRES,
    Heard,
    Wire,
    ask,
    bridge_to,
    client_of,
    ends,
    hear,
    hear_and_leave,
)
from tests.upstreams.faulty import (
    JSON,
    LAST,
    SSE,
    Behaviour,
    Peer,
    Provider,
    chunk,
    chunked_head,
    hangs_up,
    head,
    holds,
    says,
    streams,
    whole,
)

both = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.provider)
modules = pytest.mark.parametrize("module", [httpx2, httpx], ids=["httpx2", "httpx"])


def started(wire: Wire) -> bytes:
    return b"".join(event + b"\n\n" for event in wire.fixture("text.sse").split(b"\n\n")[:3])


@both
@modules
@pytest.mark.parametrize("name", ["text.sse", "unicode.sse", "crlf.sse"])
async def test_a_borrowed_client_relays_the_same_bytes(wire: Wire, module: Any, name: str) -> None:
    sent = wire.fixture(name)
    pieces = re.findall(rb".+?(?:\r\n\r\n|\n\n|\Z)", sent, re.DOTALL)
    async with Provider(streams(*pieces)) as provider, module.AsyncClient() as client:
        bridge = bridge_to(provider.url, Live(client))

        heard = await ask(bridge, wire)
        again = await ask(bridge, wire)

    assert [heard, again] == [Heard(200, sent)] * 2
    assert [record.body for record in bridge.records] == [sent] * 2
    assert provider.connections == 1


@modules
@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])
async def test_bytes_that_a_client_would_inflate_are_inflated_once(
    module: Any, streaming: bool
) -> None:
    sent = OPENAI.fixture("text.sse" if streaming else "text.json")
    squeezed = whole(
        gzip.compress(sent), [*(SSE if streaming else JSON), ("content-encoding", "gzip")]
    )
    async with Provider(says(squeezed)) as provider, module.AsyncClient() as client:
        heard = await ask(bridge_to(provider.url, Live(client)), OPENAI, streaming=streaming)

    assert heard == Heard(200, sent)


@modules
async def test_nothing_of_the_clients_own_goes_before_the_bridges(module: Any) -> None:
    own = {"authorization": "Bearer sk-own", "user-agent": "own/1", "x-own": "1"}
    async with (
        Provider(says(whole(b"{}"))) as provider,
        module.AsyncClient(headers=own, auth=("user", "password")) as client,
    ):
        bridge = bridge_to(provider.url, Live(client))

        await ask(bridge, OPENAI, streaming=False, user_agent="sdk/1")

    [asked] = provider.asked
    names = ("authorization", "user-agent", "x-own", "accept-encoding")
    given = [asked[name] for name in names]
    assert given == ["Bearer sk-test-openai-1", "sdk/1", "1", "identity"]
    assert asked.body == OPENAI.request(streaming=False)


@modules
async def test_a_function_is_asked_for_a_client_once_for_each_loop_and_it_is_closed(
    module: Any,
) -> None:
    made: list[Any] = []

    def make() -> Any:
        made.append(module.AsyncClient())
        return made[-1]

    async with Provider(streams(OPENAI.fixture("text.sse"))) as provider:
        bridge = bridge_to(provider.url, Live(make))
        async with client_of(bridge) as client:
            heard = [await hear(client, OPENAI) for _ in range(3)]
        closed = [client.is_closed for client in made]
        heard.append(await ask(bridge, OPENAI))

    assert heard == [Heard(200, OPENAI.fixture("text.sse"))] * 4
    assert (closed, len(made), provider.connections) == ([True], 2, 2)


@modules
async def test_a_client_of_another_loop_is_refused(module: Any) -> None:
    async with Provider(says(whole(b"{}"), keep=True)) as provider, module.AsyncClient() as client:
        bridge = bridge_to(provider.url, Live(client))
        await ask(bridge, OPENAI, streaming=False)

        heard = await asyncio.to_thread(lambda: asyncio.run(ask(bridge, OPENAI)))

    message = (
        "the client in Live(client=...) belongs to another event loop:"
        " give a function that makes one instead"
    )
    assert heard == Heard(500, OPENAI.error(message))


@pytest.mark.parametrize("client", [httpx2.Client, httpx.Client], ids=["httpx2", "httpx"])
def test_a_client_that_cannot_wait_is_refused(client: Any) -> None:
    with client() as made, pytest.raises(ConfigurationError, match=r"httpx2\.AsyncClient"):
        Live(made)


@pytest.mark.parametrize("client", ["http://proxy", 7, object()])
def test_what_is_no_client_is_refused(client: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"httpx2\.AsyncClient"):
        Live(client)


class OwnClient(httpx2.AsyncClient):
    """As SDKs derive theirs."""


@pytest.mark.parametrize("client", [OwnClient, lambda: OwnClient()], ids=["class", "function"])
async def test_a_class_derived_from_a_client_makes_clients(client: Any) -> None:
    async with Provider(says(whole(b"{}"))) as provider:
        heard = await ask(bridge_to(provider.url, Live(client)), OPENAI, streaming=False)

    assert heard == Heard(200, b"{}")


# Failures are the same as over the bridge's own connections

BEFORE_THE_HEAD: dict[str, tuple[Behaviour, int, str]] = {
    "silence": (holds(), 504, "upstream_timeout"),
    "no answer": (hangs_up, 502, "upstream_error"),
    "no HTTP": (says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), 502, "upstream_error"),
    "a redirect": (
        says(head([("location", "/x"), ("content-length", "0")], 307)),
        502,
        "upstream_error",
    ),
    "a broken body": (says(whole(b'{"a":1}')[:-2]), 502, "truncated"),
    "an unknown coding": (
        says(whole(b"{}", [*JSON, ("content-encoding", "br")])),
        502,
        "upstream_error",
    ),
    "an error": (says(whole(b"{}", JSON, 429)), 429, "upstream_error"),
}


@modules
@pytest.mark.parametrize(
    ("behaviour", "status", "end"), BEFORE_THE_HEAD.values(), ids=BEFORE_THE_HEAD
)
async def test_what_fails_before_the_head_is_a_status(
    module: Any, behaviour: Behaviour, status: int, end: str
) -> None:
    async with Provider(behaviour) as provider, module.AsyncClient() as client:
        bridge = bridge_to(provider.url, Live(client, idle_s=0.05))

        heard = await ask(bridge, OPENAI, streaming=False)

    assert heard.status == status
    assert ends(bridge) == [(status, end)]


@modules
async def test_a_refused_connection_is_a_502(module: Any) -> None:
    async with module.AsyncClient() as client:
        bridge = bridge_to("http://127.0.0.1:1", Live(client))

        heard = await ask(bridge, OPENAI)

    message = (
        "could not reach http://127.0.0.1:1/v1/chat/completions: All connection attempts failed;"
        " check the base URL and the network"
    )
    assert heard == Heard(502, OPENAI.error(message))


@modules
@pytest.mark.parametrize(
    ("then", "kind", "end"),
    [(says, "server_error", "truncated"), (holds, "timeout_error", "upstream_timeout")],
    ids=["broken", "silent"],
)
async def test_what_fails_between_events_is_an_error_event(
    module: Any, then: Callable[..., Behaviour], kind: str, end: str
) -> None:
    sent = started(OPENAI)
    async with (
        Provider(then(chunked_head(), chunk(sent))) as provider,
        module.AsyncClient() as client,
    ):
        bridge = bridge_to(provider.url, Live(client, idle_s=0.5))

        heard = await ask(bridge, OPENAI)

    assert heard.body.startswith(sent + b'data: {"error":{"message":')
    assert f'"type":"{kind}"'.encode() in heard.body
    assert ends(bridge) == [(200, end)]


@modules
async def test_an_answer_may_not_take_for_ever(module: Any, much_later: Callable[[], None]) -> None:
    still_there = b": still there\n\n"

    async def murmurs(peer: Peer) -> None:
        await peer.send(chunked_head(), chunk(started(OPENAI)))
        while True:
            await peer.send(chunk(still_there))

    async with Provider(murmurs) as provider, module.AsyncClient() as client:
        bridge = bridge_to(provider.url, Live(client, total_s=100))

        heard = await ask(
            bridge, OPENAI, heed=lambda body: much_later() if still_there in body else None
        )

    assert heard.body.startswith(started(OPENAI))
    assert ends(bridge) == [(200, "upstream_timeout")]


@modules
async def test_a_slow_first_event_is_waited_for_to_the_end(module: Any) -> None:
    sent = OPENAI.fixture("text.sse")
    given_up = asyncio.Event()

    async def hesitates(peer: Peer) -> None:
        await peer.send(chunked_head())
        with anyio.move_on_after(0.05):
            await given_up.wait()
        await peer.send(chunk(sent), LAST)

    async with Provider(hesitates) as provider, module.AsyncClient() as client:
        heard = await ask(bridge_to(provider.url, Live(client, first_event_s=0.01)), OPENAI)

    assert heard == Heard(200, sent)


@modules
async def test_a_client_that_leaves_in_mid_stream_ends_the_upstream(module: Any) -> None:
    left = asyncio.Event()
    sent = started(OPENAI)
    async with (
        Provider(holds(chunked_head(), chunk(sent), left=left)) as provider,
        module.AsyncClient() as upstream,
    ):
        bridge = bridge_to(provider.url, Live(upstream))
        async with client_of(bridge) as client:
            await hear_and_leave(client, OPENAI)
            with anyio.fail_after(10):
                await left.wait()

    assert (bridge.records[0].body, ends(bridge)) == (sent, [(200, "client_gone")])


# Pieces just as they are, without sockets


class Pieces(httpx2.AsyncBaseTransport):
    """Answers with these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=dict(SSE), content=self._chunks())

    async def _chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


@both
async def test_pieces_keep_their_borders_after_the_first_event(wire: Wire) -> None:
    sent = wire.fixture("unicode.sse")
    first = sent.index(b"\n\n") + 2
    pieces = [sent[place : place + 1] for place in range(len(sent))]
    bridge = bridge_to(
        "http://127.0.0.1",
        Live(httpx2.AsyncClient(transport=Pieces(*pieces[:first], b"", *pieces[first:]))),
    )

    heard = await ask(bridge, wire)

    chunks = [chunk for _, chunk in bridge.records[0].chunks]
    assert heard == Heard(200, sent)
    assert chunks == [sent[:first], *pieces[first:]]
