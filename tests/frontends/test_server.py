import asyncio
import logging
import os
import queue
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.call import Reply, Request, once
from llmbridge.frontends import connection
from llmbridge.frontends.asgi import ASGIApp, Limits
from llmbridge.frontends.server import Server
from llmbridge.providers import PROVIDERS
from tests.frontends.fakes import (
    EVENTS,
    JSON,
    WAIT_S,
    FakeHandle,
    RawClient,
    Unanswered,
    broken,
    encode_error,
    events,
    unfinished,
)
from tests.frontends.test_admission import HOSTS
from tests.shared import needs_shared

TOKEN = "llmb_a-secret-of-this-test"
GOODBYE = b"event: error\n\n"


def app_of(handle: Any = None, token: str | None = None) -> ASGIApp:
    return ASGIApp(
        handle or FakeHandle(b"{}", headers=JSON), encode_error, token=token, allowed_hosts=None
    )


# Requests and replies over a socket


@pytest.mark.parametrize("library", [httpx2, httpx], ids=["httpx2", "httpx"])
def test_a_reply_passes_whole(serve, library):
    server = serve(FakeHandle(events))

    response = library.post(f"{server.url}/v1/messages", json={})

    assert (response.status_code, response.content) == (200, b"".join(EVENTS))


async def test_a_server_started_inside_a_running_loop_serves(serve):
    server = serve(FakeHandle(b"{}", headers=JSON))

    async with httpx2.AsyncClient() as client:
        response = await client.post(f"{server.url}/v1/messages", json={})

    assert response.content == b"{}"


@needs_shared
@pytest.mark.parametrize("vector", HOSTS, ids=lambda vector: vector["why"])
def test_only_known_hosts_and_pages_are_served(serve, vector):
    handle = FakeHandle(b"{}", headers=JSON)
    fields = [f"host: {vector['host']}"]
    fields += [f"origin: {vector['origin']}"] if vector["origin"] else []

    with RawClient(serve(handle).port) as client:
        client.ask("/unknown", *fields)
        status = client.until(b"\r\n").split()[1]

    refused = (status in (b"403", b"421"), len(handle.requests)) == (True, 0)
    assert vector["expect"] in ("either", "no" if refused else "ok")


def test_requests_share_a_connection_without_waiting_for_acknowledgements(serve):
    server = serve(FakeHandle(b"{}", headers=JSON))
    times = []

    with RawClient(server.port) as client:
        for _ in range(20):
            start = time.perf_counter()
            client.ask()
            client.until(b"{}")
            times.append(time.perf_counter() - start)

    # With Nagle's algorithm on, head and body are 40 ms apart; the system lets the first few through.
    assert min(times[10:]) < 0.03


def test_a_broken_reply_is_an_incomplete_read_for_httpx2(serve):
    server = serve(FakeHandle(broken))

    with pytest.raises(httpx2.RemoteProtocolError, match="incomplete"):
        httpx2.post(f"{server.url}/v1/messages", json={})


def test_a_broken_reply_is_an_incomplete_read_for_httpx(serve):
    server = serve(FakeHandle(broken))

    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        httpx.post(f"{server.url}/v1/messages", json={})


def test_a_broken_reply_lacks_its_last_chunk(serve, caplog):
    with RawClient(serve(FakeHandle(broken)).port) as client:
        client.ask()
        got = client.rest()

    assert got.endswith(b"\r\n\r\nb\r\n" + EVENTS[0] + b"\r\n")
    assert [(record.name, record.levelno) for record in caplog.records] == [
        ("llmbridge.server", logging.WARNING)
    ]


def test_an_upgrade_is_answered_as_plain_http(serve):
    with RawClient(serve(FakeHandle(b"{}", headers=JSON)).port) as client:
        client.ask("/v1/responses", "connection: upgrade", "upgrade: websocket")
        got = client.until(b"{}")

    assert got.startswith(b"HTTP/1.1 200")


