"""Clients, loops and bridges that end in the middle: the upstream is let go of at once, and nothing stays behind."""

import asyncio
import gc
import logging
import os
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import httpx2
import pytest
from anyio.from_thread import start_blocking_portal

from llmbridge import Live
from tests.upstreams.asking import (
    OPENAI,
    WIRES,
    Heard,
    Wire,
    bridge_to,
    client_of,
    ends,
    hear,
    hear_and_leave,
)
from tests.upstreams.faulty import (
    JSON,
    Behaviour,
    Peer,
    Provider,
    chunk,
    chunked_head,
    holds,
    streams,
)

both = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.provider)
either_way = pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])

PATIENCE_S = 10
"""For the provider to see that nobody listens any more; a bridge that does not care would hold on for minutes."""


def started(wire: Wire) -> bytes:
    return b"".join(event + b"\n\n" for event in wire.fixture("text.sse").split(b"\n\n")[:3])


class Watched:
    """A provider that sends these pieces and holds; says when they are out and when the bridge has hung up."""

    def __init__(self, *pieces: bytes) -> None:
        self.sent = asyncio.Event()
        self.left = asyncio.Event()
        self._pieces = pieces

    async def __call__(self, peer: Peer) -> None:
        await peer.send(*self._pieces)
        self.sent.set()
        await peer.left()
        self.left.set()


async def ask_and_leave(
    client: httpx2.AsyncClient, wire: Wire, watched: Watched, streaming: bool
) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: hear(client, wire, streaming=streaming))
        await watched.sent.wait()
        await asyncio.sleep(0)
        group.cancel_scope.cancel()


NO_HEAD: dict[str, Callable[[bool], tuple[bytes, ...]]] = {
    "before the head": lambda streaming: (),
    "inside the head": lambda streaming: (b"HTTP/1.1 200 OK\r\nconte",),
    "before the first event": lambda streaming: (chunked_head(),),
    "inside the body": lambda streaming: (
        chunked_head() if streaming else chunked_head(JSON),
        chunk(b'data: {"cho' if streaming else b'{"cho'),
    ),
}


@both
@either_way
@pytest.mark.parametrize("pieces", NO_HEAD.values(), ids=NO_HEAD)
async def test_a_client_that_leaves_before_the_head_ends_the_upstream(
    wire: Wire, streaming: bool, pieces: Callable[[bool], tuple[bytes, ...]]
) -> None:
    watched = Watched(*pieces(streaming))
    async with Provider(watched) as provider:
        bridge = bridge_to(provider.url)
        async with client_of(bridge) as client:
            await ask_and_leave(client, wire, watched, streaming)
            with anyio.fail_after(PATIENCE_S):
                await watched.left.wait()

    assert (ends(bridge), bridge.inflight) == ([(None, "client_gone")], ())


@both
async def test_a_client_that_leaves_in_mid_stream_ends_the_upstream(wire: Wire) -> None:
    sent = started(wire)
    watched = Watched(chunked_head(), chunk(sent))
    async with Provider(watched) as provider:
        bridge = bridge_to(provider.url)
        async with (
            client_of(bridge) as client,
            client.stream("POST", wire.path, content=wire.request()) as response,
        ):
            heard = await anext(response.aiter_raw())
            await response.aclose()
            with anyio.fail_after(PATIENCE_S):
                await watched.left.wait()

    [record] = bridge.records
    assert heard == sent
    assert (record.status, record.body, record.end) == (200, sent, "client_gone")
    assert (ends(bridge), bridge.inflight) == ([(200, "client_gone")], ())


@both
async def test_a_client_cancelled_while_it_waits_for_more_ends_the_upstream(wire: Wire) -> None:
    sent = started(wire)
    watched = Watched(chunked_head(), chunk(sent))
    async with Provider(watched) as provider:
        bridge = bridge_to(provider.url)
        async with client_of(bridge) as client:
            await hear_and_leave(client, wire)
            with anyio.fail_after(PATIENCE_S):
                await watched.left.wait()

    assert (bridge.records[0].body, bridge.records[0].end) == (sent, "client_gone")
    assert (ends(bridge), bridge.inflight) == ([(200, "client_gone")], ())


@both
async def test_a_client_that_takes_only_the_head_ends_the_upstream(wire: Wire) -> None:
    watched = Watched(chunked_head(), chunk(started(wire)))
    async with Provider(watched) as provider:
        bridge = bridge_to(provider.url)
        async with client_of(bridge) as client:
            async with client.stream("POST", wire.path, content=wire.request()) as response:
                pass
            with anyio.fail_after(PATIENCE_S):
                await watched.left.wait()

    assert response.status_code == 200
    assert (bridge.records[0].body, bridge.records[0].end) == (b"", "client_gone")
    assert (ends(bridge), bridge.inflight) == ([(200, "client_gone")], ())


