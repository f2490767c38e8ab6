"""Real recorded traffic through the bridge: the same bytes out, and the meaning that the corpus' manifest tells."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from llmbridge.bridge import Bridge
from llmbridge.canon.messages import AssistantMessage, ToolCall
from llmbridge.exchange.record import Record
from llmbridge.stores.cassette import Cassette
from llmbridge.upstreams.replay import Replay
from tests.shared import SHARED, needs_shared

pytestmark = needs_shared

DECODED = (
    "anthropic.messages",
    "openai.chat",
    "openai.responses",
    "gemini.stream",
    "gemini.generate",
)
RELAYED = (*DECODED, "openai.completions", "openai.embeddings")
ANTHROPIC_COUNTS = {
    "input": ["input_tokens"],
    "output": ["output_tokens"],
    "cached": ["cache_read_input_tokens"],
    "cache_write": ["cache_creation_input_tokens"],
    "reasoning": ["output_tokens_details.thinking_tokens"],
    "total": [],
}
GOOGLE_COUNTS = {
    "input": ["promptTokenCount"],
    "output": ["candidatesTokenCount"],
    "cached": ["cachedContentTokenCount"],
    "cache_write": [],
    "reasoning": ["thoughtsTokenCount"],
    "total": ["totalTokenCount"],
}
OPENAI_COUNTS = {
    "input": ["prompt_tokens", "input_tokens"],
    "output": ["completion_tokens", "output_tokens"],
    "cached": [
        "prompt_tokens_details.cached_tokens",
        "input_tokens_details.cached_tokens",
        "cached_tokens",
        "prompt_cache_hit_tokens",
    ],
    "cache_write": [
        "prompt_tokens_details.cache_write_tokens",
        "input_tokens_details.cache_write_tokens",
    ],
    "reasoning": [
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
        "reasoning_tokens",
    ],
    "total": ["total_tokens"],
}
GOOGLES = {"gemini.stream": "google.gemini", "gemini.generate": "google.gemini"}
COUNTS = {"anthropic.messages": ANTHROPIC_COUNTS, "google.gemini": GOOGLE_COUNTS}
CORPUS = (SHARED or Path()) / "corpus"


def cassettes() -> Iterator[Any]:
    """Each vcrpy file with its interactions of these endpoints."""
    if SHARED is None:
        return
    manifest = json.loads((CORPUS / "manifest.json").read_text("utf-8"))
    for cassette in manifest["cassettes"]:
        covered = [item for item in cassette["interactions"] if item["endpoint"] in RELAYED]
        if cassette["format"] == "vcrpy" and covered:
            yield pytest.param(cassette["file"], covered, id=cassette["file"])


def replayed(path: Path, items: list[dict[str, Any]]) -> Iterator[tuple[bytes, Record]]:
    """What a client gets for each interaction, and the record of it."""
    recorded = list(Cassette.load(path))
    with (
        Bridge(Replay(path), environ={}) as bridge,
        httpx2.Client(transport=bridge.transport()) as client,
    ):
        # In the recorded order: a file may hold one request several times.
        for index, record in enumerate(recorded):
            assert record.request is not None
            answer = client.request(
                record.request.method,
                record.request.url,
                headers=dict(record.request.headers),
                content=record.request.body,
            )
            if any(item["index"] == index for item in items):
                yield answer.content, bridge.records[-1]


def sha256(value: bytes | str) -> str:
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()


def spelled(call: ToolCall) -> dict[str, Any]:
    """A call in the manifest's terms."""
    spelled = {
        "name": call.name,
        "id": call.id or None,
        "kind": "server" if call.server else "client",
    }
    try:
        spelled["args"] = json.loads(call.arguments_text or "{}")
    except ValueError:
        return {**spelled, "args_raw": call.arguments_text}
    return spelled if call.arguments_text else {**spelled, "args_empty": True}


def usage_of(message: AssistantMessage, dialect: str) -> dict[str, Any] | None:
    """The provider's own numbers, in the manifest's names."""
    if message.usage is None:
        return None
    names = COUNTS.get(dialect, OPENAI_COUNTS)
    return {
        name: next(
            (found for path in paths if (found := at(message.usage.raw, path)) is not None), None
        )
        for name, paths in names.items()
    }


def at(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


@pytest.mark.parametrize(("file", "items"), [*cassettes()])
def test_recorded_bodies_replay_byte_for_byte(file: str, items: list[dict[str, Any]]) -> None:
    bodies = [sha256(body) for body, _ in replayed(CORPUS / file, items)]

    assert bodies == [item["body_sha256"] for item in items]


@pytest.mark.parametrize(("file", "items"), [*cassettes()])
def test_records_mean_what_the_manifest_says(file: str, items: list[dict[str, Any]]) -> None:
    pairs = zip(items, (record for _, record in replayed(CORPUS / file, items)), strict=True)
    decoded = [(item, record) for item, record in pairs if item["endpoint"] in DECODED]

    found, wanted = [], []
    for item, record in decoded:
        expected, message = item["expected"], record.message
        assert message is not None
        calls = [spelled(call) for call in message.tool_calls]
        meaning = {
            "text_sha256": sha256(message.text),
            "reasoning_sha256": sha256(message.thinking),
            "tool_calls": [
                {key: value for key, value in call.items() if key in wanted_call}
                for call, wanted_call in zip(calls, expected["tool_calls"], strict=True)
            ],
            "stop": message.stop,
            "model": message.model,
            "response_id": message.response_id,
            "usage": usage_of(message, record.dialect),
            "dialect": record.dialect,
        }
        found.append(meaning)
        # One host says "" where it means that there is none.
        said = {
            key: None if expected[key] == "" else expected[key]
            for key in meaning
            if key in expected
        }
        # Vertex once sent numbers.
        said["stop"] = None if said["stop"] is None else str(said["stop"])
        wanted.append(said | {"dialect": GOOGLES.get(item["endpoint"], item["endpoint"])})
    assert found == wanted