def test_an_upgrade_to_a_websocket_is_refused_on_the_wire(serve):
    with RawClient(serve(FakeHandle(b"{}", headers=JSON)).port) as client:
        client.socket.sendall(
            b"GET /v1/responses HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        got = client.until(b"over HTTP")

    assert got.startswith(b"HTTP/1.1 426 ")


# Clients that leave, stall or send too much


@pytest.mark.parametrize("polite", [True, False], ids=["close", "reset"])
def test_a_client_that_leaves_mid_stream_stops_the_upstream(serve, polite):
    handle = FakeHandle(unfinished)

    with RawClient(serve(handle).port) as client:
        client.ask()
        client.until(EVENTS[0])
        if not polite:
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    left = time.monotonic()

    assert handle.end() == "client_gone"
    assert time.monotonic() - left < 0.5


def test_a_client_that_leaves_before_the_head_stops_the_upstream(serve):
    handle = Unanswered()

    with RawClient(serve(handle).port) as client:
        client.ask()
        handle.asked.get(timeout=WAIT_S)
    left = time.monotonic()

    assert handle.given_up.get(timeout=WAIT_S) == ("client_gone",)
    assert time.monotonic() - left < 0.5


def flood(steps: "queue.SimpleQueue[int]") -> Any:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            steps.put(65536)
            yield b"x" * 65536

    return pieces


def taken_until_it_stops(steps: "queue.SimpleQueue[int]") -> int:
    total = 0
    try:
        while True:
            total += steps.get(timeout=0.3)
    except queue.Empty:
        return total


def small_reader(port: int) -> RawClient:
    """A client whose system takes little on its behalf."""
    client = RawClient.__new__(RawClient)
    client.socket = socket.socket()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.socket.settimeout(WAIT_S)
    client.socket.connect(("127.0.0.1", port))
    return client


def test_a_reader_that_stops_stops_the_upstream(serve):
    steps: queue.SimpleQueue[int] = queue.SimpleQueue()
    handle = FakeHandle(flood(steps))

    with small_reader(serve(handle).port) as client:
        client.ask()
        held = taken_until_it_stops(steps)
        while steps.empty():
            client.socket.recv(65536)

    assert held < 8 * 1024 * 1024
    assert handle.end() == "client_gone"


def test_a_reader_that_takes_nothing_is_dropped(serve, portal, monkeypatch):
    monkeypatch.setattr(connection, "UNREAD_S", 0.1)
    handle = FakeHandle(flood(queue.SimpleQueue()))
    server = serve(handle, limits=Limits(stall_s=0.2))

    with small_reader(server.port) as client:
        client.ask()

        assert handle.end() == "client_gone"
        server.stop()
        client.rest()


async def echo(request: Request) -> Reply:
    return Reply(200, JSON, once(request.body))


def test_requests_sent_ahead_are_answered_in_order(serve):
    with RawClient(serve(echo).port) as client:
        for body in (b"[1]", b"[2]", b"[3]"):
            client.ask(body=body)
        got = client.until(b"[3]")

    assert [got.index(body) for body in (b"[1]", b"[2]", b"[3]")] == sorted(
        got.index(body) for body in (b"[1]", b"[2]", b"[3]")
    )
    assert got.count(b"HTTP/1.1 200 OK\r\ndate: ") == 3


def test_a_whole_reply_ends_a_connection_that_is_to_be_closed(serve):
    with RawClient(serve(echo).port) as client:
        client.ask("/v1/messages", "connection: close")
        got = client.rest()

    head, _, body = got.partition(b"\r\n\r\n")
    assert body == b"{}"
    assert {b"content-length: 2", b"connection: close"} < set(head.split(b"\r\n"))


def test_a_connection_that_is_not_used_is_closed(serve, monkeypatch):
    monkeypatch.setattr("llmbridge.frontends.server.KEEP_ALIVE_S", 0.3)

    with RawClient(serve(echo).port) as client:
        for _ in range(2):
            client.ask()
            client.until(b"{}")

        assert client.rest() == b""


def test_a_connection_on_which_a_request_comes_is_used(serve, monkeypatch):
    monkeypatch.setattr("llmbridge.frontends.server.KEEP_ALIVE_S", 0.3)

    with RawClient(serve(echo).port) as client:
        client.ask()
        client.until(b"{}")
        client.socket.sendall(b"POST /v1/messages HTTP/1.1\r\nhost: ")
        client.socket.settimeout(0.6)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        client.socket.settimeout(WAIT_S)
        client.socket.sendall(b"localhost\r\ncontent-length: 2\r\n\r\n{}")

        assert b"HTTP/1.1 200" in client.until(b"\r\n\r\n{}")


def test_a_large_head_is_refused(serve):
    with RawClient(serve(FakeHandle(b"{}")).port) as client:
        client.ask("/", "x-large: " + "x" * connection.HEAD_BYTES)
        got = client.rest()

    assert got.startswith(b"HTTP/1.1 431")


def test_many_fields_are_refused(serve):
    with RawClient(serve(FakeHandle(b"{}")).port) as client:
        client.ask("/", *(f"x-{number}: 1" for number in range(connection.HEAD_FIELDS)))
        got = client.rest()

    assert got.startswith(b"HTTP/1.1 431")


def test_a_head_without_end_is_refused(serve):
    with RawClient(serve(FakeHandle(b"{}")).port) as client:
        client.socket.sendall(b"GET / HTTP/1.1\r\nx-large: ")
        try:
            for _ in range(1000):
                client.socket.sendall(b"x" * 4096)
        except OSError:
            pass
        got = client.rest()

    assert got.startswith(b"HTTP/1.1 431") or got == b""


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nhost: "], ids=["nothing", "half"])
def test_a_head_that_does_not_come_ends_the_connection(serve, monkeypatch, sent):
    monkeypatch.setattr(connection, "HEAD_S", 0.05)

    with RawClient(serve(FakeHandle(b"{}")).port) as client:
        client.socket.sendall(sent)

        assert client.rest() == b""


def test_a_second_head_has_to_come_in_time_too(serve, monkeypatch):
    with RawClient(serve(FakeHandle(b"{}", headers=JSON)).port) as client:
        client.ask()
        client.until(b"{}")
        monkeypatch.setattr(connection, "HEAD_S", 0.05)
        client.socket.sendall(b"GET / HTTP/1.1\r\nhost: ")

        assert client.rest() == b""


def test_a_refused_upload_that_goes_on_is_ended(serve, monkeypatch):
    monkeypatch.setattr(connection, "UPLOAD_REST_S", 0.05)

    with RawClient(serve(FakeHandle(b"{}"), token=TOKEN).port) as client:
        client.socket.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{")
        got = client.rest()

    assert got.startswith(b"HTTP/1.1 401")


def test_a_refused_upload_that_ends_leaves_the_connection_open(serve):
    with RawClient(serve(FakeHandle(b"{}", headers=JSON), token=TOKEN).port) as client:
        client.socket.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{")
        client.until(b"wrong")
        client.socket.sendall(b"}")
        client.ask("/", f"x-api-key: {TOKEN}")

        assert b"HTTP/1.1 200" in client.until(b"\r\n\r\n{}")


# Where it listens, and who may know


def test_the_address_is_known_once_it_runs(serve):
    server = serve(FakeHandle(b"{}"))

    assert (server.url, server.port > 0) == (f"http://127.0.0.1:{server.port}", True)


def test_a_busy_port_is_one_clear_error(portal):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]

        with pytest.raises(ConfigurationError, match=rf"port {port}.*in use.*port=0"):
            Server(app_of(), portal, port=port).start()


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("192.0.2.1", 0, "cannot listen on '192.0.2.1'"),
        ("127.0.0.1", 70000, "port 70000 is none: give 1 to 65535, or 0 for a free one"),
    ],
)
def test_an_impossible_address_is_one_clear_error(portal, host, port, said):
    with pytest.raises(ConfigurationError, match=said):
        Server(app_of(token=TOKEN), portal, host=host, port=port, allow_remote=True).start()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.com"])
