"""A call that has ended is gone when nobody holds it: a cycle would stay, with all its bytes, until the collector comes."""

import gc
from collections.abc import AsyncIterator, Iterator

import pytest

from llmbridge.bridge import Bridge
from llmbridge.exchange.call import Call, Caller, Handler, Headers, Reply, Request
from llmbridge.exchange.record import Record
from llmbridge.upstreams.replay import Replay
from llmbridge.upstreams.script import Script

MESSAGES = "https://api.anthropic.com/v1/messages"
SSE = Headers({"content-type": "text/event-stream"})
EVENTS = (
    b'event: ping\ndata: {"type":"ping"}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)


def asked(stream: bool = True) -> Request:
    body = b'{"model":"m","stream":%b,"messages":[]}' % (b"true" if stream else b"false")
    return Request("POST", MESSAGES, Headers(), body, Caller("server"))


async def provider(call: Call) -> Reply:
    async def events() -> AsyncIterator[bytes]:
        for event in EVENTS:
            yield event

    return Reply(200, SSE, events())


def recorded() -> Record:
    chunks = tuple((0.0, event) for event in EVENTS)
    return Record("i", "anthropic", "anthropic.messages", asked(), 200, SSE, chunks)


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """What only the collector can free, from here on until it is asked."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize(
    "upstream",
    [
        provider,
        Replay([recorded()], strict=False),
        Replay([recorded()], strict=False, speed=1),
        Script(*["Hello"] * 9),
    ],
    ids=["live", "replay", "paced replay", "script"],
)
async def test_a_call_that_has_ended_leaves_nothing_to_the_collector(
    upstream: Handler, garbage: list[object]
) -> None:
    bridge = Bridge(upstream, environ={})

    for _ in range(3):
        async for _ in await bridge.handle(asked()):
            pass

    gc.collect()
    assert [each for each in garbage if isinstance(each, Reply | Call)] == []


@pytest.mark.parametrize(
    ("upstream", "body"),
    [
        (Replay([recorded()]), b'{"model":"other"}'),
        (Replay([recorded()]), b"no JSON"),
        (Script(), b'{"model":"m","messages":[]}'),
    ],
    ids=["miss", "no JSON", "no line left"],
)
async def test_a_call_that_was_refused_leaves_nothing_to_the_collector(
    upstream: Handler, body: bytes, garbage: list[object]
) -> None:
    bridge = Bridge(upstream, environ={})
    request = Request("POST", MESSAGES, Headers(), body, Caller("server"))

    for _ in range(3):
        reply = await bridge.handle(request)
        assert reply.error is not None
        async for _ in reply:
            pass
    del reply

    gc.collect()
    assert [each for each in garbage if isinstance(each, Reply | Call | Request)] == []
