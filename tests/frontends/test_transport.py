import asyncio
import os
import signal
import threading
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest
from anyio.from_thread import start_blocking_portal

from llmbridge.exchange.call import Caller, Headers
from llmbridge.frontends import transport, transport_httpx
from tests.frontends.fakes import (
    EVENTS,
    JSON,
    FakeHandle,
    Unanswered,
    broken,
    events,
    spaced,
    unfinished,
)

URL = "http://api.example/v1/messages?beta=true"


@pytest.fixture(params=[(httpx2, transport), (httpx, transport_httpx)], ids=["httpx2", "httpx"])
def clients(request: pytest.FixtureRequest, portal: Any) -> Any:
    library, module = request.param
    return Clients(library, module, portal)


class Clients:
    """Clients of one library, sync and async."""

    def __init__(self, library: ModuleType, module: ModuleType, portal: Any) -> None:
        self.library: Any = library
        self._module: Any = module
        self._portal = portal

    def sync(self, handle: Any, **options: Any) -> Any:
        transport = self._module.BridgeTransport(handle, lambda: self._portal)
        return self.library.Client(transport=transport, **options)

    def asynchronous(self, handle: Any, **options: Any) -> Any:
        transport = self._module.AsyncBridgeTransport(handle)
        return self.library.AsyncClient(transport=transport, **options)

    def with_on_close(self, on_close: Any) -> Any:
        return self._module.AsyncBridgeTransport(FakeHandle(b""), on_close)


@pytest.mark.parametrize("pieces", [events, spaced])
def test_pieces_come_as_the_reply_gives_them(clients, pieces):
    with clients.sync(FakeHandle(pieces)) as client, client.stream("POST", URL) as response:
        got = tuple(response.iter_raw())

    assert got == EVENTS


@pytest.mark.parametrize("pieces", [events, spaced])
async def test_pieces_come_as_the_reply_gives_them_to_async_clients(clients, pieces):
    async with (
        clients.asynchronous(FakeHandle(pieces)) as client,
        client.stream("POST", URL) as response,
    ):
        got = tuple([piece async for piece in response.aiter_raw()])

    assert got == EVENTS


def test_status_and_fields_pass_but_for_those_of_the_hop(clients):
    headers = Headers(
        [
            ("Content-Type", "application/json"),
            ("X-Request-Id", "r1"),
            ("Connection", "close, x-hop"),
            ("X-Hop", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "99"),
        ]
    )

    with clients.sync(FakeHandle(b"{}", status=429, headers=headers)) as client:
        response = client.post(URL)

    assert (response.status_code, response.content, response.headers.multi_items()) == (
        429,
        b"{}",
        [("content-type", "application/json"), ("x-request-id", "r1")],
    )


def test_the_request_reaches_the_bridge_whole(clients):
    handle = FakeHandle(b"{}", headers=JSON)
    sent = {"user-agent": "Anthropic/Python 2.11.0", "x-api-key": "k", "cookie": "a=b"}

    with clients.sync(handle, headers=sent) as client:
        client.post("http://user:secret@api.example/v1/messages?beta=true#x", content=b'{"a": 1}')

    (request,) = handle.requests
    assert (request.method, request.url, request.body) == ("POST", URL, b'{"a": 1}')
    assert request.headers["x-api-key"] == "k"
    assert "connection" not in request.headers
    assert request.caller == Caller("transport", client="Anthropic/Python")


def test_a_placeholder_key_goes_no_further(clients):
    handle = FakeHandle(b"{}")

    with clients.sync(handle, headers={"authorization": "Bearer llmbridge"}) as client:
        client.post(URL)

    assert "authorization" not in handle.requests[0].headers


def test_a_body_in_parts_is_read(clients):
    handle = FakeHandle(b"{}")

    with clients.sync(handle) as client:
        client.post(URL, content=iter([b"one", b"two"]))

    assert handle.requests[0].body == b"onetwo"


async def test_an_async_body_in_parts_is_read(clients):
    handle = FakeHandle(b"{}")

    async with clients.asynchronous(handle) as client:
        await client.post(URL, content=events())

    assert handle.requests[0].body == b"".join(EVENTS)


def test_a_client_that_leaves_ends_the_reply(clients):
    handle = FakeHandle(unfinished)

    with clients.sync(handle) as client, client.stream("POST", URL) as response:
        next(response.iter_raw())
        response.close()
        response.close()

    assert handle.end() == "client_gone"


