import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from llmbridge.errors import StreamTruncated
from llmbridge.exchange.call import Caller, Headers, Reply, once
from llmbridge.frontends.asgi import ARRIVED_S, BODY, ASGIApp, Limits
from llmbridge.frontends.people import People, Person
from llmbridge.frontends.relay import QUEUE_BYTES, StreamCut
from tests.frontends.fakes import (
    EVENTS,
    JSON,
    FakeHandle,
    Stillborn,
    Unanswered,
    broken,
    encode_error,
    events,
    spaced,
    unfinished,
)

TOKEN = "llmb_secret"


def app_of(handle: Any = None, **options: Any) -> ASGIApp:
    known: dict[str, Any] = {"token": None, "allowed_hosts": {"localhost"}}
    return ASGIApp(handle or FakeHandle(b"{}", headers=JSON), encode_error, **known | options)


class Client:
    """What an ASGI server does for one request, with every step in the test's hands."""

    def __init__(self, body: bytes = b"{}", **scope: Any) -> None:
        fields = {"host": "localhost", "content-length": str(len(body))}
        fields |= scope.pop("fields", {})
        path = scope.pop("path", "/v1/messages")
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in fields.items()],
            **scope,
        }
        self.sent: list[Any] = []
        self.arrived = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self.left = asyncio.Event()
        self._uploads = [{"type": "http.request", "body": body}]

    async def receive(self) -> Any:
        if self._uploads:
            return self._uploads.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reading.wait()
        self.sent.append(message)
        self.arrived.set()

    def uploads(self, *messages: Any) -> "Client":
        self._uploads = list(messages)
        return self

    async def ask(self, app: ASGIApp) -> "Client":
        await app(self.scope, self.receive, self.send)
        return self

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def fields(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent[1:]]

    @property
    def whole(self) -> bool:
        return not self.sent[-1].get("more_body", False)

    @property
    def error(self) -> Any:
        return json.loads(b"".join(self.bodies))["message"]


# What the bridge is asked


async def test_the_request_reaches_the_bridge_whole():
    handle = FakeHandle(b"{}")
    fields = {"host": "LocalHost:8765", "user-agent": "codex_cli_rs/0.30 (x)", "session_id": "s1"}
    client = Client(b'{"a": 1}', path="/v1/a%20b", query_string=b"beta=true", fields=fields)

    await client.ask(app_of(handle))

    (request,) = handle.requests
    assert (request.method, request.url) == ("POST", "http://LocalHost:8765/v1/a%20b?beta=true")
    assert request.body == b'{"a": 1}'
    assert request.caller == Caller("server", None, "Codex", "s1")


@pytest.mark.feature("gateway", 18)
async def test_the_session_of_claude_code_is_told_by_its_body():
    handle = FakeHandle(b"{}")
    body = b'{"metadata":{"user_id":"user_1_account__session_s1"}}'

    await Client(body, fields={"user-agent": "claude-cli/2.0 (x)"}).ask(app_of(handle))

    assert handle.requests[0].caller == Caller("server", None, "Claude Code", "s1")


async def test_a_body_in_parts_is_joined():
    handle = FakeHandle(b"{}")
    parts = (
        {"type": "http.request", "body": b"one", "more_body": True},
        {"type": "http.request", "more_body": True},
        {"type": "http.request", "body": b"two"},
    )

    await Client().uploads(*parts).ask(app_of(handle))

    assert handle.requests[0].body == b"onetwo"


async def test_a_body_that_came_with_the_head_is_not_asked_for():
    handle = FakeHandle(b"{}")
    came: dict[str, Any] = {BODY: b'{"a": 1}', ARRIVED_S: 7.5}
    client = Client(**came).uploads()

    await client.ask(app_of(handle))

    (request,) = handle.requests
    assert (request.body, request.arrived_s, client.status) == (b'{"a": 1}', 7.5, 200)


async def test_requests_with_the_same_head_are_requests_of_their_own():
    handle = FakeHandle(b"{}")
    app = app_of(handle, token=TOKEN)
    heads = ({"x-api-key": TOKEN}, {"x-api-key": "wrong"}, {"x-api-key": TOKEN})

    clients = [await Client(b"%d" % n, fields=head).ask(app) for n, head in enumerate(heads)]

    assert [client.status for client in clients] == [200, 401, 200]
    assert [request.body for request in handle.requests] == [b"0", b"2"]


