import json
from pathlib import Path
from typing import Any

import pytest

from llmbridge.canon.messages import Text
from llmbridge.errors import CassetteError
from llmbridge.exchange.call import Headers
from llmbridge.exchange.record import Record
from llmbridge.stores.cassette import Cassette
from tests.stores.recordings import loads

FIXTURES = Path(__file__).parents[2] / "fixtures"
DIALECTS = ("anthropic.messages", "openai.chat", "openai.responses")


def only(text: str, name: str = "answer.json") -> Record:
    (record,) = loads(text, name)
    return record


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("name", "content_type"), [("text.sse", "text/event-stream"), ("text.json", "application/json")]
)
def test_an_answer_alone_is_a_record_without_a_request(dialect, name, content_type):
    path = FIXTURES / dialect / name

    (record,) = Cassette.load(path)

    assert record.body == path.read_bytes()
    assert (record.request, record.status, record.dialect) == (None, 200, dialect)
    assert record.headers == Headers({"content-type": content_type})
    assert record.message is not None
    assert isinstance(record.message.content[0], Text)


@pytest.mark.parametrize(
    "name", ["crlf.sse", "comments.sse", "blank_lines.sse", "truncated_mid_event.sse"]
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_streams_are_told_however_they_begin(dialect, name):
    path = FIXTURES / dialect / name

    (record,) = Cassette.load(path)

    assert (record.body, record.dialect) == (path.read_bytes(), dialect)


def test_the_dialect_of_a_stream_is_that_of_the_first_event_that_has_one():
    text = ': hi\n\ndata: {"queue": 3}\n\ndata: {"type": "response.created"}\n\n'

    assert only(text).dialect == "openai.responses"


def lines_of(dialect: str) -> tuple[bytes, str]:
    """A fixture's stream, and the same as vercel keeps it."""
    stream = (FIXTURES / dialect / "text.sse").read_bytes()
    data = [line[6:] for line in stream.decode().splitlines() if line.startswith("data: {")]
    return stream, "\n".join(data) + "\n"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_json_lines_get_their_framing_back(dialect):
    stream, lines = lines_of(dialect)

    record = only(lines, "text.chunks.txt")

    assert (record.body, record.dialect) == (stream, dialect)


def test_one_chunk_alone_is_a_stream_too():
    chunk = '{"object":"chat.completion.chunk","choices":[]}'

    assert only(chunk).body == f"data: {chunk}\n\ndata: [DONE]\n\n".encode()


def test_lines_of_ollama_are_its_wire_format():
    line = json.dumps({"model": "m", "created_at": "t", "message": {}, "done": False})

    record = only(f"{line}\n{line}\n")

    assert record.body == f"{line}\n{line}\n".encode()
    assert record.headers == Headers({"content-type": "application/x-ndjson"})


ANSWERS: list[tuple[dict[str, Any], str]] = [
    ({"object": "list", "data": [{"object": "embedding", "embedding": [1]}]}, "openai.embeddings"),
    ({"object": "list", "data": []}, "openai.models"),
    ({"object": "text_completion", "choices": []}, "openai.completions"),
    ({"choices": [{"message": {}}]}, "openai.chat"),
    ({"candidates": []}, "opaque"),
    ({"output": {}, "stopReason": "end_turn"}, "opaque"),
    ({"id": "x", "message": {}, "finish_reason": "COMPLETE"}, "opaque"),
]


@pytest.mark.parametrize(("answer", "dialect"), ANSWERS)
def test_the_dialect_is_found_in_the_body(answer, dialect):
    assert only(json.dumps(answer)).dialect == dialect


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "package", "version": "1.0.0"}',
        '{"object": "list", "data": 1}',
        '{"type": "message"}',
        '{"error": {"message": "which status?"}}',
        '{"object": ["chat.completion"]}',
        '{"a": 1}\n{"a": 2}\n',
        '{"choices": []}\n{"choices": [}\n',
    ],
)
def test_json_that_is_no_answer_is_no_cassette(text):
    with pytest.raises(CassetteError, match=r"^answer\.json"):
        only(text)


def test_a_folder_of_answers_is_read_without_what_lies_between(tmp_path):
    stream, lines = lines_of("openai.chat")
    for name, text in {"a.sse": stream.decode(), "b.chunks.txt": lines, "c.txt": "notes"}.items():
        (tmp_path / name).write_text(text)

    assert [record.body for record in Cassette.load(tmp_path)] == [stream, stream]
