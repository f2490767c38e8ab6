"""What a replay has made ready for the first time answers in the same way every time."""

from typing import Any

import pytest

from llmbridge.bridge import Bridge
from llmbridge.exchange.call import Caller, Headers, Request
from llmbridge.exchange.record import Record
from llmbridge.upstreams.replay import Replay

MESSAGES = "https://api.anthropic.com/v1/messages"
SECRET = "correct-horse-battery"
FAILED = (
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
BEGUN = b'event: ping\ndata: {"type":"ping"}\n\n'


def record(*pieces: bytes, **more: Any) -> Record:
    chunks = tuple((0.1 * place, piece) for place, piece in enumerate(pieces, 1))
    kind = Headers({"content-type": "text/event-stream"})
    return Record("i", "anthropic", "anthropic.messages", asked(), 200, kind, chunks, **more)


def asked(frontend: str = "transport") -> Request:
    body = b'{"model":"m","stream":true,"messages":[]}'
    return Request("POST", MESSAGES, Headers(), body, Caller(frontend))


async def played(bridge: Bridge, frontend: str) -> tuple[list[bytes], str | None]:
    reply = await bridge.handle(asked(frontend))
    return [piece async for piece in reply], reply.end


@pytest.mark.parametrize("frontend", ["transport", "server"])
@pytest.mark.parametrize(
    ("pieces", "end"),
    [
        ((BEGUN, STOP), "completed"),
        ((BEGUN, FAILED), "upstream_error"),
        ((BEGUN, STOP[:9]), "truncated"),
        ((), "completed"),
    ],
    ids=["whole", "failed", "cut", "empty"],
)
async def test_a_recording_ends_as_it_did_however_often_it_is_played(
    pieces: tuple[bytes, ...], end: str, frontend: str
) -> None:
    bridge = Bridge(Replay([record(*pieces)], strict=False), environ={})

    plays = [await played(bridge, frontend) for _ in range(3)]

    assert [(b"".join(came), how) for came, how in plays] == [(b"".join(pieces), end)] * 3
    assert [(each.body, each.end) for each in bridge.records] == [(b"".join(pieces), end)] * 3


async def test_what_follows_the_last_event_is_never_played() -> None:
    bridge = Bridge(Replay([record(BEGUN, STOP + BEGUN)], strict=False), environ={})

    plays = [await played(bridge, "transport") for _ in range(3)]

    assert plays == [([BEGUN, STOP], "completed")] * 3


async def test_a_client_that_leaves_before_the_last_piece_has_left() -> None:
    bridge = Bridge(Replay([record(BEGUN, STOP)], strict=False), environ={})

    for _ in range(2):
        reply = await bridge.handle(asked())
        await anext(reply)
        await reply.aclose("client_gone")

    assert [each.end for each in bridge.interceptions] == ["client_gone", "client_gone"]


async def test_secrets_in_a_recording_are_kept_out_of_the_records_of_every_bridge_it_answers() -> (
    None
):
    said = b'event: ping\ndata: {"type":"ping","is":"%b"}\n\n' % SECRET.encode()
    replay = Replay([record(said, STOP)], strict=False)
    knowing = Bridge(replay, environ={"OPENAI_API_KEY": SECRET})
    ignorant = Bridge(replay, environ={})

    for bridge in (ignorant, knowing, ignorant, knowing):
        await played(bridge, "transport")

    assert [SECRET.encode() in each.body for each in knowing.records] == [False, False]
    assert [each.redacted for each in knowing.records] == [("secret",), ("secret",)]
    assert [SECRET.encode() in each.body for each in ignorant.records] == [True, True]