async def test_the_same_head_is_another_request_at_another_address():
    handle = FakeHandle(b"{}")
    app = app_of(handle)
    scopes: list[dict[str, Any]] = [
        {"path": "/v1/messages"},
        {"path": "/v1/messages", "query_string": b"beta=true"},
        {"path": "/v1/messages", "scheme": "https"},
        {"path": "/llm/v1/messages", "root_path": "/llm"},
        {"path": "/v1/responses"},
    ]

    for scope in scopes * 2:
        await Client(**scope).ask(app)

    asked = [
        "http://localhost/v1/messages",
        "http://localhost/v1/messages?beta=true",
        "https://localhost/v1/messages",
        "http://localhost/v1/messages",
        "http://localhost/v1/responses",
    ]
    assert [request.url for request in handle.requests] == asked * 2


@pytest.mark.feature("aibridge", 1)
@pytest.mark.parametrize("name", ["x-llmbridge-actor", "x-ai-bridge-actor-id"])
@pytest.mark.feature("gateway", 11)
async def test_the_actor_is_taken_from_the_head_and_goes_no_further(name):
    handle = FakeHandle(b"{}")
    fields = {name: "alice", "x-ai-bridge-actor-metadata-team": "red"}

    await Client(fields=fields).ask(app_of(handle))

    (request,) = handle.requests
    assert (request.caller.actor, request.caller.metadata) == ("alice", {"team": "red"})
    assert sorted(request.headers) == ["content-length", "host"]


@pytest.mark.feature("gateway", 11)
@pytest.mark.feature("aibridge", 1)
async def test_a_persons_token_names_the_actor_whatever_the_head_claims():
    handle = FakeHandle(b"{}")
    alice = Person("alice", "llmb_alices-own-token", metadata={"team": "red"})
    fields = {
        "x-api-key": "llmb_alices-own-token",
        "x-llmbridge-actor": "bob",
        "x-ai-bridge-actor-metadata-team": "blue",
    }

    await Client(fields=fields).ask(app_of(handle, people=People([alice])))

    (request,) = handle.requests
    assert (request.caller.actor, request.caller.metadata) == ("alice", {"team": "red"})
    assert sorted(request.headers) == ["content-length", "host"]


async def test_an_unknown_token_is_refused_where_people_have_theirs():
    client = Client(fields={"x-api-key": "llmb_somebody-elses-token"})
    alice = Person("alice", "llmb_alices-own-token")

    await client.ask(app_of(people=People([alice])))

    assert client.sent[0]["status"] == 401


@pytest.mark.parametrize(("acts", "status"), [(False, 403), (True, 200)])
async def test_counts_of_everybody_are_for_tokens_that_act_for_others(acts, status):
    person = Person("alice", "llmb_alices-own-token", acts_for_others=acts)
    client = Client(method="GET", path="/metrics", fields={"x-api-key": "llmb_alices-own-token"})

    await client.ask(app_of(people=People([person]), metrics=lambda: b"x 1"))

    assert client.sent[0]["status"] == status


async def test_the_token_and_what_is_for_this_hop_goes_no_further():
    handle = FakeHandle(b"{}")
    fields = {
        "authorization": f"Bearer {TOKEN}",
        "x-api-key": "sk-mine",
        "cookie": "session=1",
        "connection": "keep-alive, X-Hop",
        "x-hop": "1",
        "te": "trailers",
        "anthropic-version": "2023-06-01",
    }

    await Client(fields=fields).ask(app_of(handle, token=TOKEN))

    assert dict(handle.requests[0].headers) == {
        "host": "localhost",
        "content-length": "2",
        "x-api-key": "sk-mine",
        "anthropic-version": "2023-06-01",
    }


@pytest.mark.parametrize(
    "scope",
    [
        {"path": "/llm/v1/messages", "root_path": "/llm"},
        {"path": "/v1/messages", "root_path": "/llm"},
        {"path": "/llm/v1/messages", "root_path": "/llm/"},
        {"path": "/v1/messages", "raw_path": b"/v1/messages?a=b"},
        {"path": "/v1/messages", "raw_path": None},
    ],
    ids=["mounted", "older mount", "slash", "query in path", "no raw path"],
)
async def test_the_prefix_of_a_mount_is_not_part_of_the_path(scope):
    handle = FakeHandle(b"{}")

    await Client(**scope).ask(app_of(handle))

    assert handle.requests[0].path == "/v1/messages"


