"""Records made of the wire fixtures, and a store that holds them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.record import Chunk, Interception, Record

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
