"""A provider that falls silent in the middle: its client hears pings, its record does not."""

import asyncio

import pytest

from llmbridge.frontends.asgi import ASGIApp, Limits
from tests.frontends.fakes import encode_error
from tests.frontends.test_asgi import Client
from tests.upstreams.asking import ANTHROPIC, OPENAI, Wire, bridge_to
from tests.upstreams.faulty import LAST, Peer, Provider, chunk, chunked_head


class Pausing:
    """Sends a part of a stream, and the rest when it may go on."""

    def __init__(self, body: bytes) -> None:
        self.go_on = asyncio.Event()
        border = body.index(b"\n\n", len(body) // 2) + 2
        self._parts = body[:border], body[border:]

    async def __call__(self, peer: Peer) -> None:
        await peer.send(chunked_head(), chunk(self._parts[0]))
        await self.go_on.wait()
        await peer.send(chunk(self._parts[1]), LAST)


@pytest.mark.parametrize(
    ("wire", "said"),
    [(ANTHROPIC, b'event: ping\ndata: {"type": "ping"}\n\n'), (OPENAI, b": ping\n\n")],
    ids=["anthropic", "openai"],
)
async def test_a_silence_is_broken_for_the_client_and_not_on_record(
    wire: Wire, said: bytes
) -> None:
    body = wire.fixture("text.sse")
    pausing, client = Pausing(body), Client(wire.request(), path=wire.path)

    async with Provider(pausing) as provider, bridge_to(provider.url) as bridge:
        app = ASGIApp(
            bridge.handle,
            encode_error,
            token=None,
            allowed_hosts=None,
            limits=Limits(ping_s=0.01),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(client.ask(app))
            while said not in client.bodies:
                client.arrived.clear()
                await client.arrived.wait()
            pausing.go_on.set()
        (record,) = bridge.records

    got = [piece for piece in client.bodies if piece != said]
    assert (b"".join(got), client.whole) == (body, True)
    assert (b"".join(piece for _, piece in record.chunks), record.end) == (body, "completed")
