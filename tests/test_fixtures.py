"""The fixtures and demo sessions are complete, reproducible, and what the official SDKs expect."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
import vcr
import yaml
from anthropic.types.beta import BetaMessage
from genai_prices import Usage, calc_price
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "fixtures"
DEMO = ROOT / "llmbridge" / "demo"
SESSIONS = sorted(DEMO.glob("*.yaml"))
EXPECTED: dict[str, dict[str, Any]] = {
    path.parent.name: json.loads(path.read_bytes())
    for path in sorted(FIXTURES.glob("*/expected.json"))
}
MODELS: dict[str, type[BaseModel]] = {
    "anthropic.messages": BetaMessage,
    "openai.chat": ChatCompletion,
    "openai.responses": Response,
}
# Mistral's content is a list of parts, which OpenAI's own model does not know.
BEYOND_THE_SDK = {"content_parts.json"}
REPLIES = [
    (dialect, name)
    for dialect in MODELS
    for name, said in EXPECTED[dialect].items()
    if name.endswith(".json") and said["ends"] == "completed" and name not in BEYOND_THE_SDK
]
# The openai helper raises on a choice without a delta and where the reply is not a success.
HELPER_GIVES_UP = {"azure", "content_filter", "content_parts", "incomplete", "length"}
TOLD_TWICE = [
    (dialect, name.removesuffix(".json"))
    for dialect, name in REPLIES
    if name.replace(".json", ".sse") in EXPECTED[dialect]
    and not name.startswith(tuple(HELPER_GIVES_UP))
]


@pytest.mark.parametrize("dialect", EXPECTED)
def test_every_fixture_is_listed_and_every_listed_fixture_is_there(dialect: str) -> None:
    there = {path.name for path in (FIXTURES / dialect).iterdir()}

    assert there - {"expected.json"} == set(EXPECTED[dialect])


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/*.json")), ids=lambda path: path.stem)
def test_every_blocking_body_is_json(path: Path) -> None:
    assert isinstance(json.loads(path.read_bytes()), dict | list)


def test_every_expectation_says_the_same_things() -> None:
    asked = {"status", "content_type", "text", "reasoning", "tool_calls", "stop"}
    asked |= {"model", "response_id", "usage_raw", "error", "ends"}

    missing = [
        (dialect, name, asked - set(said))
        for dialect, listed in EXPECTED.items()
        for name, said in listed.items()
        if not asked <= set(said)
    ]

    assert missing == []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, bytes]:
    """All files as `fixtures/make.py` writes them today, by their path in the repository."""
    folder = tmp_path_factory.mktemp("made")
    script = str(FIXTURES / "make.py")
    subprocess.run([sys.executable, "-B", script, "--to", str(folder)], check=True)
    written = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in written}


def test_making_them_anew_gives_the_same_bytes(made: dict[Path, bytes]) -> None:
    committed = {path: (ROOT / path).read_bytes() for path in made}

    changed = [path for path, content in made.items() if committed[path] != content]

    assert changed == []


def test_nothing_lies_there_that_is_not_made(made: dict[Path, bytes]) -> None:
    folders = [DEMO, *(FIXTURES / dialect for dialect in EXPECTED)]

    there = {path.relative_to(ROOT) for folder in folders for path in folder.iterdir()}

    assert {path for path in there if path.suffix in {".sse", ".json", ".yaml"}} == set(made)


@pytest.mark.parametrize(("dialect", "name"), REPLIES)
def test_official_sdk_accepts_a_whole_reply(dialect: str, name: str) -> None:
    body = (FIXTURES / dialect / name).read_bytes()

    reply = MODELS[dialect].model_validate_json(body).model_dump()

    assert reply["id"] == EXPECTED[dialect][name]["response_id"]


@pytest.mark.parametrize(("dialect", "name"), TOLD_TWICE)
def test_official_sdk_reads_the_same_from_the_stream_as_from_the_whole(
    dialect: str, name: str
) -> None:
    said = EXPECTED[dialect][f"{name}.sse"]
    body = (FIXTURES / dialect / f"{name}.sse").read_bytes()

    read = READERS[dialect](_answering(body))

    assert read == (said["text"], said["stop"], len(said["tool_calls"]))


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_demo_chunks_add_up_to_the_body(path: Path) -> None:
    responses = [told["response"] for told in _interactions(path)]

    sizes = [_bytes_in_chunks(response["llmbridge"]) for response in responses]

    assert sizes == [len(response["body"]["string"].encode()) for response in responses]


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_demo_lasts_long_enough_to_watch_and_not_longer(path: Path) -> None:
    timings = [told["response"]["llmbridge"] for told in _interactions(path)]

    lasts_ms = sum(timing["head_ms"] + _delays_ms(timing) for timing in timings)

    assert 2_500 < lasts_ms < 5_000


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_demo_holds_no_key_and_no_cookie(path: Path) -> None:
    told = _interactions(path)

    headers = {
        name for one in told for side in ("request", "response") for name in one[side]["headers"]
    }

    assert headers.isdisjoint({"authorization", "x-api-key", "api-key", "cookie", "set-cookie"})


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
@pytest.mark.parametrize("http", [httpx, httpx2], ids=lambda module: module.__name__)
def test_demo_replays_in_plain_vcrpy(path: Path, http: Any) -> None:
    told = _interactions(path)
    requests = [one["request"] for one in told]

    with _vcrpy(path), http.Client() as client:
        bodies = [client.post(r["uri"], content=r["body"], headers=_flat(r)).text for r in requests]

    assert bodies == [one["response"]["body"]["string"] for one in told]


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_demo_requests_are_what_the_official_sdk_sends(path: Path) -> None:
    requests = [json.loads(one["request"]["body"]) for one in _interactions(path)]

    with _vcrpy(path) as played:
        for request in requests:
            _ask(path.stem, request)

    assert played.all_played


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_demo_models_have_a_price(path: Path) -> None:
    tokens = Usage(input_tokens=1_000, cache_read_tokens=500, output_tokens=1_000)
    told = [
        (_of(one)["provider"], json.loads(one["request"]["body"])["model"])
        for one in _interactions(path)
    ]

    prices = [
        calc_price(tokens, model_ref=model, provider_id=who).total_price for who, model in told
    ]

    assert min(prices) > 0


def _interactions(path: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = yaml.safe_load(path.read_bytes())["interactions"]
    return told


def _of(interaction: Mapping[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = interaction["response"]["llmbridge"]
    return own


def _bytes_in_chunks(timing: Mapping[str, Any]) -> int:
    return sum(int(item.split(":")[1]) for item in timing["chunks"].split())


def _delays_ms(timing: Mapping[str, Any]) -> int:
    return sum(int(item.split(":")[0]) for item in timing["chunks"].split())


def _flat(request: Mapping[str, Any]) -> dict[str, str]:
    return {name: values[0] for name, values in request["headers"].items()}


def _vcrpy(path: Path) -> Any:
    match_on = ["method", "scheme", "host", "port", "path", "query", "body"]
    return vcr.VCR(record_mode="none", match_on=match_on).use_cassette(str(path))


def _answering(body: bytes) -> httpx2.Client:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=body, headers={"content-type": "text/event-stream"})

    return httpx2.Client(transport=httpx2.MockTransport(answer))


def _ask(session: str, request: dict[str, Any]) -> None:
    """Send a recorded request through the SDK's own method."""
    if session == "anthropic":
        with anthropic.Anthropic(api_key="none") as client:
            list(client.messages.create(**request))
        return
    with openai.OpenAI(api_key="none") as client:
        create = (
            client.responses.create
            if session.endswith("responses")
            else client.chat.completions.create
        )
        list(create(**request))


