"""What the official SDKs make of injected faults, through transports and a server."""

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from llmbridge import Bridge, Script, faults

HELLO: Any = [{"role": "user", "content": "Hello"}]
LINES = ["One two three four five."] * 9
WORDS: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": HELLO}


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with Bridge(Script(*LINES), environ={}) as bridge:
        yield bridge


def words_of_anthropic(bridge: Bridge, heard: list[str]) -> None:
    with bridge.anthropic(max_retries=0).messages.stream(**WORDS) as stream:
        heard.extend(stream.text_stream)


def words_of_openai(bridge: Bridge, heard: list[str]) -> None:
    client = bridge.openai(max_retries=0)
    events = client.responses.create(model="m", input="Hello", stream=True)
    heard.extend(event.delta for event in events if event.type == "response.output_text.delta")


BOTH = {"anthropic": (words_of_anthropic, anthropic), "openai": (words_of_openai, openai)}
both = pytest.mark.parametrize(("listen", "sdk"), BOTH.values(), ids=BOTH.keys())


@both
def test_a_retried_refusal_is_over_in_no_time(listen: Any, sdk: Any, bridge: Bridge) -> None:
    with bridge.faults(faults.status(429, retry_after=0.001, times=2)):
        if sdk is openai:
            text = bridge.openai(max_retries=2).responses.create(model="m", input="x").output_text
        else:
            message: Any = bridge.anthropic(max_retries=2).messages.create(**WORDS)
            text = message.content[0].text

    assert (text, [each.status for each in bridge.interceptions]) == (LINES[0], [429, 429, 200])


@both
@pytest.mark.parametrize(
    "fault",
    [faults.split_utf8(), faults.split_event(), faults.merge_events(3), faults.crlf()],
    ids=str,
)
def test_odd_pieces_make_no_difference(fault: Any, listen: Any, sdk: Any, bridge: Bridge) -> None:
    heard: list[str] = []

    with bridge.faults(fault):
        listen(bridge, heard)

    assert "".join(heard) == LINES[0]


@both
def test_a_broken_connection_is_an_exception_after_what_came(
    listen: Any, sdk: Any, bridge: Bridge
) -> None:
    heard: list[str] = []

    with (
        bridge.faults(faults.disconnect(after_events=6)),
        pytest.raises((sdk.APIError, httpx2.RemoteProtocolError)),
    ):
        listen(bridge, heard)

    assert LINES[0].startswith("".join(heard))
    assert (bridge.interceptions[0].end, 0 < len(heard) < 5) == ("truncated", True)


@both
def test_an_error_event_is_the_sdks_own_exception(listen: Any, sdk: Any, bridge: Bridge) -> None:
    fault = faults.error_event("overloaded_error", message="Busy.", after_events=6)

    with bridge.faults(fault), pytest.raises(sdk.APIError, match="Busy"):
        listen(bridge, [])

    assert bridge.interceptions[0].end == "upstream_error"


def test_a_server_breaks_the_connection_too(bridge: Bridge) -> None:
    with (
        bridge.serve() as server,
        bridge.faults(faults.disconnect(after_events=2)),
        httpx2.Client() as client,
        pytest.raises(httpx2.RemoteProtocolError),
    ):
        client.post(f"{server.url}/v1/messages", json={**WORDS, "stream": True})

    assert [each.fault for each in bridge.interceptions] == ["disconnect(after_events=2)"]


def test_a_server_closes_quietly_when_told(bridge: Bridge) -> None:
    with (
        bridge.serve() as server,
        bridge.faults(faults.disconnect(after_events=2, how="eof")),
        httpx2.Client() as client,
    ):
        body = client.post(f"{server.url}/v1/messages", json={**WORDS, "stream": True}).content

    assert (body.count(b"\n\n"), bridge.interceptions[0].end) == (2, "truncated")
