import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest

from llmbridge.bridge import Bridge
from llmbridge.exchange.call import Call, Reply
from llmbridge.exchange.json_array import as_array
from llmbridge.providers import Provider
from llmbridge.upstreams.lines import calls, reply
from llmbridge.upstreams.script import Script

BODY = {"contents": [{"role": "user", "parts": [{"text": "What time is it?"}]}]}
PATH = "/v1beta/models/gemini-2.5-flash:streamGenerateContent"


def said(responses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parts of all responses that say something."""
    parts = [part for each in responses for part in each["candidates"][0]["content"]["parts"]]
    return [part for part in parts if part != {"text": ""}]


@pytest.mark.parametrize("routes", [{}, {"gemini-*": "anthropic/claude-sonnet-5"}])
def test_a_client_that_asks_for_no_events_gets_an_array(routes: dict[str, str]) -> None:
    script = Script(reply("It is noon.", calls("clock", zone="é")))
    with Bridge(script, environ={}, routes=routes) as bridge:
        answer = httpx2.post(bridge.serve().url + PATH, json=BODY)

    assert answer.headers["content-type"] == "application/json"
    parts = said(answer.json())
    assert "".join(part.get("text", "") for part in parts) == "It is noon."
    assert parts[-1]["functionCall"]["args"] == {"zone": "é"}
    record = bridge.records[0]
    assert record.message is not None
    assert (record.message.text, bridge.interceptions[0].end) == ("It is noon.", "completed")


def test_a_client_that_asks_for_events_gets_events() -> None:
    with Bridge(Script("It is noon."), environ={}) as bridge:
        answer = httpx2.post(f"{bridge.serve().url}{PATH}?alt=sse", json=BODY)

    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text.startswith("data: {")


def test_a_client_of_another_dialect_gets_its_own_events() -> None:
    routes = {"claude-*": "google/gemini-2.5-flash"}
    body = {
        "model": "claude-x",
        "max_tokens": 9,
        "stream": True,
        "messages": [{"role": "user", "content": "hi"}],
    }
    with Bridge(Script("It is noon."), environ={}, routes=routes) as bridge:
        answer = httpx2.post(bridge.serve().url + "/v1/messages", json=body)

    assert answer.headers["content-type"] == "text/event-stream"
    assert "message_stop" in answer.text


def test_a_route_that_renames_the_model_keeps_the_array() -> None:
    asked: list[str] = []

    async def upstream(call: Call) -> Reply:
        asked.append(call.target)
        return await Script("It is noon.")(call)

    google = Provider("there", "https://g.example", ("google.gemini",), keyless=True)
    routes = {"gemini-*": "there/other"}
    with Bridge(upstream, environ={}, providers=[google], routes=routes) as bridge:
        answer = httpx2.post(bridge.serve(token=None).url + PATH, json=BODY)

    assert asked == ["/v1beta/models/other:streamGenerateContent"]
    assert said(answer.json())[0] == {"text": "It"}


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_elements_go_out_one_by_one(count: int) -> None:
    async def events() -> AsyncGenerator[bytes]:
        for number in range(count):
            yield b'data: {"n":%d}\n\n' % number

    pieces = [piece async for piece in as_array(events())]

    assert json.loads(b"".join(pieces)) == [{"n": number} for number in range(count)]
    assert len(pieces) == count + 1


async def test_an_early_close_reaches_the_events() -> None:
    closed: list[bool] = []

    async def events() -> AsyncGenerator[bytes]:
        try:
            yield b"data: 1\n\n"
            yield b"data: 2\n\n"
        finally:
            closed.append(True)

    array = as_array(events())
    await anext(array)
    await array.aclose()

    assert closed == [True]
