import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields, replace
from typing import Any

import anyio
import httpx2
import pytest

from llmbridge.bridge import Bridge
from llmbridge.errors import Overloaded, StreamTruncated
from llmbridge.exchange.call import Call, Caller, Handler, Headers, Reply, Request, once
from llmbridge.exchange.faults import status
from llmbridge.exchange.record import Interception, Record
from llmbridge.stores.memory import MemoryStore
from llmbridge.upstreams.lines import repeat
from llmbridge.upstreams.script import Script

CHAT = "https://api.openai.com/v1/chat/completions"
MESSAGES = "https://api.anthropic.com/v1/messages"
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


def post(url: str = CHAT, body: bytes = BODY) -> Request:
    return Request("POST", url, Headers(), body, Caller("transport", actor="alice", client="sdk/1"))


async def taken(reply: Reply) -> bytes:
    return b"".join([chunk async for chunk in reply])


def bridge(upstream: Any = None, **options: Any) -> Bridge:
    return Bridge(upstream or Script(*["Hello"] * 9), environ={}, **options)


class Full(MemoryStore):
    async def begin(self, interception: Interception) -> None:
        raise OSError("disk full")


async def test_equal_requests_are_calls_of_their_own() -> None:
    subject = bridge(faults=[status(429, times=1)])

    for _ in range(3):
        await taken(await subject.handle(post()))

    kept = subject.interceptions
    assert len({each.id for each in kept}) == 3
    assert [(each.status, each.fault) for each in kept] == [
        (429, "status(429)"),
        (200, None),
        (200, None),
    ]


@pytest.mark.parametrize("name", [each.name for each in fields(Caller)])
async def test_of_two_callers_who_ask_the_same_each_is_known(name: str) -> None:
    others: dict[str, Any] = {"keyed": True, "metadata": {"team": "b"}}
    one = Caller("transport", "alice", "sdk/1", "s1", metadata={"team": "a"})
    callers = [one, replace(one, **{name: others.get(name, "another")}), one]
    seen: list[Caller] = []

    async def upstream(call: Call) -> Reply:
        seen.append(call.request.caller)
        return Reply(200, Headers(), once(b"{}"))

    subject = bridge(upstream)
    for caller in callers:
        await taken(await subject.handle(replace(post(), caller=caller)))

    assert [getattr(caller, name) for caller in seen] == [getattr(each, name) for each in callers]


async def test_who_asks_what_somebody_else_asked_is_told_apart() -> None:
    subject = bridge()

    for name in ("alice", "bob", "alice"):
        await taken(await subject.handle(replace(post(), caller=Caller("transport", name))))

    assert [each.actor for each in subject.interceptions] == ["alice", "bob", "alice"]


@pytest.mark.feature("aibridge", 11)
@pytest.mark.feature("gateway", 12, 13)
async def test_an_interception_tells_who_asked_what_and_how_it_ended() -> None:
    subject = bridge()

    await taken(await subject.handle(post()))

    (kept,) = subject.interceptions
    found = (kept.frontend, kept.actor, kept.client, kept.provider, kept.dialect, kept.model)
    assert found == ("transport", "alice", "sdk/1", "openai", "openai.chat", "m")
    assert (kept.status, kept.end, kept.error, kept.streaming) == (200, "completed", None, False)


async def test_a_record_holds_the_request_as_sent_and_the_answer_as_it_came() -> None:
    subject = bridge()

    body = await taken(await subject.handle(post()))

    (record,) = subject.records
    assert record.request is not None
    assert (record.request.body, record.body, record.message and record.message.text) == (
        BODY,
        body,
        "Hello",
    )


async def test_a_record_names_the_providers_address_and_not_the_bridges() -> None:
    subject = bridge()
    fields = Headers((("host", "127.0.0.1:8765"), ("accept", "*/*")))
    url = "http://127.0.0.1:8765/openai/v1/chat/completions?api-version=1"

    await taken(await subject.handle(Request("POST", url, fields, BODY, Caller("server"))))

    asked = subject.records[0].request
    assert asked is not None
    assert (asked.url, asked.headers.pairs, subject.interceptions[0].request.url) == (
        f"{CHAT}?api-version=1",
        (("accept", "*/*"),),
        url,
    )


async def test_a_key_in_the_address_is_taken_out_of_interception_and_record() -> None:
    subject = bridge()

    await taken(await subject.handle(post(f"{CHAT}?api_key=verysecret1")))

    kept = [subject.interceptions[0].request.url, subject.records[0].request.url]  # type: ignore[union-attr]  # there is one
    assert kept == [f"{CHAT}?api_key=<redacted:query>"] * 2