@both
async def test_a_client_out_of_patience_ends_the_upstream(wire: Wire) -> None:
    watched = Watched()
    async with Provider(watched) as provider:
        live = Live()
        live.prepare()
        bridge = bridge_to(provider.url, live)
        async with client_of(bridge) as client:
            # Long enough for the provider to be asked, on a machine that is busy.
            client.timeout = httpx2.Timeout(1)
            heard = await hear(client, wire)
            with anyio.fail_after(PATIENCE_S):
                await watched.left.wait()

    assert heard == Heard(failure="ReadTimeout")
    assert (ends(bridge), bridge.inflight) == ([(None, "client_gone")], ())


@both
async def test_a_client_that_leaves_after_the_last_event_has_missed_nothing(wire: Wire) -> None:
    sent = wire.fixture("text.sse")
    watched = Watched(chunked_head(), chunk(sent))
    async with Provider(watched) as provider:
        bridge = bridge_to(provider.url)
        async with (
            client_of(bridge) as client,
            client.stream("POST", wire.path, content=wire.request()) as response,
        ):
            heard = await anext(response.aiter_raw())

    assert heard == sent
    assert (bridge.records[0].end, ends(bridge)) == ("completed", [(200, "completed")])


@both
@either_way
async def test_a_client_that_hangs_up_on_the_server_ends_the_upstream(
    wire: Wire, streaming: bool
) -> None:
    watched = Watched(*((chunked_head(), chunk(started(wire))) if streaming else ()))
    async with Provider(watched) as provider:
        bridge = bridge_to(provider.url)
        server = await asyncio.to_thread(bridge.serve, token=None)
        body = wire.request(streaming=streaming)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        asked = [("host", f"127.0.0.1:{server.port}"), ("content-length", str(len(body)))]
        lines = "".join(f"{name}: {value}\r\n" for name, value in asked)
        writer.write(f"POST {wire.path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        await watched.sent.wait()
        if streaming:
            await reader.readuntil(b"\r\n\r\n")

        writer.close()

        with anyio.fail_after(PATIENCE_S):
            await watched.left.wait()
        await asyncio.to_thread(bridge.close)

    assert ends(bridge) == [(200 if streaming else None, "client_gone")]


# Many at once


@asynccontextmanager
async def own_client(client: httpx2.AsyncClient | None) -> AsyncIterator[Live]:
    yield Live(client)
    if client is not None:
        await client.aclose()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def after(turns: int, cancel: Callable[[], None]) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    cancel()


@pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc: run it on Linux"
)
@pytest.mark.parametrize("own", [None, httpx2.AsyncClient], ids=["aiohttp", "httpx2"])
async def test_cancelling_at_every_step_leaves_the_pool_sound(
    own: Callable[[], httpx2.AsyncClient] | None,
) -> None:
    sent = OPENAI.fixture("text.sse")
    healthy, held = streams(sent), holds(chunked_head(), chunk(started(OPENAI)))

    async def behave(peer: Peer) -> None:
        await (held if peer.asked["x-hold"] else healthy)(peer)

    async with Provider(behave) as provider:
        async with own_client(own() if own else None) as live:
            bridge = bridge_to(provider.url, live)
            async with client_of(bridge) as client:
                await hear(client, OPENAI)
                before = (open_files(), len(asyncio.all_tasks()))

                for round in range(10):
                    async with anyio.create_task_group() as group:
                        for task in range(20):
                            scope = anyio.CancelScope()
                            group.start_soon(cancelled, scope, client)
                            group.start_soon(after, 20 * round + task, scope.cancel)

                with anyio.fail_after(5):
                    heard = [await hear(client, OPENAI) for _ in range(20)]
        await provider.emptied()
        left = (open_files(), len(asyncio.all_tasks()))

    assert heard == [Heard(200, sent)] * 20
    assert [end for _, end in ends(bridge)[1:-20]] == ["client_gone"] * 200
    assert left < before


async def cancelled(scope: anyio.CancelScope, client: httpx2.AsyncClient) -> None:
    with scope:
        await hear(client, OPENAI, x_hold="1")


# Loops, threads and bridges that end


