"""What it costs to read a stream: bytes to server-sent events, and on to canonical ones."""

import json
from collections.abc import Sequence
from functools import partial

import anthropic._streaming

from llmbridge.canon.events import Snapshot
from llmbridge.providers import dialect_named
from llmbridge.wire.sse import SSEDecoder
from tests.bench.sessions import STREAMS
from tests.bench.table import Plan, Table
from tests.bench.timing import Costs

DELTAS = 2000


def sse(plan: Plan) -> Table:
    """Bytes to server-sent events."""
    costs = Costs(plan)
    for name, stream in STREAMS.items():
        events = list(stream(DELTAS))
        body = b"".join(events)
        blocks = [body[i : i + 16384] for i in range(0, len(body), 16384)]
        for cutting, chunks in {"event by event": events, "in 16 KiB": blocks}.items():
            readers = {
                "split": partial(split, chunks),
                "anthropic SDK": partial(read_with_sdk, chunks),
                "llmbridge": partial(read, chunks),
            }
            costs.measure(f"{name}, {cutting}", len(events), readers)
    return Table("SSE, CPU us/event", costs.figures, baseline="split")


def split(chunks: Sequence[bytes]) -> None:
    """The least that finds the data in these streams; it knows neither the standard nor borders."""
    for block in b"".join(chunks).split(b"\n\n"):
        block.partition(b"data: ")[2].decode()


def read_with_sdk(chunks: Sequence[bytes]) -> None:
    for _ in anthropic._streaming.SSEDecoder().iter_bytes(iter(chunks)):
        pass


def read(chunks: Sequence[bytes]) -> None:
    decoder = SSEDecoder()
    for chunk in chunks:
        for _ in decoder.feed(chunk):
            pass


def decode(plan: Plan) -> Table:
    """Bytes to canonical events, each with the message so far."""
    costs = Costs(plan)
    for name, stream in STREAMS.items():
        events = list(stream(DELTAS))
        ways = {
            "SSE + json.loads": partial(parse, events),
            "llmbridge": partial(follow, name, events),
        }
        costs.measure(name, len(events), ways)
    return Table("Decoding, CPU us/event", costs.figures, baseline="SSE + json.loads")


def parse(chunks: Sequence[bytes]) -> None:
    decoder = SSEDecoder()
    for chunk in chunks:
        for event in decoder.feed(chunk):
            if event.data != "[DONE]":
                json.loads(event.data)


def follow(name: str, chunks: Sequence[bytes]) -> None:
    wire, decoder, snapshot = SSEDecoder(), dialect_named(name).decoder(), Snapshot()
    for chunk in chunks:
        for event in wire.feed(chunk):
            for delta in decoder.feed(event):
                snapshot.apply(delta)