async def test_a_request_that_an_interceptor_changed_is_recorded_as_changed() -> None:
    async def change(call: Call, forward: Handler) -> Reply:
        return await forward(replace(call, request=replace(call.request, body=b'{"model":"n"}')))

    subject = bridge(interceptors=[change])

    await taken(await subject.handle(post()))

    asked = subject.records[0].request
    assert (asked and asked.body, subject.interceptions[0].request.body) == (b'{"model":"n"}', BODY)


@pytest.mark.feature("aibridge", 14)
@pytest.mark.feature("gateway", 32)
async def test_what_is_under_way_can_be_seen() -> None:
    subject = bridge()
    reply = await subject.handle(post())

    before = [interception.model for interception in subject.inflight]
    await taken(reply)

    assert (before, subject.inflight) == (["m"], ())


@pytest.mark.feature("aibridge", 4)
@pytest.mark.parametrize(
    ("url", "shape"),
    [
        (CHAT, {"message", "type", "param", "code"}),
        (MESSAGES, {"message", "type"}),
    ],
)
@pytest.mark.feature("gateway", 29)
async def test_bad_json_is_answered_in_the_clients_own_error_shape(
    url: str, shape: set[str]
) -> None:
    subject = bridge()

    reply = await subject.handle(post(url, b"{"))

    error = json.loads(await taken(reply))["error"]
    assert (reply.status, set(error), error["type"]) == (400, shape, "invalid_request_error")
    assert "not JSON" in error["message"]


@pytest.mark.feature("aibridge", 4)
@pytest.mark.feature("gateway", 38)
async def test_a_background_response_is_refused_for_good_and_on_record() -> None:
    script = Script("never said")
    subject = bridge(script)
    body = b'{"model":"m","input":"hi","background":true}'
    url = "http://localhost/openai/v1/responses"

    reply = await subject.handle(Request("POST", url, Headers(), body, Caller("server")))

    error = json.loads(await taken(reply))["error"]
    assert (reply.status, reply.headers.get("x-should-retry")) == (501, "false")
    assert error["message"].startswith('a background response ("background": true)')
    (kept,) = subject.interceptions
    assert (kept.status, kept.end, kept.error) == (501, "bridge_limit", error["message"])
    assert repr(script) == "Script(1 lines, 0 said)"


async def test_bad_json_is_recorded_as_it_came() -> None:
    subject = bridge()

    await taken(await subject.handle(post(body=b"{")))

    (kept,) = subject.interceptions
    assert (kept.request.body, kept.status, kept.error_type) == (b"{", 400, "invalid_request")


