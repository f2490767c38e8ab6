"""What every decoded dialect must do. A new one joins by its name in `DECODED`."""

import json
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.canon.events import Delta, Snapshot, fold, unfold
from llmbridge.canon.messages import Ask, AssistantMessage, ToolCall, Usage
from llmbridge.errors import RequestError
from llmbridge.providers import DIALECTS
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.sse import SSE, SSEDecoder, encode_sse
from tests.conformance.strategies import asks, json_values, messages

DECODED = [
    DIALECTS[name]
    for name in ("anthropic.messages", "openai.chat", "openai.responses", "google.gemini")
]
FIXTURES = Path(__file__).parents[2] / "fixtures"
ASK = Ask("m", streaming=True, options={"stream_options": {"include_usage": True}})

every_dialect = pytest.mark.parametrize("dialect", DECODED, ids=lambda dialect: dialect.name)


def fixture_cases() -> list[Any]:
    cases = []
    for dialect in DECODED:
        folder = FIXTURES / dialect.name
        expected = json.loads((folder / "expected.json").read_text("utf-8"))
        cases += [
            pytest.param(dialect, folder / name, meaning, id=f"{dialect.name}/{name}")
            for name, meaning in expected.items()
        ]
    return cases


def decode(dialect: Dialect, body: bytes, cuts: tuple[int, ...] = ()) -> list[Delta]:
    sse, decoder, deltas = SSEDecoder(), dialect.decoder(), list[Delta]()
    borders = sorted({0, *(cut % (len(body) + 1) for cut in cuts), len(body)})
    pieces = [body[start:end] for start, end in pairwise(borders)]
    for event in [event for piece in pieces for event in sse.feed(piece)] + sse.close():
        deltas += decoder.feed(event)
    return [*deltas, *decoder.close()]


def encode(dialect: Dialect, message: AssistantMessage) -> bytes:
    snapshot, encoder = Snapshot(), dialect.encoder(ASK)
    events = (snapshot.apply(delta) for delta in unfold(message))
    return b"".join(encode_sse(sse) for event in events for sse in encoder.feed(event))


def read(dialect: Dialect, path: Path) -> AssistantMessage:
    body = path.read_bytes()
    stream = path.suffix == ".sse"
    return fold(decode(dialect, body) if stream else dialect.decode_reply(body))


def told(message: AssistantMessage) -> dict[str, str | None] | None:
    """The error that the provider told."""
    if message.error is None or message.error_type == "truncated":
        return None
    return {"type": message.error_type, "message": message.error}


def comparable(message: AssistantMessage) -> AssistantMessage:
    """Without the provider's word for the reason; a count that the wire must have is 0 for unknown."""
    assert message.usage is not None
    counts: dict[str, Any] = {
        f.name: getattr(message.usage, f.name) or 0 for f in fields(Usage) if f.compare
    }
    return replace(message, stop=None, usage=replace(message.usage, **counts))


def spelled(call: ToolCall) -> dict[str, Any]:
    try:
        value = json.loads(call.arguments_text or "{}")
    except ValueError:
        value = None
    if isinstance(value, dict):
        return {"id": call.id or None, "name": call.name, "arguments": value}
    return {"id": call.id or None, "name": call.name, "arguments_raw": call.arguments_text}


@pytest.mark.parametrize(("dialect", "path", "expected"), fixture_cases())
def test_a_fixture_means_what_it_says(
    dialect: Dialect, path: Path, expected: dict[str, Any]
) -> None:
    message = read(dialect, path)

    found = {
        "text": message.text,
        "reasoning": message.thinking,
        "tool_calls": [spelled(call) for call in message.tool_calls if not call.server],
        "stop": message.stop,
        "model": message.model,
        "response_id": message.response_id,
        "usage_raw": dict(message.usage.raw) if message.usage else None,
        "error": told(message),
        "truncated": message.error_type == "truncated",
    }
    wanted = {key: expected.get(key) for key in found} | {
        "truncated": expected["ends"] == "truncated"
    }
    assert found == wanted


@pytest.mark.parametrize(("dialect", "path", "expected"), fixture_cases())
def test_every_partial_is_a_beginning_of_the_message(
    dialect: Dialect, path: Path, expected: dict[str, Any]
) -> None:
    body = path.read_bytes()
    snapshot = Snapshot()
    deltas = decode(dialect, body) if path.suffix == ".sse" else dialect.decode_reply(body)

    texts = [snapshot.apply(delta).partial.text for delta in deltas]

    assert all(snapshot.message.text.startswith(text) for text in texts)


@every_dialect
@given(cuts=st.lists(st.integers(0, 100_000), max_size=8).map(tuple), data=st.data())
def test_the_cuts_between_chunks_do_not_matter(
    dialect: Dialect, cuts: tuple[int, ...], data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(sorted((FIXTURES / dialect.name).glob("*.sse"))))
    body = path.read_bytes()

    assert decode(dialect, body, cuts) == decode(dialect, body)


@every_dialect
@given(message=messages())
def test_a_streamed_message_comes_back_as_it_was(
    dialect: Dialect, message: AssistantMessage
) -> None:
    back = fold(decode(dialect, encode(dialect, message)))

    assert comparable(back) == comparable(message)


@every_dialect
@given(message=messages())
def test_a_blocking_message_comes_back_as_it_was(
    dialect: Dialect, message: AssistantMessage
) -> None:
    back = fold(dialect.decode_reply(dialect.encode_reply(message)))

    assert comparable(back) == comparable(message)


@every_dialect
@given(ask=asks)
def test_a_request_comes_back_as_it_was(dialect: Dialect, ask: Ask) -> None:
    back = dialect.decode_request(dialect.encode_request(ask))
    if dialect.name == "google.gemini":
        # Both stand in the path.
        back = replace(back, model=ask.model, streaming=ask.streaming)

    assert replace(back, options={}) == ask


@every_dialect
@given(value=json_values, event=st.sampled_from(["message", "error", "content_block_delta"]))
def test_no_json_breaks_a_decoder(dialect: Dialect, value: Any, event: str) -> None:
    decoder = dialect.decoder()

    fed = [*decoder.feed(SSE(event, json.dumps(value))), *decoder.close()]

    assert fold(fed).stop_reason in (None, "error")


@every_dialect
@given(data=st.data())
def test_a_damaged_stream_never_breaks_a_decoder(dialect: Dialect, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted((FIXTURES / dialect.name).glob("*.sse"))))
    body = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))

    assert isinstance(fold(decode(dialect, bytes(body))), AssistantMessage)


@every_dialect
@given(body=st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_a_foreign_body_is_a_value_error_or_a_message(dialect: Dialect, body: bytes) -> None:
    try:
        message = fold(dialect.decode_reply(body))
    except ValueError:
        return

    assert isinstance(message, AssistantMessage)


@every_dialect
def test_an_error_of_the_bridge_reads_as_an_error(dialect: Dialect) -> None:
    message = fold(dialect.decode_reply(dialect.encode_error(RequestError("the body is odd"))))

    word = "INVALID_ARGUMENT" if dialect.name == "google.gemini" else "invalid_request_error"
    assert (message.error_type, message.error) == (word, "the body is odd")


@every_dialect
def test_an_error_event_of_the_bridge_ends_a_stream_with_an_error(dialect: Dialect) -> None:
    event = dialect.encode_error_event(RequestError("the body is odd"))

    message = fold(decode(dialect, encode_sse(event)))

    assert (message.error, dialect.verdict(event)) == ("the body is odd", "error")