async def test_a_request_without_a_host_still_has_a_url():
    handle = FakeHandle(b"{}")

    await Client(fields={"host": ""}).ask(app_of(handle, allowed_hosts=None))

    assert handle.requests[0].url == "http://localhost/v1/messages"


# Who is refused


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"host": "evil.example", "origin": "https://evil.example"}, 403),
        ({"host": "evil.example", "x-api-key": TOKEN}, 403),
        ({"origin": "https://evil.example", "x-api-key": TOKEN}, 403),
        ({}, 401),
        ({"x-api-key": TOKEN, "content-encoding": "gzip"}, 415),
        ({"x-api-key": TOKEN, "content-length": "101"}, 413),
    ],
)
async def test_a_refusal_comes_before_the_bridge_is_asked(fields, status):
    handle = FakeHandle(b"{}")
    app = app_of(handle, token=TOKEN, limits=Limits(body_bytes=100))

    client = await Client(fields=fields).ask(app)

    assert (client.status, client.whole, handle.requests) == (status, True, [])


async def test_a_refusal_says_why_in_the_words_of_the_client():
    client = await Client(fields={"host": "evil.example"}).ask(app_of())

    assert client.error.startswith("this host is not served here: 'evil.example'")


@pytest.mark.feature("bitop", 20)
async def test_health_needs_no_token_but_the_right_host():
    app = app_of(token=TOKEN)

    well = await Client(method="GET", path="/healthz").ask(app)
    stranger = await Client(method="GET", path="/healthz", fields={"host": "evil"}).ask(app)

    assert (well.status, well.bodies, stranger.status) == (200, [b'{"status":"ok"}'], 403)


async def test_a_body_that_grows_too_large_is_refused():
    part = {"type": "http.request", "body": b"x" * 60, "more_body": True}

    client = await Client().uploads(part, part).ask(app_of(limits=Limits(body_bytes=100)))

    assert (client.status, client.error) == (413, "the request is larger than 100 bytes")


async def test_a_body_that_does_not_come_is_refused():
    client = await Client().uploads().ask(app_of(limits=Limits(body_s=0.01)))

    assert client.status == 408


async def test_a_client_that_leaves_while_it_sends_is_forgotten():
    handle = FakeHandle(b"{}")

    client = await Client().uploads({"type": "http.disconnect"}).ask(app_of(handle))

    assert (client.sent, handle.requests) == ([], [])


async def test_one_call_too_many_is_asked_to_come_back():
    handle = Unanswered()
    app = app_of(handle, limits=Limits(in_flight=1))

    async with asyncio.TaskGroup() as group:
        first = Client()
        group.create_task(first.ask(app))
        await asyncio.sleep(0)
        second = await Client().ask(app)
        first.left.set()

    assert (second.status, second.fields["retry-after"]) == (503, "1")
    assert (await Client().ask(app_of())).status == 200


# What the client gets


async def test_a_whole_reply_has_its_length():
    headers = Headers([("content-type", "application/json"), ("content-length", "99")])

    client = await Client().ask(app_of(FakeHandle(b'{"a": 1}', headers=headers)))

    assert client.fields == {"content-type": "application/json", "content-length": "8"}
    assert client.bodies == [b'{"a": 1}']


async def test_a_reply_that_is_still_coming_has_none():
    headers = Headers([("content-type", "application/json"), ("content-length", "99")])

    client = await Client().ask(app_of(FakeHandle(spaced, headers=headers)))

    assert client.fields == {"content-type": "application/json"}
    assert b"".join(client.bodies) == b"".join(EVENTS)


async def test_pieces_that_are_ready_together_leave_together():
    client = await Client().ask(app_of(FakeHandle(events)))

    assert client.bodies == [b"".join(EVENTS)]


async def test_pieces_that_come_apart_leave_apart():
    async def apart() -> AsyncIterator[bytes]:
        for event in EVENTS:
            yield event
            client.arrived.clear()
            await client.arrived.wait()

    client = Client()
    await client.ask(app_of(FakeHandle(apart)))

    assert client.bodies == [*EVENTS, b""]


