"""A recording asked through a client's transport, in process: no socket."""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import httpx
import httpx2
import vcr

from llmbridge import Bridge, Replay
from tests.bench.sessions import Exchange, chat_exchange, write_cassette
from tests.bench.table import Plan, Table

SIZES = (50, 200, 1000)
REQUESTS = 1000
DELTAS = 12
JSON = {"content-type": "application/json"}
MEASURES = {
    "requests/s of": "rate",
    "CPU us/request of": "cpu_us",
    "CPU ms to open": "opened_ms",
}


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run took: CPU ms to open, CPU us of each request, and how many requests a second."""

    opened_ms: float
    cpu_us: float
    rate: float


def inprocess(plan: Plan) -> Table:
    """Recordings asked one by one through a client's transport, of few and of many."""
    runs: dict[int, dict[str, list[Spent]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            exchanges = [chat_exchange(i, DELTAS) for i in range(size)]
            path = write_cassette(Path(folder) / f"{size}.yaml", exchanges)
            runs[size] = taken(plan, path, exchanges)
    figures = {
        name: {
            f"{measure} {size:,}": statistics.median(
                getattr(run, field) for run in runs[size][name]
            )
            for measure, field in MEASURES.items()
            for size in SIZES
        }
        for name in runs[SIZES[0]]
    }
    note = f"{DELTAS + 3} events each; flat when 50 recordings cost as much as 1,000; aims: that, and over 2,000 requests/s"
    return Table("Replay in process", figures, baseline="MockTransport", note=note)


def taken(plan: Plan, path: Path, exchanges: Sequence[Exchange]) -> dict[str, list[Spent]]:
    """Every way to replay one cassette, in turn."""
    asked = list(islice(cycle(exchanges), REQUESTS))
    # It looks through the whole cassette for each request.
    few = exchanges[:: len(exchanges) // 10]
    ways: dict[str, Callable[[], Spent]] = {
        "MockTransport": lambda: with_mock(asked),
        "MockTransport, async": lambda: asyncio.run(with_async_mock(asked)),
        "llmbridge": lambda: with_bridge(path, asked),
        "llmbridge, async": lambda: asyncio.run(with_async_bridge(path, asked)),
        "vcrpy": lambda: with_vcr(path, few),
    }
    runs: dict[str, list[Spent]] = {name: [] for name in ways}
    for _ in range(plan.rounds):
        for name, way in ways.items():
            runs[name].append(way())
    return runs


class Watch:
    """Started when a way begins to open its cassette, told when it begins to ask."""

    def __init__(self) -> None:
        self.opening = time.process_time()

    def opened(self) -> None:
        self.asking, self.began = time.process_time(), time.perf_counter()

    def spent(self, requests: int) -> Spent:
        wall, used = time.perf_counter() - self.began, time.process_time() - self.asking
        return Spent(1e3 * (self.asking - self.opening), 1e6 * used / requests, requests / wall)


def ask(client: httpx.Client | httpx2.Client, watch: Watch, asked: Sequence[Exchange]) -> Spent:
    watch.opened()
    for exchange in asked:
        with client.stream("POST", exchange.url, content=exchange.request, headers=JSON) as reply:
            check(exchange, reply.read())
    return watch.spent(len(asked))


async def ask_async(client: httpx2.AsyncClient, watch: Watch, asked: Sequence[Exchange]) -> Spent:
    watch.opened()
    for exchange in asked:
        text = exchange.request
        async with client.stream("POST", exchange.url, content=text, headers=JSON) as reply:
            check(exchange, await reply.aread())
    return watch.spent(len(asked))


def check(exchange: Exchange, body: bytes) -> None:
    if body != exchange.body:
        raise ValueError(f"the answer to {exchange.request} is not the recorded one")


def mock(exchanges: Sequence[Exchange]) -> httpx2.MockTransport:
    answers = {exchange.request.encode(): exchange for exchange in exchanges}

    def answer(request: httpx2.Request) -> httpx2.Response:
        exchange = answers[request.content]
        return httpx2.Response(
            200, headers={"content-type": exchange.content_type}, content=exchange.body
        )

    return httpx2.MockTransport(answer)


def replaying(path: Path) -> Bridge:
    return Bridge(Replay(path, speed=0, repeat="cycle"))


def with_mock(asked: Sequence[Exchange]) -> Spent:
    watch = Watch()
    with httpx2.Client(transport=mock(asked)) as client:
        return ask(client, watch, asked)


async def with_async_mock(asked: Sequence[Exchange]) -> Spent:
    watch = Watch()
    async with httpx2.AsyncClient(transport=mock(asked)) as client:
        return await ask_async(client, watch, asked)


def with_bridge(path: Path, asked: Sequence[Exchange]) -> Spent:
    watch = Watch()
    bridge = replaying(path)
    with contextlib.closing(bridge), httpx2.Client(transport=bridge.transport()) as client:
        return ask(client, watch, asked)


async def with_async_bridge(path: Path, asked: Sequence[Exchange]) -> Spent:
    watch = Watch()
    bridge = replaying(path)
    with contextlib.closing(bridge):
        async with httpx2.AsyncClient(transport=bridge.async_transport()) as client:
            return await ask_async(client, watch, asked)


def with_vcr(path: Path, asked: Sequence[Exchange]) -> Spent:
    watch = Watch()
    recorder = vcr.VCR(record_mode="none", match_on=["method", "uri", "body"])
    with recorder.use_cassette(str(path)), httpx.Client() as client:
        return ask(client, watch, asked)
