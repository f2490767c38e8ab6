"""An error that an SDK does not read, since it tries again, is recorded as the error that it is."""

from typing import Any

import pytest

from llmbridge.bridge import Bridge
from llmbridge.exchange import faults
from llmbridge.exchange.call import Headers, Reply, Request, once
from llmbridge.exchange.record import Record
from llmbridge.upstreams.script import Script

ASKED: Any = {
    "model": "claude-sonnet-5",
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "Hi"}],
}
WANTED = [
    (429, "upstream_error", "rate_limit_error"),
    (200, "completed", None),
]


def told(bridge: Bridge) -> list[tuple[Any, Any, Any]]:
    records = [
        (record.status, record.end, record.message and record.message.error_type)
        for record in bridge.records
    ]
    frame = bridge.frames.interceptions()
    status = frame["status"].tolist()
    assert list(zip(status, frame["end"].tolist(), strict=True)) == [row[:2] for row in records]
    return records


@pytest.mark.parametrize("tps", [None, 1000])
def test_an_error_that_is_tried_again_is_recorded_whole(tps: float | None) -> None:
    fault = faults.status(429, retry_after=0, times=1)
    with Bridge(Script("Fine.", tps=tps), faults=[fault]) as bridge:
        client = bridge.anthropic()
        with client.messages.stream(**ASKED) as stream:
            said = stream.get_final_text()

        assert (said, told(bridge)) == ("Fine.", WANTED)


async def test_an_error_that_is_tried_again_is_recorded_whole_for_async_clients() -> None:
    fault = faults.status(429, retry_after=0, times=1)
    async with Bridge(Script("Fine."), faults=[fault]) as bridge:
        client = bridge.async_anthropic()
        async with client.messages.stream(**ASKED) as stream:
            said = await stream.get_final_text()

        assert (said, told(bridge)) == ("Fine.", WANTED)


async def test_the_status_tells_how_an_error_ended_that_nobody_read() -> None:
    reply = Reply(529, Headers(), once(b"{}"))

    await reply.aclose("client_gone")

    assert reply.end == "upstream_error"


@pytest.mark.parametrize(
    ("dialect", "status", "kind"),
    [
        ("anthropic.messages", 429, "rate_limit_error"),
        ("anthropic.messages", 529, "overloaded_error"),
        ("openai.chat", 429, "rate_limit_error"),
    ],
)
def test_an_error_without_its_body_is_told_by_its_status(
    dialect: str, status: int, kind: str
) -> None:
    asked = Request("POST", "https://api.example/v1")
    record = Record("one", "any", dialect, asked, status, Headers(), (), end="upstream_error")

    assert record.message
    assert record.message.error_type == kind
