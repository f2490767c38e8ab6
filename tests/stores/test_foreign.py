import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.errors import CassetteError
from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.record import Record
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.cassette_write import dump
from tests.stores.recordings import loads, timeless

FIXTURES = Path(__file__).parents[2] / "fixtures"
URL = "https://api.openai.com/v1/chat/completions"
ASKED = '{"model": "m", "messages": []}'
JSON = Headers({"content-type": "application/json"})
EXCHANGE = Record(
    "session.yaml#0",
    "openai",
    "openai.chat",
    Request("POST", URL, JSON, ASKED.encode()),
    200,
    JSON,
    ((0.0, '{"choices": ["é"]}'.encode()),),
    datetime(2026, 11, 20, 12, tzinfo=UTC),
    model="m",
    timed=False,
)

RUBY = """---
http_interactions:
- request:
    method: post
    uri: https://api.openai.com/v1/chat/completions
    body: {encoding: UTF-8, string: '{"model": "m", "messages": []}'}
    headers: {content-type: [application/json]}
  response:
    status: {code: 200, message: OK}
    headers: {content-type: [application/json]}
    body:
      encoding: ASCII-8BIT
      string: !binary |-
        eyJjaG9pY2VzIjogWyLDqSJdfQ==
  recorded_at: Fri, 20 Nov 2026 12:00:00 GMT
recorded_with: VCR 6.4.0
"""
BETAMAX = json.dumps(
    {
        "http_interactions": [
            {
                "request": {
                    "method": "POST",
                    "uri": URL,
                    "body": {"encoding": "utf-8", "string": ASKED},
                    "headers": {"content-type": ["application/json"]},
                },
                "response": {
                    "status": 200,
                    "headers": {"content-type": ["application/json"]},
                    "body": {"encoding": None, "base64_string": "eyJjaG9pY2VzIjogWyLDqSJdfQ=="},
                },
                "recorded_at": "2026-11-20T12:00:00",
            }
        ],
        "recorded_with": "betamax/0.9.0",
    }
)
GO = """---
version: 2
interactions:
- id: 0
  request:
    proto: HTTP/1.1
    host: api.openai.com
    body: '{"model": "m", "messages": []}'
    form: {}
    headers: {content-type: [application/json]}
    url: https://api.openai.com/v1/chat/completions
    method: POST
  response:
    body: '{"choices": ["é"]}'
    headers: {content-type: [application/json], date: ["Fri, 20 Nov 2026 12:00:00 GMT"]}
    status: 200 OK
    code: 200
    duration: 1.360928833s
"""
NOCK = json.dumps(
    [
        {
            "scope": "https://api.openai.com:443",
            "method": "POST",
            "path": "/v1/chat/completions",
            "body": {"model": "m", "messages": []},
            "status": 200,
            "response": {"choices": ["é"]},
            "rawHeaders": ["content-type", "application/json"],
            "reqheaders": {"content-type": "application/json"},
        }
    ]
)
ONE = json.dumps(
    {
        "request": {"method": "POST", "url": URL, "headers": dict(JSON), "body": ASKED},
        "response": {
            "status": {"code": 200, "message": "OK"},
            "headers": dict(JSON),
            "body": '{"choices": ["é"]}',
        },
    }
)
OLDEST = json.dumps(
    [
        {
            "request": {
                "method": "POST",
                "protocol": "https",
                "host": "api.openai.com",
                "port": 443,
                "path": "/v1/chat/completions",
                "headers": {"content-type": "application/json"},
                "body": ASKED,
            },
            "response": {
                "status": {"code": 200, "message": "OK"},
                "headers": ["content-type: application/json\r\n"],
                "body": {"string": '{"choices": ["é"]}'},
            },
        }
    ]
)
FILES = {
    "Ruby VCR": RUBY,
    "betamax": BETAMAX,
    "go-vcr": GO,
    "nock": NOCK,
    "one exchange": ONE,
    "vcrpy 0": OLDEST,
}


@pytest.mark.feature("replay", 3)
@pytest.mark.parametrize("recorder", FILES)
def test_the_same_exchange_is_read_from_every_recorder(recorder):
    (record,) = loads(FILES[recorder])

    assert record.request is not None
    assert (record.request.method, record.request.url) == ("POST", URL)
    assert json.loads(record.request.body) == json.loads(ASKED)
    assert json.loads(record.body) == {"choices": ["é"]}
    assert (record.status, record.provider, record.dialect) == (200, "openai", "openai.chat")
    assert record.headers["content-type"] == record.request.headers["content-type"]


@pytest.mark.parametrize("recorder", ["Ruby VCR", "betamax"])
def test_what_ruby_recorders_note_is_kept(recorder):
    assert loads(FILES[recorder]) == [EXCHANGE]


def test_what_go_notes_is_kept():
    (record,) = loads(GO)

    assert (record.started_at, record.duration_s) == (EXCHANGE.started_at, 1.360928833)


