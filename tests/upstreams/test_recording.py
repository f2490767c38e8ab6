"""Recorded over sockets from a provider that streams, and replayed over sockets: what the client hears each time."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import anyio
import httpx2
import pytest

from llmbridge import Bridge, Cassette, Live, Replay
from llmbridge.exchange.call import Call, Handler, Reply
from llmbridge.wire.sse import SSEDecoder
from tests.cli import planted
from tests.upstreams.asking import KEYS, OPENAI, WIRES, Heard, Wire, client_of, ends, hear
from tests.upstreams.faulty import LAST, Behaviour, Peer, Provider, chunk, chunked_head, says

Frontend = Callable[[Bridge], AbstractAsyncContextManager[httpx2.AsyncClient]]

both = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.provider)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.yaml"


def recording(path: Path, provider: Provider) -> Bridge:
    return Bridge(
        Replay(path, mode="once", upstream=Live()),
        base_urls={"anthropic": provider.url, "openai": provider.url},
        environ=KEYS,
    )


def replaying(path: Path) -> Bridge:
    return Bridge(Replay(path), environ={})


@asynccontextmanager
async def client_over_http(bridge: Bridge) -> AsyncGenerator[httpx2.AsyncClient]:
    with bridge.serve(token=None) as server:
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
            yield client


frontends = pytest.mark.parametrize(
    "client", [client_of, client_over_http], ids=["in process", "over HTTP"]
)


def events(wire: Wire) -> list[bytes]:
    """The events of a whole answer, with text beyond ASCII."""
    return [event + b"\n\n" for event in wire.fixture("unicode.sse").split(b"\n\n")[:-1]]


def counted(body: bytes) -> int:
    return len(list(SSEDecoder().feed(body)))


# The first piece does not wait, and all of it comes again


def waits_after_the_first(pieces: list[bytes], go_on: asyncio.Event) -> Behaviour:
    async def behave(peer: Peer) -> None:
        await peer.send(chunked_head(), chunk(pieces[0]))
        await go_on.wait()
        await peer.send(*map(chunk, pieces[1:]), LAST)

    return behave


async def heard_in_two(
    client: httpx2.AsyncClient, wire: Wire, go_on: asyncio.Event
) -> tuple[bytes, bytes]:
    """What came while the provider held the rest back, and what came then."""
    async with client.stream("POST", wire.path, content=wire.request()) as response:
        pieces = response.aiter_raw()
        first = await anext(pieces)
        assert not go_on.is_set()
        go_on.set()
        return first, b"".join([piece async for piece in pieces])


@pytest.mark.feature("replay", 1)
@both
@frontends
@pytest.mark.feature("gateway", 5, 37)
async def test_what_is_recorded_comes_at_once_and_again_byte_for_byte(
    wire: Wire, client: Frontend, path: Path
) -> None:
    pieces, live, recorded = events(wire), asyncio.Event(), asyncio.Event()
    answers = [waits_after_the_first(pieces, go_on) for go_on in (live, recorded)]
    async with Provider(*answers) as provider:
        async with httpx2.AsyncClient(base_url=provider.url, trust_env=False) as direct:
            expected = await heard_in_two(direct, wire, live)
        with recording(path, provider) as bridge:
            async with client(bridge) as asking:
                assert await heard_in_two(asking, wire, recorded) == expected

    with replaying(path) as bridge:
        async with client(bridge) as asking:
            again = await hear(asking, wire)

    (kept,) = Cassette.load(path)
    assert expected == (pieces[0], b"".join(pieces[1:]))
    assert (again.body, counted(again.body)) == (b"".join(expected), len(pieces))
    assert (kept.chunks[0][1], kept.body) == (pieces[0], again.body)
    assert (kept.timed, kept.end) == (True, "completed")


# An upstream that drops


def drops(*pieces: bytes) -> Behaviour:
    return says(chunked_head(), *map(chunk, pieces))


@pytest.mark.feature("replay", 4)
@both
@frontends
@pytest.mark.parametrize("half", [b"", b'data: {"half'], ids=["between events", "inside one"])
async def test_an_upstream_that_drops_after_three_events_replays_as_it_was(
    wire: Wire, client: Frontend, half: bytes, path: Path
) -> None:
    """As who asks the provider directly hears it: what the bridge says of a break is no part of the recording."""
    sent = b"".join(events(wire)[:3]) + half
    async with Provider(drops(sent)) as provider:
        async with httpx2.AsyncClient(base_url=provider.url, trust_env=False) as asking:
            direct = await hear(asking, wire)
        with recording(path, provider) as bridge:
            async with client(bridge) as asking:
                live = await hear(asking, wire)

    with replaying(path) as bridge:
        async with client(bridge) as asking:
            again = await hear(asking, wire)
        assert ends(bridge) == [(200, "truncated")]

    assert again == direct == Heard(200, sent, "RemoteProtocolError")
    assert counted(again.body) == 3
    assert live.body.startswith(sent)


def resets_after(piece: bytes, heard: asyncio.Event) -> Behaviour:
    async def behave(peer: Peer) -> None:
        await peer.send(chunked_head(), chunk(piece))
        await heard.wait()
        peer.reset()

    return behave


@pytest.mark.feature("replay", 4)
@both
@frontends
async def test_an_upstream_that_resets_the_connection_replays_as_far_as_it_was_heard(
    wire: Wire, client: Frontend, path: Path
) -> None:
    sent, heard = b"".join(events(wire)[:3]), asyncio.Event()
    async with Provider(resets_after(sent, heard)) as provider:
        with recording(path, provider) as bridge:
            async with client(bridge) as asking:
                with suppress(httpx2.TransportError):
                    await heard_in_two(asking, wire, heard)
            assert ends(bridge) == [(200, "truncated")]

    with replaying(path) as bridge:
        async with client(bridge) as asking:
            again = await hear(asking, wire)
        assert ends(bridge) == [(200, "truncated")]

    assert again == Heard(200, sent, "RemoteProtocolError")


# Side by side


ANSWER = b'data: {"choices":[{"delta":{"content":"Answer %d"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


async def answers_by_number(peer: Peer, goes: list[asyncio.Event]) -> None:
    """The number of the question at once, the end when that is told to go."""
    question = json.loads(peer.asked.body)["messages"][0]["content"]
    n = int(question.rpartition(" ")[2])
    await peer.send(chunked_head(), chunk(ANSWER % n))
    await goes[n].wait()
    await peer.send(chunk(DONE), LAST)


async def five_at_once(
    client: httpx2.AsyncClient, goes: list[asyncio.Event] | None = None
) -> dict[int, bytes]:
    """The answers to five questions; with `goes` all begin before one ends, and the last one asked ends first."""
    heard: dict[int, bytes] = {}
    begun = 0

    async def ask(n: int) -> None:
        nonlocal begun
        body = OPENAI.request().replace(b"Hello?", b"Question %d" % n)
        async with client.stream("POST", OPENAI.path, content=body) as response:
            pieces = response.aiter_raw()
            heard[n] = await anext(pieces)
            begun += 1
            if goes and begun == 5:
                goes[4].set()
            heard[n] += b"".join([piece async for piece in pieces])
        if goes and n:
            goes[n - 1].set()

    async with anyio.create_task_group() as tasks:
        for n in range(5):
            tasks.start_soon(ask, n)
    return heard


@pytest.mark.feature("replay", 5)
@frontends
async def test_five_that_were_recorded_at_once_are_answered_each_with_its_own(
    client: Frontend, path: Path
) -> None:
    goes = [asyncio.Event() for _ in range(5)]
    async with Provider(lambda peer: answers_by_number(peer, goes)) as provider:
        with recording(path, provider) as bridge:
            async with client(bridge) as asking:
                live = await five_at_once(asking, goes)

    with replaying(path) as bridge:
        async with client(bridge) as asking:
            again = await five_at_once(asking)

    assert live == {n: ANSWER % n + DONE for n in range(5)}
    assert again == live
    assert len(Cassette.load(path)) == 5


# No secret in any file


SECRETS = {**planted.SECRETS, "variable": "kiosk-parrot-77-umbrella"}


def stored(store: str, folder: Path, environ: dict[str, str], upstream: Handler) -> Bridge:
    """A bridge that records into a file of this name."""
    if store.startswith("sqlite"):
        return Bridge(upstream, store=f"sqlite:///{folder}/usage.db", environ=environ)
    return Bridge(Replay(folder / store, mode="once", upstream=upstream), environ=environ)


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.feature("replay", 6)
@pytest.mark.parametrize("size", [1, 7, 10**6])
@pytest.mark.parametrize("store", ["session.yaml", "session.json", "sqlite"])
async def test_no_planted_secret_is_in_any_file_however_it_was_cut(
    store: str, size: int, tmp_path: Path
) -> None:
    record = planted.recording()
    assert record.request is not None
    body = planted.said(f"({SECRETS['variable']})") + record.body

    async def upstream(call: Call) -> Reply:
        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(body), size):
                yield body[start : start + size]

        return Reply(200, record.headers, pieces())

    environ = {**planted.VARIABLE, "MY_TOKEN": SECRETS["variable"]}
    with stored(store, tmp_path, environ, upstream) as bridge:
        heard = b"".join([piece async for piece in await bridge.handle(record.request)])
        bridge.flush()
        read = repr(bridge.records).encode()

    written = read + everything_in(tmp_path)
    assert heard == body
    assert b"<redacted:" in written
    assert [place for place, secret in SECRETS.items() if secret.encode() in written] == []