async def test_an_error_of_the_bridge_is_a_reply_like_any_other():
    client = await Client().ask(app_of(FakeHandle(b'{"error":{}}', status=429, headers=JSON)))

    assert (client.status, client.bodies) == (429, [b'{"error":{}}'])


async def test_fields_for_the_providers_own_origin_are_kept_back():
    headers = Headers(
        [
            ("Request-Id", "r1"),
            ("Set-Cookie", "a=b"),
            ("Access-Control-Allow-Origin", "*"),
            ("Strict-Transport-Security", "max-age=1"),
            ("Alt-Svc", "h3"),
            ("Keep-Alive", "timeout=5"),
            ("Connection", "X-Hop"),
            ("X-Hop", "1"),
        ]
    )

    client = await Client().ask(app_of(FakeHandle(b"{}", headers=headers)))

    assert client.fields == {"request-id": "r1", "content-length": "2"}


@pytest.mark.parametrize(
    "field",
    [
        ("x-a", "1\r\nset-cookie: b"),
        ("x-a", "1\n2"),
        ("x-a", "1\x002"),
        ("x\r\na", "1"),
        ("x-a", "☃"),
    ],
)
async def test_a_field_that_cannot_be_sent_is_a_bad_gateway(field):
    handle = FakeHandle(b"{}", headers=Headers([field]))

    client = await Client().ask(app_of(handle))

    assert (client.status, client.whole, handle.end()) == (502, True, "completed")


@pytest.mark.parametrize("status", [204, 304])
async def test_a_reply_without_a_body_has_no_length(status):
    client = await Client().ask(app_of(FakeHandle(b"", status=status, headers=Headers())))

    assert client.fields == {}


@pytest.mark.feature("gateway", 27)
async def test_a_reply_that_fails_before_its_first_byte_is_a_real_error():
    client = await Client().ask(app_of(FakeHandle(Stillborn)))

    assert (client.status, client.error) == (502, "the provider hung up")


async def test_a_reply_that_breaks_off_never_looks_whole(caplog):
    client = Client()

    with pytest.raises(StreamCut):
        await client.ask(app_of(FakeHandle(broken)))

    assert (client.bodies, client.whole) == ([EVENTS[0]], False)
    assert caplog.record_tuples == [
        (
            "llmbridge.server",
            logging.WARNING,
            "POST /v1/messages: the reply broke off: the provider hung up",
        )
    ]


async def test_pieces_that_came_with_the_failure_are_passed_on():
    async def at_once() -> AsyncIterator[bytes]:
        yield EVENTS[0]
        raise StreamTruncated("the provider hung up")

    client = Client()

    with pytest.raises(StreamCut):
        await client.ask(app_of(FakeHandle(at_once)))

    assert (client.bodies, client.whole) == ([EVENTS[0]], False)


async def test_a_bug_in_the_bridge_is_logged_and_answered(caplog):
    async def handle(request: Any) -> Reply:
        raise ZeroDivisionError

    client = await Client().ask(app_of(handle))

    assert (client.status, client.error) == (500, "the bridge failed; its log says why")
    assert caplog.messages == ["POST /v1/messages failed"]


# Clients that leave, and clients that do not read


async def test_a_client_that_leaves_before_the_head_ends_the_call():
    handle, client = Unanswered(), Client()
    client.left.set()

    await client.ask(app_of(handle))

    assert (client.sent, handle.given_up.get_nowait()) == ([], ("client_gone",))


@pytest.mark.feature("gateway", 31)
async def test_a_client_that_leaves_mid_stream_ends_the_reply():
    handle, client = FakeHandle(unfinished), Client()

    async with asyncio.TaskGroup() as group:
        group.create_task(client.ask(app_of(handle)))
        await client.arrived.wait()
        client.left.set()

    assert (handle.end(), client.whole) == ("client_gone", False)


async def test_a_client_that_cannot_be_written_to_has_left():
    handle, client = FakeHandle(unfinished), Client()

    async def send(message: Any) -> None:
        raise BrokenPipeError

    await app_of(handle)(client.scope, client.receive, send)

    assert handle.end() == "client_gone"


async def test_a_cancelled_application_ends_the_reply():
    handle, client = FakeHandle(unfinished), Client()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await client.ask(app_of(handle))

    assert handle.end() == "client_gone"