@pytest.mark.parametrize(
    ("noted", "seconds"),
    [
        ("1m2.5s", 62.5),
        ("898.5ms", 0.8985),
        ("2µs", 2e-6),
        ("1500000000", None),
        (1_500_000_000, 1.5),
        ('""', None),
        ("soon", None),
        ("true", None),
        (-5, 0.0),
        (10**40, 1e6),
    ],
)
def test_durations_are_read_as_go_writes_them(noted, seconds):
    (record,) = loads(
        GO.replace("1.360928833s", f"'{noted}'" if noted == "1500000000" else str(noted))
    )

    assert record.duration_s == pytest.approx(seconds)


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "windows-1252"])
def test_bodies_get_back_the_encoding_they_had(encoding):
    text = RUBY.replace("encoding: ASCII-8BIT", f"encoding: {encoding}")

    (record,) = loads(text.replace("!binary |-\n        eyJjaG9pY2VzIjogWyLDqSJdfQ==", "é"))

    assert record.body == b"\xe9"


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({"response": "00ff", "responseIsBinary": True}, b"\x00\xff"),
        ({"response": ["1f8b", "00"], "rawHeaders": ["Content-Encoding", "br"]}, b"\x1f\x8b\x00"),
        ({"response": [1, "a"]}, b'[1, "a"]'),
        ({"response": "plain"}, b"plain"),
        ({"response": "plain", "responseIsBinary": True}, b"plain"),
        ({"response": ""}, b""),
        ({"rawHeaders": {"content-type": "x"}, "response": "y"}, b"y"),
        ({"rawHeaders": [["content-type", "x"]], "response": "y"}, b"y"),
    ],
)
def test_nock_bodies_are_text_json_or_hexadecimal(changes, body, monkeypatch):
    monkeypatch.setattr("llmbridge.stores.cassette_read.decoded", lambda body, *_: body)
    (interaction,) = json.loads(NOCK)

    (record,) = loads(json.dumps([interaction | changes]))

    assert record.body == body


@pytest.mark.parametrize("status", [401, "401 Unauthorized", {"code": 401}])
def test_an_answer_kept_with_its_status_has_no_request(status):
    body = '{"type": "message", "content": []}'
    (record,) = loads(json.dumps({"status": status, "headers": {"a": "b"}, "body": body}))

    assert (record.request, record.status, record.dialect) == (None, 401, "anthropic.messages")
    assert (record.headers, record.body) == (Headers({"a": "b"}), body.encode())


@pytest.mark.feature("replay", 3)
def test_reads_what_cassetter_records():
    records = list(Cassette.load(FIXTURES / "cassettes" / "cassetter.yaml"))

    found = {}
    for record in records:
        assert record.request is not None
        found[record.request.path, record.request.body] = record.body
    stream = b'{"model": "gpt-x", "messages": [{"role": "user", "content": "Hi"}], "stream": true}'
    assert found["/v1/chat/completions", stream] == (FIXTURES / "openai.chat/text.sse").read_bytes()
    assert found["/bytes", b"\x00\xff"] == b"\x00\xff\xfe1234"
    assert found["/text", "é\n".encode()] == found["/empty", b""] == "plain text é\n".encode()
    assert {record.started_at is None for record in records} == {False}


@pytest.mark.parametrize("recorder", FILES)
def test_what_was_read_can_be_written_and_says_the_same(recorder):
    records = loads(FILES[recorder])

    assert list(map(timeless, loads(dump(records)))) == list(map(timeless, records))


@pytest.mark.parametrize(
    ("text", "recorder"),
    [
        ('{"log": {"entries": []}}', "HAR"),
        ('{"mappings": []}', "WireMock"),
        ('{"fixtures": []}', "aimock"),
    ],
)
def test_recorders_whose_files_are_not_read_are_told_by_name(text, recorder):
    with pytest.raises(CassetteError, match=f"session.yaml.*{recorder}.*not read"):
        loads(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http_interactions: 5", r"Ruby VCR.*\$\.interactions"),
        ("http_interactions: [5]", r"Ruby VCR.*\$\.interactions\[0\]"),
        (
            "interactions: [{request: {url: x}}]",
            r"go-vcr.*`method`.*\$\.interactions\[0\]\.request",
        ),
        ('[{"scope": "https://h", "method": "GET"}]', r"nock.*status\.code"),
        ("- request: {}\n  response: {}", r"vcrpy before 1\.0.*method"),
        ('{"request": {}, "response": {}}', r"keeps one exchange a file.*uri"),
        ('{"status": "broken"}', r"keeps one answer a file.*status\.code"),
    ],
)
def test_a_broken_file_is_one_error_with_its_recorder_and_the_place(text, says):
    with pytest.raises(CassetteError, match=f"^session.yaml is no cassette as .*{says}"):
        loads(text)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("zz"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from([*FILES]), st.data(), JUNK)
def test_no_value_in_any_place_ends_in_another_exception(recorder, data, junk):
    tree = yaml.load(FILES[recorder].replace("!binary", "!!binary"), yaml.SafeLoader)
    place = tree
    while isinstance(place, dict | list) and place:
        key = data.draw(st.sampled_from([*place] if isinstance(place, dict) else [0]))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = junk
            break
        place = place[key]

    with suppress(CassetteError):
        loads(yaml.safe_dump(tree, allow_unicode=False))
