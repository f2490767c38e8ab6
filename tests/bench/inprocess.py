"""A recording asked through a client's transport, in process: no socket."""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import httpx2
import vcr

from llmbridge import Bridge, Replay
from tests.bench.sessions import Exchange, chat_exchange, write_cassette
from tests.bench.table import Plan, Table

RECORDINGS = 1000
DELTAS = 12
JSON = {"content-type": "application/json"}


def inprocess(plan: Plan) -> Table:
    """A thousand recordings asked one by one through a client's transport: no socket."""
    exchanges = [chat_exchange(i, DELTAS) for i in range(RECORDINGS)]
    with tempfile.TemporaryDirectory() as folder:
        path = write_cassette(Path(folder) / "session.yaml", exchanges)
        seen: dict[str, list[tuple[float, float]]]
        seen = {"MockTransport": [], "llmbridge": [], "llmbridge, async": [], "vcrpy": []}
        for _ in range(plan.rounds):
            seen["MockTransport"].append(with_mock(exchanges))
            seen["llmbridge"].append(with_bridge(path, exchanges))
            seen["llmbridge, async"].append(asyncio.run(with_async_bridge(path, exchanges)))
            # It looks through the whole cassette for each request.
            seen["vcrpy"].append(with_vcr(path, exchanges[::100]))
    figures = {
        name: {
            "CPU us/request": statistics.median(request for _, request in runs),
            "CPU ms to open": statistics.median(opened for opened, _ in runs),
        }
        for name, runs in seen.items()
    }
    note = f"{RECORDINGS:,} recordings, {DELTAS + 3} events each"
    return Table("Replay in process", figures, baseline="MockTransport", note=note)


def through(
    client: httpx.Client | httpx2.Client, opened: float, exchanges: Sequence[Exchange]
) -> tuple[float, float]:
    """CPU ms spent since `opened` before the first request, and CPU us of each request."""
    began = time.process_time()
    for exchange in exchanges:
        with client.stream("POST", exchange.url, content=exchange.request, headers=JSON) as reply:
            check(exchange, reply.read())
    used = time.process_time() - began
    return 1e3 * (began - opened), 1e6 * used / len(exchanges)


def check(exchange: Exchange, body: bytes) -> None:
    if body != exchange.body:
        raise ValueError(f"the answer to {exchange.request} is not the recorded one")


def with_mock(exchanges: Sequence[Exchange]) -> tuple[float, float]:
    opened = time.process_time()
    answers = {exchange.request.encode(): exchange for exchange in exchanges}

    def answer(request: httpx2.Request) -> httpx2.Response:
        exchange = answers[request.content]
        return httpx2.Response(
            200, headers={"content-type": exchange.content_type}, content=exchange.body
        )

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as client:
        return through(client, opened, exchanges)


def with_bridge(path: Path, exchanges: Sequence[Exchange]) -> tuple[float, float]:
    opened = time.process_time()
    bridge = Bridge(Replay(path, speed=0))
    with contextlib.closing(bridge), httpx2.Client(transport=bridge.transport()) as client:
        return through(client, opened, exchanges)


async def with_async_bridge(path: Path, exchanges: Sequence[Exchange]) -> tuple[float, float]:
    opened = time.process_time()
    bridge = Bridge(Replay(path, speed=0))
    with contextlib.closing(bridge):
        async with httpx2.AsyncClient(transport=bridge.async_transport()) as client:
            began = time.process_time()
            for exchange in exchanges:
                text = exchange.request
                async with client.stream("POST", exchange.url, content=text, headers=JSON) as reply:
                    check(exchange, await reply.aread())
            used = time.process_time() - began
    return 1e3 * (began - opened), 1e6 * used / len(exchanges)


def with_vcr(path: Path, exchanges: Sequence[Exchange]) -> tuple[float, float]:
    opened = time.process_time()
    recorder = vcr.VCR(record_mode="none", match_on=["method", "uri", "body"])
    with recorder.use_cassette(str(path)), httpx.Client() as client:
        return through(client, opened, exchanges)