async def test_a_reader_that_stops_stops_the_upstream():
    taken = 0
    idle = asyncio.Event()

    async def flood() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            asyncio.get_running_loop().call_later(0.05, idle.set)
            yield b"x" * 65536

    handle, client = FakeHandle(flood), Client()
    client.reading.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(client.ask(app_of(handle)))
        await idle.wait()
        client.left.set()
        client.reading.set()

    assert taken * 65536 <= 2 * QUEUE_BYTES
    assert handle.end() == "client_gone"


async def test_a_flood_passes_whole_when_it_is_read():
    async def flood() -> AsyncIterator[bytes]:
        for number in range(100):
            yield bytes([number]) * 65536

    client = await Client().ask(app_of(FakeHandle(flood)))

    assert b"".join(client.bodies) == b"".join(bytes([number]) * 65536 for number in range(100))


async def test_a_reader_that_takes_nothing_is_cut_off(caplog):
    handle, client = FakeHandle(unfinished), Client()
    client.reading.clear()

    with pytest.raises(StreamCut):
        await client.ask(app_of(handle, limits=Limits(stall_s=0.05)))

    assert handle.end() == "client_gone"
    assert caplog.messages == ["POST /v1/messages: the client stopped reading"]


PING = b": ping\n\n"


async def held_inside_an_event() -> AsyncIterator[bytes]:
    for piece in (EVENTS[0], b"d", b"ata: two\n"):
        yield piece
    await asyncio.Event().wait()


async def held_before_its_first_event() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b"never"


async def pinged(client: Client, handle: FakeHandle, times: int) -> None:
    """Ask, and leave after so many pings."""
    async with asyncio.TaskGroup() as group:
        group.create_task(client.ask(app_of(handle, limits=Limits(ping_s=0.01))))
        while client.bodies.count(PING) < times:
            client.arrived.clear()
            await client.arrived.wait()
        client.left.set()


@pytest.mark.parametrize(
    ("pieces", "before"),
    [(unfinished, [EVENTS[0]]), (held_before_its_first_event, [])],
    ids=["between events", "before the first"],
)
@pytest.mark.feature("gateway", 28)
async def test_a_silent_stream_is_kept_alive_between_its_events(pieces, before):
    handle, client = FakeHandle(pieces, ping=lambda: PING), Client()

    await pinged(client, handle, 2)

    assert (client.bodies, handle.end()) == ([*before, PING, PING], "client_gone")


@pytest.mark.parametrize(
    "silent",
    [
        FakeHandle(held_inside_an_event, ping=lambda: PING),
        FakeHandle(unfinished, ping=lambda: PING, headers=JSON),
        FakeHandle(unfinished),
    ],
    ids=["inside an event", "no stream", "nothing to say"],
)
async def test_nothing_else_is_kept_alive(silent):
    client, clock = Client(), Client()

    async with asyncio.TaskGroup() as group:
        group.create_task(client.ask(app_of(silent, limits=Limits(ping_s=0.01))))
        # As many pings as another stream gets that begins a little later.
        await client.arrived.wait()
        await pinged(clock, FakeHandle(unfinished, ping=lambda: PING), 4)
        client.left.set()

    assert PING not in b"".join(client.bodies)


async def test_a_ping_leaves_the_stream_as_it_would_have_been():
    go_on = asyncio.Event()

    async def paused() -> AsyncIterator[bytes]:
        yield EVENTS[0]
        await go_on.wait()
        yield EVENTS[-1]

    handle, client = FakeHandle(paused, ping=lambda: PING), Client()

    async with asyncio.TaskGroup() as group:
        group.create_task(client.ask(app_of(handle, limits=Limits(ping_s=0.01))))
        while PING not in client.bodies:
            client.arrived.clear()
            await client.arrived.wait()
        go_on.set()

    said = [body for body in client.bodies if body not in (PING, b"")]
    assert (said, client.whole, handle.end()) == ([EVENTS[0], EVENTS[-1]], True, "completed")


async def test_a_reply_that_does_not_close_is_left_behind(caplog, monkeypatch):
    monkeypatch.setattr("llmbridge.frontends.relay.CLOSE_LIMIT_S", 0.01)

    async def stubborn() -> AsyncIterator[bytes]:
        try:
            yield EVENTS[0]
            yield EVENTS[1]
        finally:
            await asyncio.Event().wait()

    handle, client = FakeHandle(lambda: slow_start(stubborn())), Client()
    client.left.set()

    await client.ask(app_of(handle))

    assert handle.end() == "client_gone"