async def test_an_async_client_that_leaves_ends_the_reply(clients):
    handle = FakeHandle(unfinished)

    async with clients.asynchronous(handle) as client, client.stream("POST", URL) as response:
        await anext(response.aiter_raw())
        await response.aclose()
        await response.aclose()

    assert handle.end() == "client_gone"


async def test_a_cancelled_client_ends_the_reply(clients):
    handle = FakeHandle(unfinished)

    async with clients.asynchronous(handle, timeout=None) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), client.stream("POST", URL) as response:
                await response.aread()

    assert handle.end() == "client_gone"


def test_a_reply_that_breaks_off_looks_cut(clients):
    got = []

    with (
        clients.sync(FakeHandle(broken)) as client,
        client.stream("POST", URL) as response,
        pytest.raises(clients.library.RemoteProtocolError, match="the provider hung up"),
    ):
        got.extend(response.iter_raw())

    assert got == [EVENTS[0]]


async def test_a_reply_that_breaks_off_looks_cut_to_async_clients(clients):
    got = []

    async def read(response):
        async for piece in response.aiter_raw():
            got.append(piece)  # noqa: PERF401  # what came before the cut counts

    async with (
        clients.asynchronous(FakeHandle(broken)) as client,
        client.stream("POST", URL) as response,
    ):
        with pytest.raises(clients.library.RemoteProtocolError, match="the provider hung up"):
            await read(response)

    assert got == [EVENTS[0]]


def test_silence_before_the_head_is_a_read_timeout(clients):
    handle = Unanswered()

    with (
        clients.sync(handle, timeout=0.01) as client,
        pytest.raises(clients.library.ReadTimeout),
    ):
        client.post(URL)

    assert handle.given_up.get(timeout=5)


async def test_silence_before_the_head_is_a_read_timeout_to_async_clients(clients):
    handle = Unanswered()

    async with clients.asynchronous(handle, timeout=0.01) as client:
        with pytest.raises(clients.library.ReadTimeout):
            await client.post(URL)

    assert not handle.given_up.empty()


def test_silence_in_the_body_is_a_read_timeout(clients):
    handle = FakeHandle(unfinished)

    with (
        clients.sync(handle, timeout=0.01) as client,
        pytest.raises(clients.library.ReadTimeout),
    ):
        client.post(URL)

    assert handle.end() == "client_gone"


async def test_silence_in_the_body_is_a_read_timeout_to_async_clients(clients):
    handle = FakeHandle(unfinished)

    async with clients.asynchronous(handle, timeout=0.01) as client:
        with pytest.raises(clients.library.ReadTimeout):
            await client.post(URL)

    assert handle.end() == "client_gone"


async def test_a_sync_client_works_inside_a_running_loop(clients):
    with clients.sync(FakeHandle(events)) as client:
        response = client.post(URL)

    assert response.content == b"".join(EVENTS)


@pytest.mark.skipif(
    os.name != "posix", reason="needs the signals of POSIX: run it on Linux or macOS"
)
def test_an_interrupt_gives_up_the_request(clients):
    handle = Unanswered()

    async def interrupted(request):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return await handle(request)

    with clients.sync(interrupted, timeout=None) as client, pytest.raises(KeyboardInterrupt):
        client.post(URL)

    assert handle.given_up.get(timeout=5)


def test_a_field_that_would_end_its_line_is_refused(clients):
    headers = Headers([("x-evil", "a\r\nset-cookie: b")])

    with (
        clients.sync(FakeHandle(b"{}", headers=headers)) as client,
        pytest.raises(clients.library.RemoteProtocolError, match="x-evil"),
    ):
        client.post(URL)


def test_a_closed_bridge_cuts_what_is_open(clients):
    with start_blocking_portal() as portal:
        client = Clients(clients.library, clients._module, portal).sync(FakeHandle(unfinished))
        with client.stream("POST", URL) as response:
            pieces = response.iter_raw()
            next(pieces)
            portal.call(portal.stop)

            with pytest.raises(clients.library.RemoteProtocolError, match="cannot be reached"):
                next(pieces)
        client.close()


async def test_closing_an_async_transport_lets_go_once(clients):
    closed = []

    async def on_close():
        closed.append(True)

    transport = clients.with_on_close(on_close)
    await transport.aclose()
    await transport.aclose()

    assert closed == [True]
