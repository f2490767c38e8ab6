"""What recording costs the calls, how fast each store takes rows, and what is on record after long runs."""

import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio

from llmbridge.exchange.call import Call, Headers, Reply, Request, chain
from llmbridge.exchange.record import Interception, Record, Store
from llmbridge.exchange.recorder import Recorder
from llmbridge.exchange.redact import Redactor
from llmbridge.exchange.routing import Router
from llmbridge.providers import rows_with
from llmbridge.stores.memory import MemoryStore
from llmbridge.stores.opening import open_store
from llmbridge.stores.sql_rows import record_row
from tests.bench.sessions import anthropic_events
from tests.bench.table import Plan, Table
from tests.endurance import kill, soak
from tests.postgres import Postgres, served

EVENTS = tuple(anthropic_events(995))
"""A long reply, so that an event weighs more than a call."""
SHORT = tuple(anthropic_events(10))
REQUEST = Request("POST", "http://localhost/v1/messages", Headers({"a": "b"}), b'{"model":"m"}')
SSE = Headers((("content-type", "text/event-stream"),))


def recording(plan: Plan) -> Table:
    """A reply of 1,000 events that somebody reads: time of the reader's thread, with a recorder and without."""
    with _stores() as make:
        figures = {"none": _reading(None, plan)}
        for name in ("memory", "cassette", "sqlite", "postgres"):
            with _opened(make(name)) as store:
                figures[name] = _reading(store, plan)
    for by in figures.values():
        by["recording us/event"] = by["us/event"] - figures["none"]["us/event"]
    note = "Goal: recording under 2 us an event; only the start of a call waits for the disk."
    return Table("Recording, beside no recorder", figures, baseline="none", note=note)


def stores(plan: Plan) -> Table:
    """Records of a short reply (3 KB), as many as a store takes, and until the last one is durable."""
    rows = max(500, int(5_000 * plan.seconds))
    with _stores() as make:
        seen: dict[str, list[float]] = {}
        for _ in range(plan.rounds):
            seen.setdefault("sqlite3", []).append(_bare(rows))
            for name in ("memory", "cassette", "sqlite", "postgres"):
                count = rows // 10 if name == "cassette" else rows
                seen.setdefault(name, []).append(_writing(make(name), count))
    figures = {name: {"rows/s": statistics.median(rates)} for name, rates in seen.items()}
    note = "sqlite3: the same rows by the driver alone, in batches of 100, encoded beforehand."
    return Table("Writing", figures, baseline="sqlite3", note=note)


def soaks(plan: Plan) -> Table:
    """64 clients at a time, of whom one in twenty leaves: each call is on record once."""
    requests = 20_000 if plan.rounds > 1 else 1_000
    figures: dict[str, dict[str, float]] = {}
    with _stores() as make:
        for name in ("memory", "sqlite", "postgres"):
            found = soak(make(name), requests)
            figures[name] = {
                "requests": found.requests,
                "left": found.left,
                "client_gone": found.ends["client_gone"],
                "completed": found.ends["completed"],
                "answers as sent": found.answers,
                "lost": found.lost,
                "twice": found.twice,
                "requests/s": found.requests / found.seconds,
            }
    return Table("Soak", figures, baseline="memory")


def kills(plan: Plan) -> Table:
    """Eight clients of a process that is killed, again and again."""
    count = 200 if plan.rounds > 1 else 20
    figures: dict[str, dict[str, float]] = {}
    with _stores() as make:
        for name in ("sqlite", "postgres"):
            url = make(name)
            assert isinstance(url, str)
            found = kill(url, count)
            figures[name] = {
                "kills": found.kills,
                "acknowledged": found.acknowledged,
                "interrupted": found.unfinished,
                "lost": found.lost,
                "wrong": found.wrong,
            }
    return Table("kill -9", figures, baseline="sqlite")


@contextmanager
def _stores() -> Iterator[Callable[[str], Store | str]]:
    """What makes a new store of each kind, or its URL."""
    folder = Path(tempfile.mkdtemp())
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        server: list[Postgres] = []

        def make(name: str) -> Store | str:
            if name == "memory":
                return MemoryStore()
            if name == "postgres":
                if not server:
                    server.append(stack.enter_context(served()))
                return stack.enter_context(server[0].place()).url
            number = len(os.listdir(folder))
            end = "yaml" if name == "cassette" else "db"
            file = folder / f"{number}.{end}"
            return str(file) if name == "cassette" else f"sqlite:///{file}"

        yield make


@contextmanager
def _opened(store: Store | str) -> Iterator[Store]:
    opened = open_store(store)
    yield opened
    opened.close()


def _reading(store: Store | None, plan: Plan) -> dict[str, float]:
    async def provider(_call: Call) -> Reply:
        return Reply(200, SSE, _stream())

    redactor = Redactor(frozenset())
    handler = chain((Recorder(store, redactor),) if store else (), provider)
    router = Router(rows_with((), {}, {}))

    async def run() -> tuple[list[float], list[float]]:
        starts: list[float] = []
        reads: list[float] = []
        until = time.monotonic() + plan.seconds
        # A cassette takes no more than 64 MiB.
        while (len(reads) < 300 and time.monotonic() < until) or not reads:
            id = str(len(reads))
            if store is not None:
                began = time.perf_counter()
                await store.begin(Interception(id, datetime.now(UTC), REQUEST))
                starts.append(time.perf_counter() - began)
            call = router.call(REQUEST, router.destination(REQUEST), id)
            busy = time.thread_time()
            async for _ in await handler(call):
                pass
            reads.append((time.thread_time() - busy) / len(EVENTS))
            if store is not None:
                store.end(Interception(id, datetime.now(UTC), REQUEST, end="completed"))
        return starts, reads

    starts, reads = anyio.run(run)
    figures = {"us/event": 1e6 * statistics.median(reads)}
    if starts:
        figures["start row, us"] = 1e6 * statistics.median(starts)
    return figures


async def _stream() -> AsyncIterator[bytes]:
    for event in EVENTS:
        yield event


def _writing(source: Store | str, rows: int) -> float:
    with _opened(source) as store:
        records = [_record(number) for number in range(rows)]
        began = time.perf_counter()
        for record in records:
            store.add(record)
        store.flush()
        return rows / (time.perf_counter() - began)


def _record(number: int) -> Record:
    chunks = tuple((0.01 * place, event) for place, event in enumerate(SHORT))
    return Record(str(number), "anthropic", "anthropic.messages", REQUEST, 200, SSE, chunks)


def _bare(rows: int) -> float:
    made = [tuple(record_row(_record(number)).values()) for number in range(rows)]
    names = list(record_row(_record(0)))
    columns = ", ".join(f'"{name}"' for name in names)
    insert = f"INSERT INTO records ({columns}) VALUES ({', '.join('?' * len(names))})"
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(sqlite3.connect(Path(folder) / "bare.db")) as connection,
    ):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"CREATE TABLE records (seq INTEGER PRIMARY KEY, {columns})")
        began = time.perf_counter()
        for start in range(0, rows, 100):
            connection.executemany(insert, made[start : start + 100])
            connection.commit()
        return rows / (time.perf_counter() - began)
