"""OpenAI Responses against the fixtures, the recorded traffic and the end of a stream."""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmbridge.canon.events import Delta, fold
from llmbridge.canon.messages import Text, Thinking
from llmbridge.errors import Overloaded
from llmbridge.wire.openai_responses import OPENAI_RESPONSES
from llmbridge.wire.sse import SSE, Framer, SSEDecoder, encode_sse
from tests.shared import SHARED, needs_shared

FIXTURES = Path(__file__).parents[2] / "fixtures" / "openai.responses"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text("utf-8"))


def read(name: str) -> list[Delta]:
    body = (FIXTURES / name).read_bytes()
    return list(feed(body) if name.endswith(".sse") else OPENAI_RESPONSES.decode_reply(body))


def feed(body: bytes) -> Iterator[Delta]:
    sse, decoder = SSEDecoder(), OPENAI_RESPONSES.decoder()
    for event in [*sse.feed(body), *sse.close()]:
        yield from decoder.feed(event)
    yield from decoder.close()


@pytest.mark.parametrize(
    "name", [name for name in EXPECTED if "server_tool_calls" in EXPECTED[name]]
)
def test_an_mcp_call_is_a_server_call_and_other_hosted_tools_are_passed_over(name: str) -> None:
    listed = EXPECTED[name]["server_tool_calls"]

    message = fold(read(name))

    called = [
        {"id": call.id, "name": call.name, "arguments": call.arguments}
        for call in message.tool_calls
        if call.server
    ]
    assert called == [call for call in listed if call["name"] != "web_search"]


@pytest.mark.parametrize("name", ["refusal.json", "refusal.sse"])
def test_a_refusal_is_text_of_its_own_kind(name: str) -> None:
    message = fold(read(name))

    assert message.content == (Text(EXPECTED[name]["refusal"], refusal=True),)


@pytest.mark.parametrize("name", ["reasoning_silent.json", "reasoning_silent.sse"])
def test_reasoning_that_came_only_encrypted_is_redacted(name: str) -> None:
    block = json.loads((FIXTURES / "reasoning_silent.json").read_bytes())

    message = fold(read(name))

    sealed = block["output"][0]["encrypted_content"]
    assert message.content == (Thinking("", sealed, redacted=True), Text("Six."))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("text", "stop"),
        ("mcp_call", "stop"),
        ("tool_call", "tool_use"),
        ("custom_tool_call", "tool_use"),
        ("incomplete", "length"),
        ("incomplete_tool_call", "length"),
        ("content_filter", "content_filter"),
        ("refusal", "content_filter"),
        ("failed", "error"),
    ],
)
def test_the_reason_to_stop_is_the_same_streamed_and_whole(name: str, reason: str) -> None:
    messages = [fold(read(f"{name}.sse")), fold(read(f"{name}.json"))]

    assert [message.stop_reason for message in messages] == [reason, reason]


@pytest.mark.parametrize(
    "name",
    [name for name in (n.removesuffix(".sse") for n in EXPECTED) if f"{name}.json" in EXPECTED],
)
def test_a_stream_says_the_same_as_its_block(name: str) -> None:
    assert fold(read(f"{name}.sse")) == fold(read(f"{name}.json"))


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.endswith(".sse")])
def test_the_marker_is_found_where_the_reply_ends(name: str) -> None:
    body, ends = (FIXTURES / name).read_bytes(), EXPECTED[name]["ends"]
    framer = Framer(lambda sse: bool(OPENAI_RESPONSES.verdict(sse)), OPENAI_RESPONSES.markers)

    place = framer.feed(body)

    verdicts = [
        verdict for sse in SSEDecoder().feed(body) if (verdict := OPENAI_RESPONSES.verdict(sse))
    ]
    told = {"completed": ["completed"], "upstream_error": ["error"], "truncated": []}[ends]
    if name == "unterminated.sse":
        told = []
    assert (verdicts[:1], place is not None) == (told, bool(told))


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        ('{"type":"response.completed","response":{"error":null}}', "completed"),
        ('{"type": "response.incomplete"}', "completed"),
        ('{"type":"response.failed"}', "error"),
        ('{"type":"error","message":"no"}', "error"),
        ('{"error":{"message":"no"}}', "error"),
        ('{"type":"response.in_progress","response":{"error":null}}', None),
        ('{"type":"response.output_text.delta","delta":"response.completed"}', None),
        (
            '{"type":"response.output_text.delta","delta":"{\\"type\\":\\"error\\"}","error":1}',
            None,
        ),
        ('{"error":null}', None),
        ('{"type":["error"]}', None),
        ("[DONE]", None),
        ('"error"', None),
        ("response.completed", None),
    ],
)
def test_only_the_type_of_the_data_ends_a_stream(data: str, verdict: str | None) -> None:
    assert OPENAI_RESPONSES.verdict(SSE("response.completed", data)) == verdict