def _read_messages(http: httpx2.Client) -> tuple[str, str | None, int]:
    client = anthropic.Anthropic(api_key="none", http_client=http)
    asked: Any = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "?"}]}
    with client.messages.stream(**asked) as stream:
        reply = stream.get_final_message()
    text = "".join(block.text for block in reply.content if block.type == "text")
    return text, reply.stop_reason, sum(block.type == "tool_use" for block in reply.content)


def _read_chat(http: httpx2.Client) -> tuple[str, str | None, int]:
    client = openai.OpenAI(api_key="none", http_client=http)
    with client.chat.completions.stream(model="m", messages=[]) as stream:
        choice = stream.get_final_completion().choices[0]
    calls = len(choice.message.tool_calls or []) + (choice.message.function_call is not None)
    return choice.message.content or "", choice.finish_reason, calls


def _read_responses(http: httpx2.Client) -> tuple[str, str | None, int]:
    client = openai.OpenAI(api_key="none", http_client=http)
    with client.responses.stream(model="m", input="?") as stream:
        reply = stream.get_final_response()
    kinds = ("function_call", "custom_tool_call")
    return reply.output_text, reply.status, sum(item.type in kinds for item in reply.output)


READERS = {
    "anthropic.messages": _read_messages,
    "openai.chat": _read_chat,
    "openai.responses": _read_responses,
}
