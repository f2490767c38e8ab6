import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio
import httpx2
import pytest

from llmbridge.bridge import Bridge
from llmbridge.errors import ConfigurationError, StreamTruncated
from llmbridge.exchange.call import Caller, Headers, Reply, Request
from llmbridge.exchange.record import Record
from llmbridge.upstreams.replay import Replay

CHAT = "https://api.openai.com/v1/chat/completions"
SSE = Headers((("content-type", "text/event-stream"),))
PIECES = (b'data: {"choices":[{"delta":{"content":"a"}', b"}]}\n\n", b"data: [DONE]\n\n")


def request(url: str = CHAT, **body: Any) -> Request:
    return Request("POST", url, Headers(), json.dumps({"model": "m", **body}).encode())


def record(asked: Request | None, *pieces: bytes, **more: Any) -> Record:
    chunks = tuple((0.1 * place, piece) for place, piece in enumerate(pieces or PIECES, 1))
    return Record("i", "openai", "openai.chat", asked, 200, SSE, chunks, **more)


async def asked(bridge: Bridge, request: Request) -> tuple[int, list[bytes]]:
    reply = await bridge.handle(request)
    return reply.status, [chunk async for chunk in reply]


def bridge(records: Sequence[Record], **options: Any) -> Bridge:
    return Bridge(Replay(records, **options), environ={})


async def test_a_recording_comes_back_in_its_own_pieces() -> None:
    assert await asked(bridge([record(request(n=1))]), request(n=1)) == (200, [*PIECES])


async def test_the_record_of_a_replay_is_marked() -> None:
    subject = bridge([record(request())])

    await asked(subject, request())

    assert (subject.records[0].replayed, subject.interceptions[0].replayed) == (True, True)


@pytest.mark.parametrize(
    "again",
    [
        request("http://localhost:9/v1/chat/completions", n=1),
        request("http://bridge/groq/openai/v1/chat/completions", n=1),
        request(n=1, user="somebody", metadata={"run": 7}, stream_options={"include_usage": True}),
        Request("POST", CHAT, Headers(), b' { "n":1, "model" : "m" } '),
    ],
    ids=["host", "provider", "volatile keys", "spelling"],
)
async def test_what_does_not_matter_does_not_matter(again: Request) -> None:
    status, _ = await asked(bridge([record(request(n=1))]), again)

    assert status == 200


@pytest.mark.parametrize(
    "other",
    [
        request(n=2),
        request(n=1, temperature=0.5),
        request(n=1, stream=True),
        request("https://api.openai.com/v1/responses", n=1),
    ],
    ids=["a value", "another key", "stream", "the operation"],
)
async def test_what_matters_is_a_miss(other: Request) -> None:
    status, body = await asked(bridge([record(request(n=1))]), other)

    assert (status, b"no recording answers POST" in body[0]) == (400, True)


async def test_the_same_request_is_answered_in_the_recorded_order() -> None:
    done = b"data: [DONE]\n\n"
    subject = bridge(
        [record(request(), b"data: 1\n\n", done), record(request(), b"data: 2\n\n", done)]
    )

    got = [(await asked(subject, request()))[1][0] for _ in range(2)]

    assert got == [b"data: 1\n\n", b"data: 2\n\n"]


async def test_a_strict_replay_refuses_what_was_played_already() -> None:
    subject = bridge([record(request())])
    await asked(subject, request())

    status, body = await asked(subject, request())

    assert (status, b"every recording of POST" in body[0]) == (400, True)


async def test_another_repeats_the_last_one() -> None:
    subject = bridge([record(request())], strict=False)
    await asked(subject, request())

    assert await asked(subject, request()) == (200, [*PIECES])


async def test_a_miss_tells_sdks_not_to_try_again() -> None:
    reply = await bridge([]).handle(request())

    assert reply.headers["x-should-retry"] == "false"


