"""Interceptions and records that the tests of the stores keep."""

from datetime import UTC, datetime, timedelta

from llmbridge.bridge import Bridge
from llmbridge.exchange.call import Caller, Headers, Request
from llmbridge.exchange.record import Interception, Record

NOON = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)
ASK = Request(
    "POST",
    "http://localhost/v1/messages",
    Headers([("a", "1"), ("A", "\x00\ud800é")]),
    b"\x00\xff",
    Caller("asgi", "alice", "sdk", "s1", keyed=True),
)


def asked(id: str, second: int = 0, **more) -> Interception:
    return Interception(id, NOON + timedelta(seconds=second), ASK, **more)


def answered(id: str, body: bytes = b"hi", **more) -> Record:
    chunks = ((0.1, body), (0.1 + 0.2, b""), (1 / 3, b"\x00"))
    headers = Headers([("x", "y"), ("x", "z")])
    return Record(id, "anthropic", "anthropic.messages", ASK, 200, headers, chunks, **more)


def ask_the_time(bridge: Bridge) -> str:
    message = bridge.anthropic().messages.create(
        model="claude-x", max_tokens=9, messages=[{"role": "user", "content": "time?"}]
    )
    (block,) = message.content
    assert block.type == "text"
    return block.text
