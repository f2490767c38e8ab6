"""Stores under load: many clients of which some leave, and writers that are killed; what is on record in the end.

Short runs are tests, long ones benchmarks.
"""

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import monotonic, sleep

import aiohttp
import anyio

from llmbridge import Bridge
from llmbridge.exchange.call import Call, Headers, Reply, Request
from llmbridge.exchange.record import Interception, Record, Store
from llmbridge.stores.opening import existing_store, open_store
from tests.bench.sessions import anthropic_events

EVENTS = tuple(anthropic_events(8))
SSE = Headers((("content-type", "text/event-stream"),))
LEAVERS = 20
"""One client of so many leaves."""


@dataclass(frozen=True, slots=True)
class Soaked:
    """What was asked, and what is on record of it."""

    requests: int
    left: int
    seconds: float
    ends: Counter[str]
    lost: int
    twice: int
    answers: int
    """Records that have all events of their stream, or for those who left a part."""


def soak(store: Store | str, requests: int, parallel: int = 64) -> Soaked:
    """Ask a bridge's server that often, so many at a time; one client of twenty leaves in the middle."""
    with Bridge(_provider, store=store) as bridge, bridge.serve(token=None) as server:
        began = monotonic()
        left = anyio.run(_ask, server.url, requests, parallel)
        while bridge.inflight:
            # Who left last is noticed in a moment.
            sleep(0.001)
        bridge.flush()
        seconds = monotonic() - began
        names = Counter(_name(each.request) for each in bridge.interceptions)
        ends = Counter(str(each.end) for each in bridge.interceptions)
        answers = sum(1 for record in bridge.store if _is_right(record))
    wanted = {str(number) for number in range(requests)}
    return Soaked(
        requests,
        left,
        seconds,
        ends,
        lost=len(wanted - set(names)),
        twice=names.total() - len(names),
        answers=answers,
    )


async def _provider(call: Call) -> Reply:
    return Reply(200, SSE, _stream(_leaves(call.request)))


async def _stream(leaves: bool) -> AsyncIterator[bytes]:
    yield b"".join(EVENTS[:5])
    if leaves:
        await anyio.sleep_forever()
    yield b"".join(EVENTS[5:])


async def _ask(url: str, requests: int, parallel: int) -> int:
    numbers, left = iter(range(requests)), 0
    connector = aiohttp.TCPConnector(limit=parallel)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def client() -> None:
            nonlocal left
            for number in numbers:
                body = {"model": "m", "max_tokens": 9, "messages": [], "stream": True}
                body["metadata"] = {"user_id": str(number)}
                async with session.post(f"{url}/v1/messages", json=body) as response:
                    assert response.status == 200, await response.text()
                    if number % LEAVERS:
                        assert await response.content.read() == b"".join(EVENTS)
                    else:
                        await response.content.readany()
                        response.close()
                        left += 1

        async with anyio.create_task_group() as group:
            for _ in range(parallel):
                group.start_soon(client)
    return left


def _name(request: Request) -> str:
    return str(json.loads(request.body)["metadata"]["user_id"])


def _leaves(request: Request) -> bool:
    return int(_name(request)) % LEAVERS == 0


def _is_right(record: Record) -> bool:
    assert record.request is not None
    whole = EVENTS[:5] if _leaves(record.request) else EVENTS
    return record.body == b"".join(whole)


@dataclass(frozen=True, slots=True)
class Killed:
    """What was acknowledged before the kills, and what is on record after them."""

    kills: int
    acknowledged: int
    lost: int
    unfinished: int
    """Interceptions that were under way when their process died, and are `interrupted`."""
    wrong: int
    """Rows that are neither whole nor interrupted, or that belong to who is still at work and are not under way."""


def kill(url: str, kills: int, seed: int = 0) -> Killed:
    """Kill a process that writes, at a moment of chance, that often; another one is at work all the time."""
    chance, acknowledged = random.Random(seed), set[str]()
    processes = get_context("forkserver")
    # What each of them needs is loaded once.
    processes.set_forkserver_preload([__name__, "llmbridge.stores.sql", "psycopg"])
    at_work = open_store(url)
    anyio.run(at_work.begin, _interception("at work"))
    for number in range(kills):
        here, there = processes.Pipe(duplex=False)
        process = processes.Process(target=_write, args=(url, number, there), daemon=True)
        process.start()
        there.close()
        acknowledged.add(here.recv())
        until = monotonic() + chance.random() / 8
        while here.poll(max(0.0, until - monotonic())):
            acknowledged.add(here.recv())
        assert process.pid is not None
        process.kill()
        acknowledged.update(_rest(here))
        process.join()
        assert process.exitcode == -signal.SIGKILL, process.exitcode
        here.close()
    found = _seen(url, acknowledged, kills)
    at_work.close()
    return found


def _seen(url: str, acknowledged: set[str], kills: int) -> Killed:
    # A server may need a moment to see that a client has died.
    while len(existing_store(url).interceptions(end=None)) > 1:
        continue
    store = existing_store(url)
    kept, records = store.interceptions(), Counter(each.interception_id for each in store)
    ends = Counter(each.end for each in kept)
    bodies = {record.body for record in store}
    wrong = sum((each.end is None) != (each.id == "at work") for each in kept)
    wrong += sum(1 for each in kept if each.end == "completed" and records[each.id] != 1)
    wrong += records.total() - len(records) + len(bodies - {BODY})
    lost = len(acknowledged - {each.id for each in kept})
    return Killed(kills, len(acknowledged), lost, ends["interrupted"], wrong)


BODY = b"".join(EVENTS)


def _write(url: str, run: int, pipe: Connection) -> None:
    store = open_store(url)

    async def client(name: str) -> None:
        for number in range(100_000):
            id = f"{name}-{number}"
            await store.begin(_interception(id))
            pipe.send(id)
            chunks = tuple((0.01 * place, event) for place, event in enumerate(EVENTS))
            request = Request("POST", "http://localhost/v1/messages", body=b"{}")
            store.add(Record(id, "anthropic", "anthropic.messages", request, 200, SSE, chunks))
            store.end(_interception(id, "completed"))

    async def clients() -> None:
        await asyncio.gather(*(client(f"{run}-{number}") for number in range(8)))

    asyncio.run(clients())


def _interception(id: str, end: str | None = None) -> Interception:
    request = Request("POST", "http://localhost/v1/messages", body=b"{}")
    return Interception(id, datetime.now(UTC), request, end=end)  # type: ignore[arg-type]  # one of them


def _rest(pipe: Connection) -> Iterator[str]:
    """What was said before the end; the last word may be cut."""
    try:
        while True:
            yield pipe.recv()
    except (EOFError, OSError):
        return
