"""Google's own SDK at a bridge: recordings of every fixture, a script, the server's variables, its token."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import errors, types

from llmbridge.bridge import Bridge
from llmbridge.canon.messages import Usage
from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.record import Record
from llmbridge.upstreams.lines import calls, reply
from llmbridge.upstreams.replay import Replay
from llmbridge.upstreams.script import Script

FIXTURES = Path(__file__).parents[1] / "fixtures" / "google.gemini"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FIXTURES / "expected.json").read_bytes())
WHOLE = [name for name, said in EXPECTED.items() if said["ends"] == "completed"]
HOST = "https://generativelanguage.googleapis.com"
QUESTION = "What time is it?"


def recorded(name: str) -> Record:
    """The fixture as a recording of what the SDK asks."""
    stream = name.endswith(".sse")
    operation = "streamGenerateContent?alt=sse" if stream else "generateContent"
    body = {"contents": [{"parts": [{"text": QUESTION}], "role": "user"}]}
    kind = EXPECTED[name]["content_type"]
    request = Request(
        "POST", f"{HOST}/v1beta/models/m-1:{operation}", Headers(), json.dumps(body).encode()
    )
    answer = Headers({"content-type": kind})
    chunks = ((0.1, (FIXTURES / name).read_bytes()),)
    return Record("i", "google", "google.gemini", request, 200, answer, chunks)


def client_of(base_url: str, **options: Any) -> genai.Client:
    http = types.HttpOptions(base_url=base_url, api_version="v1beta", **options)
    return genai.Client(api_key="llmbridge", http_options=http)


def meaning(answers: list[types.GenerateContentResponse]) -> dict[str, Any]:
    """What the SDK makes of it, in the words of expected.json."""
    parts = [
        part
        for answer in answers
        for candidate in answer.candidates or ()
        for part in (candidate.content and candidate.content.parts) or ()
    ]
    return {
        "text": "".join(part.text or "" for part in parts if not part.thought),
        "reasoning": "".join(part.text or "" for part in parts if part.thought),
        "tool_calls": [
            {"id": c.id, "name": c.name, "arguments": c.args}
            for c in (part.function_call for part in parts)
            if c
        ],
        "response_id": answers[0].response_id,
    }


# The SDK asks for no arrays, and knows no numbers for reasons.
@pytest.mark.parametrize(
    "name", [name for name in WHOLE if not name.startswith(("array", "stop_number"))]
)
@pytest.mark.parametrize("way", ["server", "transport"])
def test_a_recording_means_the_same_to_the_sdk(name: str, way: str) -> None:
    with Bridge(Replay([recorded(name)]), environ={}) as bridge:
        if way == "server":
            client = client_of(bridge.serve().url)
        else:
            http = httpx2.Client(transport=bridge.transport())
            client = client_of(HOST, httpx_client=http)
        with client:
            if name.endswith(".sse"):
                answers = list(
                    client.models.generate_content_stream(model="m-1", contents=QUESTION)
                )
            else:
                answers = [client.models.generate_content(model="m-1", contents=QUESTION)]

    found = meaning(answers)
    assert found == {key: EXPECTED[name][key] for key in found}


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    answer = reply("Let me look.", calls("clock", zone="é"), usage=Usage(7, 2, None, 5, 1, 14))
    with Bridge(Script(answer, answer), environ={}) as bridge:
        yield bridge


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_script_answers_the_async_sdk(bridge: Bridge, streaming: bool) -> None:
    http = httpx2.AsyncClient(transport=bridge.async_transport())
    models = client_of(HOST, httpx_async_client=http).aio.models
    if streaming:
        stream = await models.generate_content_stream(model="m-1", contents=QUESTION)
        answers = [answer async for answer in stream]
    else:
        answers = [await models.generate_content(model="m-1", contents=QUESTION)]
    await http.aclose()

    counted = answers[-1].usage_metadata
    assert counted
    assert meaning(answers)["text"] == "Let me look."
    assert [call.args for answer in answers for call in answer.function_calls or ()] == [
        {"zone": "é"}
    ]
    assert (
        counted.prompt_token_count,
        counted.cached_content_token_count,
        counted.candidates_token_count,
        counted.thoughts_token_count,
    ) == (9, 2, 4, 1)


def test_the_servers_variables_lead_the_sdk_there(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI"):
        monkeypatch.delenv(name, raising=False)
    server = bridge.serve(token="secret-token-1")
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)

    with genai.Client() as client:
        answer = client.models.generate_content(model="m-1", contents=QUESTION)

    record = bridge.records[0]
    assert (answer.text, record.provider, record.model) == ("Let me look.", "google", "m-1")


def test_without_the_token_the_sdk_raises_its_own_error(bridge: Bridge) -> None:
    server = bridge.serve(token="secret-token-1")

    with client_of(server.url) as client, pytest.raises(errors.ClientError) as refused:
        client.models.generate_content(model="m-1", contents=QUESTION)

    assert (refused.value.code, refused.value.status) == (401, "UNAUTHENTICATED")


def test_a_key_in_the_address_goes_no_further(bridge: Bridge) -> None:
    url = f"{HOST}/v1beta/models/m-1:streamGenerateContent?key=AIzaSyA1234567890&alt=sse"
    with httpx2.Client(transport=bridge.transport()) as client:
        client.post(url, json={"contents": []})

    record, interception = bridge.records[0], bridge.interceptions[0]
    assert record.request is not None
    assert record.request.url == f"{HOST}/v1beta/models/m-1:streamGenerateContent?alt=sse"
    assert "AIza" not in interception.request.url


def test_models_are_told_apart_by_a_replay() -> None:
    one, other = recorded("text.json"), recorded("cached.json")
    assert other.request is not None
    url = other.request.url.replace("m-1", "m-2")
    request = Request("POST", url, Headers(), other.request.body)
    other = Record(
        "j", "google", "google.gemini", request, 200, other.headers, other.chunks, model="m-2"
    )
    with Bridge(Replay([one, other]), environ={}) as bridge:
        http = httpx2.Client(transport=bridge.transport())
        with client_of(HOST, httpx_client=http) as client:
            answer = client.models.generate_content(model="m-2", contents=QUESTION)

    assert answer.response_id == EXPECTED["cached.json"]["response_id"]
