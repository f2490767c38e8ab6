"""A recording asked through a client's transport, in process: no socket."""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
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
    "CPU us/request, the first time, of": "first_us",
    "CPU ms to open": "opened_ms",
}


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run took: CPU ms to open, CPU us of each request when it is made for the first time and then, and how many of these a second."""

    opened_ms: float
    first_us: float
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
    note = f"{DELTAS + 3} events each; flat when 50 recordings cost as much as 1,000, vcrpy asked once; aims: that, and over 2,000 requests/s"
    return Table("Replay in process", figures, baseline="MockTransport", note=note)


def taken(plan: Plan, path: Path, exchanges: Sequence[Exchange]) -> dict[str, list[Spent]]:
    """Every way to replay one cassette, in turn."""
    # It looks through the whole cassette for each request.
    few = exchanges[:: len(exchanges) // 10]
    ways: dict[str, Callable[[], Spent]] = {
        "MockTransport": lambda: with_mock(exchanges),
        "MockTransport, async": lambda: asyncio.run(with_async_mock(exchanges)),
        "llmbridge": lambda: with_bridge(path, exchanges),
        "llmbridge, async": lambda: asyncio.run(with_async_bridge(path, exchanges)),
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
        self.marks = [(time.process_time(), time.perf_counter())]

    def mark(self) -> None:
        self.marks.append((time.process_time(), time.perf_counter()))

    def spent(self, first: int, again: int) -> Spent:
        """Given how many requests were made for the first time, and how many after them."""
        used, wall = (
            [later - earlier for earlier, later in pairwise(times)]
            for times in zip(*self.marks, strict=True)
        )
        first_us = 1e6 * used[1] / first
        if not again:
            return Spent(1e3 * used[0], first_us, first_us, first / wall[1])
        # What is asked a second time is made ready for more.
        return Spent(1e3 * used[0], first_us, 1e6 * used[3] / again, again / wall[3])


def ask(
    client: httpx.Client | httpx2.Client,
    watch: Watch,
    exchanges: Sequence[Exchange],
    again: int = REQUESTS,
) -> Spent:
    watch.mark()
    for asked in (exchanges, exchanges if again else (), islice(cycle(exchanges), again)):
        for exchange in asked:
            text = exchange.request
            with client.stream("POST", exchange.url, content=text, headers=JSON) as reply:
                check(exchange, reply.read())
        watch.mark()
    return watch.spent(len(exchanges), again)


async def ask_async(
    client: httpx2.AsyncClient, watch: Watch, exchanges: Sequence[Exchange]
) -> Spent:
    watch.mark()
    for asked in (exchanges, exchanges, islice(cycle(exchanges), REQUESTS)):
        for exchange in asked:
            text = exchange.request
            async with client.stream("POST", exchange.url, content=text, headers=JSON) as reply:
                check(exchange, await reply.aread())
        watch.mark()
    return watch.spent(len(exchanges), REQUESTS)


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
        return ask(client, watch, asked, again=0)