@contextmanager
def provider_in_a_thread(*behaviours: Behaviour) -> Iterator[tuple[Provider, Callable[[], None]]]:
    """A provider with a loop of its own, and a way to wait until nobody is connected."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Provider(*behaviours)) as provider,
    ):

        async def emptied() -> None:
            with anyio.fail_after(PATIENCE_S):
                await provider.emptied()

        yield provider, lambda: portal.call(emptied)


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is left open, and asyncio has nothing to say."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with caplog.at_level(logging.DEBUG, "asyncio"):
            yield
            gc.collect()
    assert [str(each.message) for each in caught] == []
    assert [each.message for each in caplog.records if each.levelno >= logging.WARNING] == []


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("own", [None, httpx2.AsyncClient], ids=["aiohttp", "factory"])
def test_a_loop_that_ends_takes_its_connections_along(
    own: Callable[[], httpx2.AsyncClient] | None,
) -> None:
    sent = OPENAI.fixture("text.sse")
    with provider_in_a_thread(streams(sent)) as (provider, emptied):
        bridge = bridge_to(provider.url, Live(own))

        async def work() -> list[Heard]:
            transport = bridge.async_transport()
            client = httpx2.AsyncClient(transport=transport, base_url="http://localhost")
            return [await hear(client, OPENAI), await hear(client, OPENAI)]

        heard = [asyncio.run(work()), asyncio.run(work())]
        emptied()

    assert heard == [[Heard(200, sent)] * 2] * 2
    assert provider.connections == 2


@pytest.mark.usefixtures("quiet")
def test_a_loop_that_ends_in_mid_stream_takes_its_connections_along() -> None:
    with provider_in_a_thread(holds(chunked_head(), chunk(started(OPENAI)))) as (provider, emptied):
        bridge = bridge_to(provider.url)

        async def work() -> bytes:
            transport = bridge.async_transport()
            client = httpx2.AsyncClient(transport=transport, base_url="http://localhost")
            request = client.build_request("POST", OPENAI.path, content=OPENAI.request())
            response = await client.send(request, stream=True)
            return await anext(response.aiter_raw())

        heard = asyncio.run(work())
        emptied()

    assert heard == started(OPENAI)


@pytest.mark.usefixtures("quiet")
async def test_a_bridge_that_is_forgotten_takes_its_connections_along() -> None:
    async with Provider(streams(OPENAI.fixture("text.sse"))) as provider:
        bridge = bridge_to(provider.url)
        client = httpx2.AsyncClient(transport=bridge.async_transport(), base_url="http://localhost")
        await hear(client, OPENAI)

        del bridge, client
        gc.collect()

        with anyio.fail_after(PATIENCE_S):
            await provider.emptied()


@pytest.mark.usefixtures("quiet")
def test_closing_the_bridge_closes_its_own_loops_connections() -> None:
    sent = OPENAI.fixture("text.sse")
    with provider_in_a_thread(streams(sent)) as (provider, emptied):
        bridge = bridge_to(provider.url)
        with httpx2.Client(transport=bridge.transport(), base_url="http://localhost") as client:
            answer = client.post(OPENAI.path, content=OPENAI.request())

        bridge.close()
        emptied()

    assert answer.content == sent


@pytest.mark.usefixtures("quiet")
def test_two_loops_at_once_have_a_pool_each() -> None:
    sent = OPENAI.fixture("text.sse")
    together = threading.Barrier(2)
    heard: list[Heard] = []

    with provider_in_a_thread(streams(sent)) as (provider, emptied):
        bridge = bridge_to(provider.url)

        async def work() -> None:
            async with client_of(bridge) as client:
                heard.append(await hear(client, OPENAI))
                # Both hold a connection by now; a barrier of threads stops each loop, which is meant.
                together.wait(5)
                heard.append(await hear(client, OPENAI))

        threads = [threading.Thread(target=asyncio.run, args=[work()]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        emptied()

    assert heard == [Heard(200, sent)] * 4
    assert provider.connections == 2


async def test_closing_one_client_does_not_disturb_another_of_the_same_loop() -> None:
    sent = OPENAI.fixture("text.sse")
    go_on = asyncio.Event()

    async def in_two(peer: Peer) -> None:
        await peer.send(chunked_head(), chunk(sent[:400]))
        await go_on.wait()
        await peer.send(chunk(sent[400:]), b"0\r\n\r\n")

    async with Provider(in_two, streams(sent)) as provider:
        bridge = bridge_to(provider.url)
        async with (
            client_of(bridge) as client,
            client.stream("POST", OPENAI.path, content=OPENAI.request()) as response,
        ):
            async with client_of(bridge) as other:
                await hear(other, OPENAI)
            go_on.set()
            body = await response.aread()

    assert body == sent
    assert provider.connections == 2