@pytest.mark.parametrize(("token", "allow_remote"), [(TOKEN, False), (None, True), (None, False)])
def test_beyond_loopback_takes_a_token_and_a_word(portal, host, token, allow_remote):
    with pytest.raises(ConfigurationError, match="allow_remote=True and a token"):
        Server(app_of(token=token), portal, host=host, allow_remote=allow_remote)


def test_beyond_loopback_a_token_that_can_be_guessed_is_refused(portal):
    with pytest.raises(
        ConfigurationError, match=r"the token has 3 characters.* give one of 16 or more"
    ):
        Server(app_of(token="abc"), portal, host="0.0.0.0", allow_remote=True)

    assert Server(app_of(token="abc"), portal).token == "abc"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2", "::1"])
def test_loopback_needs_neither(portal, host):
    assert Server(app_of(), portal, host=host).token is None


def test_every_address_is_reached_over_loopback(portal):
    app = app_of(token=TOKEN)

    with Server(app, portal, host="0.0.0.0", allow_remote=True) as server:
        response = httpx2.get(f"{server.url}/healthz")

    assert response.status_code == 200


@pytest.mark.skipif(
    not socket.has_ipv6, reason="needs IPv6 on the loopback: run it where ::1 is there"
)
def test_clients_that_came_before_it_started_are_served(portal):
    listener = socket.create_server(("127.0.0.1", 0))
    with (
        RawClient(listener.getsockname()[1]) as early,
        Server(app_of(), portal, port=listener) as server,
    ):
        early.ask("/v1/messages")

        assert early.until(b"{}").startswith(b"HTTP/1.1 200 ")
        assert server.port == early.socket.getpeername()[1]


def test_an_ipv6_address_is_written_in_brackets(portal):
    server = Server(app_of(), portal, host="::1", port=8765)

    assert server.url == "http://[::1]:8765"


def test_the_environment_leads_sdks_here(serve):
    server = serve(FakeHandle(b"{}"), token=TOKEN)

    assert server.env() == {
        "ANTHROPIC_BASE_URL": f"{server.url}/anthropic",
        "ANTHROPIC_API_KEY": TOKEN,
        "OPENAI_BASE_URL": f"{server.url}/openai/v1",
        "OPENAI_API_KEY": TOKEN,
        "GOOGLE_GEMINI_BASE_URL": f"{server.url}/google",
        "GEMINI_API_KEY": TOKEN,
        "OPENROUTER_BASE_URL": f"{server.url}/openrouter/api/v1",
        "OPENROUTER_API_KEY": TOKEN,
    }