async def test_recordings_without_a_request_answer_their_dialect_in_order() -> None:
    subject = bridge([record(None, b"data: 1\n\n"), record(None, b"data: 2\n\n")])

    got = [(await asked(subject, request(n=n)))[1][0] for n in range(2)]

    assert got == [b"data: 1\n\n", b"data: 2\n\n"]


@pytest.mark.feature("replay", 5)
async def test_concurrent_requests_get_their_own_answers() -> None:
    subject = bridge([record(request(n=n), b"data: %d\n\n" % n) for n in range(20)])
    got: dict[int, bytes] = {}

    async def one(n: int) -> None:
        got[n] = (await asked(subject, request(n=n)))[1][0]

    async with anyio.create_task_group() as tasks:
        for n in range(20):
            tasks.start_soon(one, n)

    assert got == {n: b"data: %d\n\n" % n for n in range(20)}


async def test_a_recording_that_broke_off_breaks_off_again() -> None:
    cut = record(request(), PIECES[0], end="truncated", error="the connection broke")
    reply = await bridge([cut]).handle(request())
    got = [await anext(reply)]

    with pytest.raises(StreamTruncated, match="the connection broke"):
        await anext(reply)

    assert (got, reply.end) == ([PIECES[0]], "truncated")


@pytest.mark.feature("replay", 8)
async def test_pieces_come_at_the_recorded_times() -> None:
    """By deadlines from the request on: what is late already is not waited for."""
    clock, waits = [100.0], list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(round(seconds, 3))
        clock[0] += seconds + 0.01

    subject = bridge(
        [record(request(), head_s=0.05)], speed=1, monotonic=lambda: clock[0], sleep=sleep
    )
    await asked(subject, request())

    assert waits == [0.05, 0.04, 0.09, 0.09]


def test_a_negative_speed_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="speed=-1"):
        Replay([], speed=-1)


async def test_what_was_recorded_live_replays_from_memory() -> None:
    async def upstream(call: Any) -> Reply:
        async def pieces() -> Any:
            for piece in PIECES:
                yield piece

        return Reply(200, SSE, pieces())

    live = Bridge(upstream, environ={})
    await asked(live, request())

    assert await asked(bridge(live.records), request()) == (200, [*PIECES])


def many(count: int) -> Record:
    events = tuple((0.1, b"data: %05d\n\n" % n) for n in range(count))
    return Record("i", "openai", "openai.chat", request(), 200, SSE, events)


async def pieces_for(frontend: str, **options: Any) -> list[bytes]:
    asked = replace(request(), caller=Caller(frontend))
    reply = await Bridge(Replay([many(9000)], **options), environ={}).handle(asked)
    return [chunk async for chunk in reply]


@pytest.mark.feature("replay", 8)
async def test_for_a_socket_what_is_there_at_once_is_joined() -> None:
    joined = await pieces_for("server")

    assert (b"".join(joined), len(joined)) == (many(9000).body, 4)


async def test_at_a_pace_it_is_not() -> None:
    async def sleep(seconds: float) -> None:
        """Do not."""

    assert len(await pieces_for("server", speed=1, sleep=sleep)) == 9000


async def test_the_pace_counts_from_the_arrival_of_the_request() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    record = replace(many(2), head_s=1.0, chunks=((1.5, b"a"), (2.0, b"b")))
    replay = Replay([record], speed=1, sleep=sleep, monotonic=lambda: 100.0)
    reply = await Bridge(replay, environ={}).handle(replace(request(), arrived_s=99.25))
    _ = [chunk async for chunk in reply]

    assert waits == [0.25, 0.75, 1.25]


def test_a_replay_at_full_speed_needs_no_thread() -> None:
    before = set(threading.enumerate())
    bridge = Bridge(Replay([many(3)]), environ={})

    with httpx2.Client(transport=bridge.transport()) as client:
        answer = client.post("https://api.openai.com/v1/chat/completions", content=request().body)

    assert (answer.content, set(threading.enumerate()) - before) == (many(3).body, set())