def test_an_error_event_has_the_flat_fields_and_the_object() -> None:
    event = OPENAI_RESPONSES.encode_error_event(Overloaded("try later"))

    detail = {"code": "Overloaded", "message": "try later", "param": None}
    assert (event.event, json.loads(event.data)) == (
        "error",
        {
            "type": "error",
            **detail,
            "sequence_number": 0,
            "error": {"type": "overloaded_error", **detail},
        },
    )


@pytest.mark.parametrize(
    ("last", "number"),
    [
        (b"", 0),
        (b'data: {"type":"response.created","sequence_number":0}\n\n', 1),
        (b'data: {"sequence_number": 9}\n\ndata: {"sequence_number": 10}\n\n', 11),
        (b'data: {"sequence_number":3,"delta":"{\\"sequence_number\\": 70}"}\n\n', 4),
        (b'data: {"sequence_number":"x"}\n\n', 0),
    ],
)
def test_an_error_event_has_the_number_after_the_last(last: bytes, number: int) -> None:
    event = OPENAI_RESPONSES.encode_error_event(Overloaded("try later"), last)

    assert json.loads(event.data)["sequence_number"] == number


def test_an_error_event_reads_as_the_error_that_it_is() -> None:
    event = OPENAI_RESPONSES.encode_error_event(Overloaded("try later"))

    message = fold(feed(encode_sse(event)))

    assert (message.error_type, message.error) == ("overloaded_error", "try later")


class _Loader(yaml.SafeLoader):
    """Reads base64 under Ruby's tag, too."""


_Loader.add_constructor("!binary", lambda loader, node: base64.b64decode(node.value))


def recorded() -> Iterator[Any]:
    """Each interaction of this dialect: its body as it was stored, and its line in the manifest."""
    if SHARED is None:
        return
    manifest = json.loads((SHARED / "corpus" / "manifest.json").read_text("utf-8"))
    for cassette in manifest["cassettes"]:
        found = [i for i in cassette["interactions"] if i["endpoint"] == "openai.responses"]
        for item in found:
            path = SHARED / "corpus" / cassette["file"]
            yield pytest.param(path, cassette["format"], item, id=f"{path.stem}-{item['index']}")


def stored(path: Path, format: str, index: int) -> bytes:
    if format == "chunks-jsonl":
        return path.read_bytes()
    loaded = yaml.load(path.read_bytes(), _Loader)
    interactions = loaded["interactions" if format == "vcrpy" else "http_interactions"]
    response = interactions[index]["response"]
    if "parsed_body" in response:
        return json.dumps(response["parsed_body"]).encode()
    body = response["body"]["string"]
    body = body if isinstance(body, bytes) else body.encode()
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


def sha256(value: str | bytes) -> str:
    return hashlib.sha256(value if isinstance(value, bytes) else value.encode()).hexdigest()


@needs_shared
@pytest.mark.parametrize(("path", "format", "item"), list(recorded()))
def test_recorded_replies_mean_what_the_manifest_says(
    path: Path, format: str, item: dict[str, Any]
) -> None:
    body, expected = stored(path, format, item["index"]), item["expected"]
    assert sha256(body) == item["body_sha256"]
    if format == "chunks-jsonl":
        body = b"".join(b"data: " + line + b"\n\n" for line in body.splitlines())

    message = fold(feed(body) if item["streaming"] else OPENAI_RESPONSES.decode_reply(body))

    raw = message.usage.raw if message.usage else {}
    before, after = raw.get("input_tokens_details", {}), raw.get("output_tokens_details", {})
    usage = {
        "input": raw.get("input_tokens"),
        "output": raw.get("output_tokens"),
        "cached": before.get("cached_tokens"),
        "cache_write": before.get("cache_write_tokens"),
        "reasoning": after.get("reasoning_tokens"),
        "total": raw.get("total_tokens"),
    }
    failed = message.error_type or message.error
    found = {
        "text_sha256": sha256(message.text),
        "reasoning_sha256": sha256(message.thinking),
        "tool_calls": [
            {
                "name": call.name,
                "id": call.id,
                "kind": "server" if call.server else "client",
                "args": call.arguments,
            }
            for call in message.tool_calls
        ],
        "stop": message.stop,
        "usage": usage if message.usage else None,
        "model": message.model,
        "response_id": message.response_id,
        "error": {"type": message.error_type, "message": message.error} if failed else None,
    }
    assert found == {key: expected[key] for key in found}