async def slow_start(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece
        await asyncio.Event().wait()


# The end of the bridge


@pytest.mark.feature("aibridge", 14)
@pytest.mark.feature("gateway", 32)
async def test_shutdown_says_goodbye_on_open_streams():
    handle = FakeHandle(unfinished, farewell=lambda error: b"event: error\n\n")
    app, client = app_of(handle), Client()

    async with asyncio.TaskGroup() as group:
        group.create_task(client.ask(app))
        await client.arrived.wait()
        await app.shutdown()

    assert (client.bodies, client.whole) == ([EVENTS[0], b"event: error\n\n"], True)
    assert handle.end() == "bridge_shutdown"


async def test_shutdown_inside_an_event_cuts_the_stream(caplog):
    handle = FakeHandle(unfinished)
    app, client = app_of(handle), Client()

    async def ask() -> None:
        with pytest.raises(StreamCut):
            await client.ask(app)

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        await client.arrived.wait()
        await app.shutdown()

    assert (client.bodies, client.whole) == ([EVENTS[0]], False)
    assert handle.end() == "bridge_shutdown"


async def test_shutdown_before_the_head_is_an_error():
    handle = Unanswered()
    app, client = app_of(handle), Client()

    async with asyncio.TaskGroup() as group:
        group.create_task(client.ask(app))
        await handle.waiting.wait()
        await app.shutdown()

    assert (client.status, client.error) == (503, "the bridge is shutting down")
    assert handle.given_up.get_nowait() == ("bridge_shutdown",)


async def test_shutdown_does_not_wait_for_uploads():
    app, client = app_of(), Client().uploads()

    async with asyncio.TaskGroup() as group:
        group.create_task(client.ask(app))
        await asyncio.sleep(0)
        await app.shutdown()

    assert client.status == 503


@pytest.mark.feature("gateway", 32)
async def test_calls_that_come_during_shutdown_are_refused():
    handle = FakeHandle(unfinished, farewell=lambda error: b"event: error\n\n")
    app, client = app_of(handle), Client()
    late = Client()

    async with asyncio.TaskGroup() as group:
        group.create_task(client.ask(app))
        await client.arrived.wait()
        group.create_task(app.shutdown())
        await asyncio.sleep(0)
        await late.ask(app)

    assert late.status == 503


async def test_shutdown_is_bounded():
    async def deaf(request: Any) -> Reply:
        while not client.left.is_set():
            try:
                await client.left.wait()
            except asyncio.CancelledError:
                continue
        return Reply(200, JSON, once(b"{}"))

    app, client = app_of(deaf, limits=Limits(shutdown_s=0.01)), Client()

    async with asyncio.TaskGroup() as group:
        group.create_task(client.ask(app))
        await asyncio.sleep(0)
        await app.shutdown()
        client.left.set()

    assert client.status == 503


# Other scopes


async def test_lifespan_is_answered():
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app_of()({"type": "lifespan"}, receive, send)

    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_websockets_are_closed():
    client = Client().uploads({"type": "websocket.connect"})

    await app_of()({"type": "websocket"}, client.receive, client.send)

    assert [message["type"] for message in client.sent] == ["websocket.close"]


async def test_a_websocket_is_told_to_come_by_http_where_the_server_can_say_so():
    client = Client().uploads({"type": "websocket.connect"})
    scope = {"type": "websocket", "extensions": {"websocket.http.response": {}}}

    await app_of()(scope, client.receive, client.send)

    assert (client.status, client.bodies) == (
        426,
        [b"WebSockets are not served here: send the request with POST over HTTP"],
    )


async def test_an_upgrade_to_a_websocket_is_refused_so_that_the_client_falls_back():
    handle, fields = FakeHandle(b"{}"), {"connection": "Upgrade", "upgrade": "WebSocket"}

    client = await Client(b"", method="GET", path="/v1/responses", fields=fields).ask(
        app_of(handle)
    )

    assert (client.status, client.fields["upgrade"], handle.requests) == (426, "HTTP/1.1", [])
    assert client.error == "WebSockets are not served here: send the request with POST over HTTP"


def test_the_token_is_not_shown():
    assert TOKEN not in repr(app_of(token=TOKEN))