def test_the_environment_of_other_providers_is_made_alike(serve):
    server = serve(FakeHandle(b"{}"))
    groq = [row for row in PROVIDERS if row.name == "groq"]

    assert server.env(groq) == {
        "GROQ_BASE_URL": f"{server.url}/groq/openai/v1",
        "GROQ_API_KEY": "llmbridge",
    }


def test_the_token_is_not_shown(serve):
    server = serve(FakeHandle(b"{}"), token=TOKEN)

    assert (server.token, TOKEN in repr(server)) == (TOKEN, False)


# Start and stop


def test_the_same_port_is_taken_over_from_a_server_of_this_process(portal):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    first = Server(app_of(FakeHandle(b"1")), portal, port=port).start()
    with Server(app_of(FakeHandle(b"2")), portal, port=port) as second:
        response = httpx2.post(f"{second.url}/v1/messages")

    assert (response.content, "stopped" in repr(first)) == (b"2", True)


def test_starting_and_stopping_twice_is_fine(portal):
    server = Server(app_of(), portal)

    assert server.start() is server.start()
    server.stop()
    server.stop()


def test_a_stopped_server_starts_again(portal):
    server = Server(app_of(), portal)

    answers = []
    for _ in range(2):
        with server:
            answers.append(httpx2.post(f"{server.url}/v1/messages").status_code)

    assert answers == [200, 200]


def test_stop_says_goodbye_on_open_streams(serve):
    handle = FakeHandle(unfinished, farewell=lambda error: GOODBYE)
    server = serve(handle)

    with RawClient(server.port) as client:
        client.ask()
        client.until(EVENTS[0])
        server.stop()
        got = client.rest()

    assert got == b"e\r\n" + GOODBYE + b"\r\n0\r\n\r\n"
    assert handle.end() == "bridge_shutdown"


def test_stop_inside_an_event_leaves_the_stream_unfinished(serve, caplog):
    handle = FakeHandle(unfinished)
    server = serve(handle)

    with RawClient(server.port) as client:
        client.ask()
        client.until(EVENTS[0])
        server.stop()

        assert client.rest() == b""
    assert (handle.end(), caplog.records) == ("bridge_shutdown", [])


def test_stop_drops_clients_that_do_not_read(serve, monkeypatch):
    monkeypatch.setattr("llmbridge.frontends.server.STOP_S", 0.1)
    handle = FakeHandle(flood(queue.SimpleQueue()))
    server = serve(handle)

    with small_reader(server.port) as client:
        client.ask()
        client.until(b"xxxx")
        server.stop()

    assert handle.end() == "bridge_shutdown"


def test_stop_after_the_portal_has_gone_is_fine():
    with start_blocking_portal() as portal:
        server = Server(app_of(), portal).start()
        portal.call(portal.stop, True)

    server.stop()

    assert "stopped" in repr(server)


def test_a_portal_that_stops_takes_its_servers_along():
    with start_blocking_portal() as portal:
        server = Server(app_of(), portal).start()

    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S)


def test_stopping_from_the_loop_that_serves_is_refused(serve, portal):
    server = serve(FakeHandle(b"{}"))

    with pytest.raises(RuntimeError, match="wait for itself"):
        portal.call(server.stop)


def test_an_interrupt_stops_the_server(portal):
    server = Server(app_of(), portal)

    with pytest.raises(KeyboardInterrupt), server:
        raise KeyboardInterrupt

    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S)


def test_stopping_an_idle_server_is_quick(portal):
    times = []
    for _ in range(9):
        server = Server(app_of(), portal).start()
        with httpx2.Client() as client:
            client.post(f"{server.url}/v1/messages")
            start = time.perf_counter()
            server.stop()
            times.append(time.perf_counter() - start)

    assert statistics.median(times) < 0.05


def left_over(portal: BlockingPortal) -> Counter[str]:
    """Threads, tasks and open files; those of earlier tests may end at any time."""
    tasks = portal.call(lambda: len(asyncio.all_tasks()))
    files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    return Counter(threads=threading.active_count(), tasks=tasks, files=files)


def test_two_hundred_servers_leave_nothing_behind(portal):
    handle = FakeHandle(unfinished)
    app = app_of(handle)
    before = left_over(portal)

    for number in range(200):
        with Server(app, portal) as server, RawClient(server.port) as client:
            client.ask()
            if number % 2:
                client.until(EVENTS[0])

    assert left_over(portal) - before == Counter()


def test_loops_of_their_own_leave_nothing_behind_either(portal):
    before = left_over(portal)

    for _ in range(20):
        with start_blocking_portal() as own, Server(app_of(), own) as server:
            socket.create_connection(("127.0.0.1", server.port)).close()

    assert left_over(portal) - before == Counter()
