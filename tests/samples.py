"""Records made of the wire fixtures, and a store that holds them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.record import Chunk, Interception, Record, Store

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
EXPECTED: dict[str, dict[str, Any]] = {
    path.parent.name: json.loads(path.read_bytes()) for path in FIXTURES.glob("*/expected.json")
}
PROVIDERS = {
    "anthropic.messages": "anthropic",
    "openai.chat": "openai",
    "openai.responses": "openai",
}
ASKED = {
    "anthropic.messages": "claude-sonnet-5",
    "openai.chat": "gpt-4o-mini",
    "openai.responses": "gpt-5-mini",
}


def body(dialect: str, name: str) -> bytes:
    return (FIXTURES / dialect / name).read_bytes()


def record(dialect: str, name: str, id: str = "i1", **more: Any) -> Record:
    """The fixture as an answer that came at once, half a second after the request."""
    said = EXPECTED[dialect][name]
    known: dict[str, Any] = {
        "provider": PROVIDERS.get(dialect, "openai"),
        "request": None,
        "status": said["status"],
        "headers": Headers({"content-type": said["content_type"]}),
        "chunks": ((0.5, body(dialect, name)),),
        "started_at": NOON,
        "duration_s": 2.0,
        "model": ASKED.get(dialect),
        "end": said["ends"],
    }
    return Record(interception_id=id, dialect=dialect, **{**known, **more})


def request(value: object, path: str = "/v1/messages") -> Request:
    sent = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Request("POST", f"https://api.example.com{path}", body=sent)


def at_border(dialect: str, name: str, *seconds: float) -> tuple[Chunk, ...]:
    """The stream with a chunk an event, at these seconds."""
    events = body(dialect, name).replace(b"\r\n", b"\n").split(b"\n\n")
    return tuple(
        (second, event + b"\n\n") for second, event in zip(seconds, events, strict=False) if event
    )


def asked(id: str, second: float = 0, **more: Any) -> Interception:
    """A call that began so many seconds after noon."""
    known: dict[str, Any] = {
        "request": request({"messages": [{"role": "user", "content": f"What is {id}?"}]}),
        "frontend": "asgi",
        "dialect": "anthropic.messages",
        "provider": "anthropic",
        "model": "claude-latest",
        "streaming": True,
    }
    return Interception(id, NOON + timedelta(seconds=second), **{**known, **more})


def ended(interception: Interception, **more: Any) -> Interception:
    """As it is when it was answered."""
    over = interception.started_at + timedelta(seconds=9)
    return replace(interception, **{"ended_at": over, "status": 200, "end": "completed", **more})


async def keep(store: Store, call: Interception, *records: Record, over: bool = True) -> None:
    """Give a store all that it gets of a call."""
    await store.begin(replace(call, ended_at=None, status=None, end=None))
    for each in records:
        store.add(replace(each, interception_id=call.id))
    if over:
        store.end(call)


@dataclass
class Shelf:
    """A store that holds what it was made with."""

    told: Sequence[Interception] = ()
    kept: Sequence[Record] = ()
    flushed: int = 0

    async def begin(self, interception: Interception) -> None:
        raise NotImplementedError

    def add(self, record: Record) -> None:
        raise NotImplementedError

    def end(self, interception: Interception) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        raise NotImplementedError

    def interceptions(self, **filters: object) -> Sequence[Interception]:
        return self.told

    def records(self, **filters: object) -> Sequence[Record]:
        return self.kept

    def __iter__(self) -> Iterator[Record]:
        return iter(self.kept)