# The first read takes a client's model out of a body, and passes over the rest.
@pytest.mark.parametrize("routes", [{}, {"m": "openai/n"}], ids=["as asked", "renamed"])
@pytest.mark.parametrize(
    "value",
    [b"1e400", b"9" * 5000, b"[" * 90_000 + b"]" * 90_000],
    ids=["large", "long", "deep"],
)
async def test_a_value_that_cannot_be_is_refused_and_on_record(
    value: bytes, routes: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    subject = bridge(routes=routes)
    body = b'{"model":"m","messages":[],"x":%b}' % value

    reply = await subject.handle(post("http://localhost/v1/chat/completions", body))

    error = json.loads(await taken(reply))["error"]
    assert (reply.status, error["message"].partition(":")[0]) == (400, "the body is not JSON")
    assert [each.status for each in subject.interceptions] == [400]
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


@pytest.mark.feature("gateway", 12)
async def test_a_store_that_cannot_take_the_start_refuses_the_call() -> None:
    script = Script("never said")
    subject = bridge(script, store=Full())

    reply = await subject.handle(post())

    assert (reply.status, repr(script)) == (503, "Script(1 lines, 0 said)")


@pytest.mark.feature("aibridge", 8)
async def test_an_interceptor_sees_the_call_and_may_answer_it() -> None:
    async def answer(call: Call, forward: Handler) -> Reply:
        return Reply(200, Headers(), once(call.model.encode()))

    subject = bridge(interceptors=[answer])

    assert await taken(await subject.handle(post())) == b"m"


async def test_interceptors_wrap_in_the_order_given() -> None:
    seen: list[str] = []

    def noting(name: str) -> Any:
        async def note(call: Call, forward: Handler) -> Reply:
            seen.append(name)
            return await forward(call)

        return note

    await bridge(interceptors=[noting("outer"), noting("inner")]).handle(post())

    assert seen == ["outer", "inner"]


async def test_an_interceptor_that_fails_is_an_answer_and_a_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(call: Call, forward: Handler) -> Reply:
        raise KeyError("secret")

    subject = bridge(interceptors=[fail])

    reply = await subject.handle(post())
    body = await taken(reply)

    assert (reply.status, b"secret" in body, "KeyError" in caplog.text) == (500, False, True)


async def test_an_upstream_that_refuses_is_an_answer_of_its_status() -> None:
    async def refuse(call: Call) -> Reply:
        raise Overloaded("too many calls")

    reply = await bridge(refuse).handle(post(MESSAGES))

    assert (reply.status, json.loads(await taken(reply))["error"]["type"]) == (
        503,
        "overloaded_error",
    )


async def test_a_stream_cut_at_an_event_border_ends_with_the_dialects_error_event() -> None:
    event = b'event: ping\ndata: {"type":"ping"}\n\n'

    async def cut(call: Call) -> Reply:
        async def chunks() -> AsyncIterator[bytes]:
            yield event
            raise StreamTruncated("the line went dead")

        return Reply(200, Headers((("content-type", "text/event-stream"),)), chunks())

    subject = bridge(cut)

    body = await taken(await subject.handle(post(MESSAGES)))

    assert body == event + (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error",'
        b'"message":"the line went dead"}}\n\n'
    )
    assert (subject.records[0].body, subject.records[0].end) == (event, "truncated")
    assert (subject.interceptions[0].end, subject.interceptions[0].error) == (
        "truncated",
        "the line went dead",
    )


@pytest.mark.feature("gateway", 19, 31)
async def test_a_client_that_leaves_is_recorded_with_what_it_got() -> None:
    subject = bridge(Script("one two three"))
    request = post(body=BODY[:-1] + b',"stream":true}')
    reply = await subject.handle(request)
    first = await anext(reply)

    await reply.aclose("client_gone")

    assert (subject.interceptions[0].end, subject.records[0].end, subject.records[0].body) == (
        "client_gone",
        "client_gone",
        first,
    )


def test_secrets_never_reach_the_store() -> None:
    key = "sk-proj-0123456789abcdefghijABCDEFGHIJ"
    subject = Bridge(Script(f"your key is {key}"), environ={"OPENAI_API_KEY": key})

    with httpx2.Client(transport=subject.transport()) as client:
        answer = client.post(CHAT, content=BODY, headers={"authorization": f"Bearer {key}"})
    subject.close()

    kept = repr([(r.request and r.request.headers, r.headers, r.chunks) for r in subject.records])
    assert (key in answer.text, key in kept) == (True, False)


@pytest.mark.parametrize("end", ["client_gone", "bridge_shutdown"])
async def test_a_call_cancelled_before_its_head_is_recorded_with_the_reason(end: str) -> None:
    asked = anyio.Event()

    async def wait(call: Call) -> Reply:
        asked.set()
        await anyio.sleep_forever()
        raise AssertionError("never")

    subject = bridge(wait)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(subject.handle(post()))
        await asked.wait()
        task.cancel(end)

    assert [kept.end for kept in subject.interceptions] == [end]


async def test_what_was_injected_stands_in_the_interception() -> None:
    async def two_faults(call: Call, forward: Handler) -> Reply:
        call.faults.append("one")
        reply = await forward(call)
        call.faults.append("two")
        return reply

    subject = bridge(interceptors=[two_faults])

    await taken(await subject.handle(post()))

    assert subject.interceptions[0].fault == "one; two"


async def test_a_fault_is_told_though_the_client_leaves_before_the_head() -> None:
    async def leave(call: Call, forward: Handler) -> Reply:
        call.faults.append("slow")
        raise anyio.get_cancelled_exc_class()

    subject = bridge(interceptors=[leave])

    with pytest.raises(anyio.get_cancelled_exc_class()):
        await subject.handle(post())

    assert [(each.end, each.fault) for each in subject.interceptions] == [("client_gone", "slow")]


class Client:
    """A store of the user's own, such as a client of a service that keeps records."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def begin(self, interception: Interception) -> None:
        self.told.append(f"begin {interception.model}")

    def add(self, record: Record) -> None:
        self.told.append(f"add {record.status} {record.message and record.message.text}")

    def end(self, interception: Interception) -> None:
        self.told.append(f"end {interception.end}")

    def flush(self) -> None:
        self.told.append("flush")

    def close(self) -> None:
        self.told.append("close")

    def interceptions(self, **filters: object) -> list[Interception]:
        return []

    def records(self, **filters: object) -> list[Record]:
        return []

    def __iter__(self) -> Iterator[Record]:
        return iter(())


@pytest.mark.feature("aibridge", 12)
@pytest.mark.feature("gateway", 20)
def test_a_store_of_the_users_own_is_told_everything_in_order() -> None:
    client = Client()
    with Bridge(Script("Hello"), store=client, environ={}) as bridge:
        bridge.openai().responses.create(model="gpt-5-mini", input="hi")

    assert client.told == ["begin gpt-5-mini", "add 200 Hello", "end completed", "close"]


async def test_what_is_remembered_of_requests_with_large_heads_is_bounded() -> None:
    subject = bridge(Script(repeat("Hello")), store=Client())
    tracemalloc.start()

    try:
        for n in range(300):
            title = Headers({"x-title": f"{n}".zfill(100_000)})
            await taken(await subject.handle(replace(post(), headers=title)))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 20_000_000
