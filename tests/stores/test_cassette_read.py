import json
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.errors import CassetteError
from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.record import Record
from tests.stores.recordings import EVENTS, NOON, STREAM, URL, body_of, loads, plain


def test_a_plain_recording_becomes_one_piece_for_each_event():
    (record,) = loads(
        plain(body={"string": STREAM.decode()}, headers={"Content-Type": ["text/event-stream"]})
    )

    assert record == Record(
        "session.yaml#0",
        "anthropic",
        "anthropic.messages",
        Request("POST", URL, Headers({"a": "b"}), b"{}"),
        200,
        Headers({"Content-Type": "text/event-stream"}),
        tuple((0.0, event) for event in EVENTS),
        timed=False,
    )


def test_a_blocking_answer_is_one_piece():
    (record,) = loads(plain(body={"string": '{"a":\n\n1}'}))

    assert record.chunks == ((0.0, b'{"a":\n\n1}'),)


@pytest.mark.parametrize(
    ("stored", "body"),
    [
        ({"string": "text é 🙂\n"}, "text é 🙂\n".encode()),
        ({"string": b"\x00\xff"}, b"\x00\xff"),
        ({"string": None}, b""),
        ({"string": "", "encoding": "utf-8"}, b""),
        ({}, b""),
        (None, b""),
        ("text", b"text"),
        (b"\xfe", b"\xfe"),
    ],
)
def test_reads_bodies_in_every_form(stored, body):
    assert body_of(stored) == body


def test_reads_request_bodies_of_old_vcrpy_without_making_python_objects():
    text = """
interactions:
- request:
    body: !!python/object/new:_io.BytesIO
      state: !!python/tuple [!!binary aGVsbG8=, 0, null]
    headers: {a: !!python/tuple [!!python/unicode b]}
    method: !!python/str POST
    uri: https://example.com/
  response: {status: {code: 200, message: OK}, headers: {}, body: {string: ""}}
version: 1
"""

    assert loads(text)[0].request == Request(
        "POST", "https://example.com/", Headers({"a": "b"}), b"hello"
    )


@pytest.mark.parametrize("value", ["a, b", ["a", "b"], [b"a", "b"]])
def test_header_values_are_text_or_lists(value):
    (record,) = loads(plain(headers={"Vary": value, "Age": [5]}))

    assert record.headers == Headers({"Vary": "a, b", "Age": "5"})


def test_repeated_headers_stay_apart():
    (record,) = loads(plain(headers={"Set-Cookie": ["a=1", "b=2"]}))

    assert record.headers.pairs == (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))


@pytest.mark.feature("replay", 3)
def test_reads_the_form_that_httpx_had_before_vcrpy_6():
    (record,) = loads(
        plain(status=None, body=None, status_code=404, content="nö", headers={}, http_version="1.1")
    )

    assert (record.status, record.body) == (404, "nö".encode())


@pytest.mark.feature("replay", 3)
def test_reads_parsed_bodies():
    parsed = {"a": [1, 1.5, True, None, "é"]}
    (record,) = loads(plain(parsed_body=parsed, body=None))

    assert record.body == json.dumps(parsed).encode()


def test_reads_json_as_well():
    tree = yaml.safe_load(plain(body={"string": "é\n"}))

    assert loads(json.dumps(tree)) == loads(yaml.safe_dump(tree))


def test_what_it_does_not_know_is_passed_over():
    tree = yaml.safe_load(plain())
    tree["metadata"] = {"a": 1}
    tree["interactions"][0]["extra"] = 1
    tree["interactions"][0]["request"]["extra"] = 1
    tree["interactions"][0]["response"]["extra"] = {"b": []}

    assert loads(yaml.safe_dump(tree)) == loads(plain())


def test_the_start_is_when_the_provider_answered_where_nobody_noted_it():
    (record,) = loads(plain(headers={"Date": "Fri, 20 Nov 2026 12:00:00 GMT"}))

    assert record.started_at == NOON


@pytest.mark.parametrize("date", ["yesterday", "", "Fri, 99 Nov 2026 12:00:00 GMT"])
def test_an_odd_date_is_no_start(date):
    assert loads(plain(headers={"Date": date}))[0].started_at is None


@pytest.mark.parametrize(
    ("words", "end"),
    [
        ("complete 1128", "completed"),
        ("reset 3", "upstream_error"),
        ("eof", "truncated"),
        ("client 5.5", "client_gone"),
        ("upstream_timeout 600000", "upstream_timeout"),
    ],
)
def test_reads_how_it_ended_in_either_wording(words, end):
    assert loads(plain(llmbridge={"v": 1, "end": words}))[0].end == end


def edited(chunks: str, body: bytes = STREAM) -> Record:
    (record,) = loads(
        plain(
            body={"string": body.decode()},
            headers={"content-type": "text/event-stream"},
            llmbridge={"v": 1, "head_ms": 100, "chunks": chunks},
        )
    )
    return record


def test_an_edited_body_with_as_many_events_keeps_their_times(caplog):
    record = edited("0:5 50:5 25:5")

    assert record.chunks == ((0.1, EVENTS[0]), (0.15, EVENTS[1]), (0.175, EVENTS[2]))
    assert "session.yaml#0" in caplog.text


@pytest.mark.parametrize("chunks", ["50:1 50:2 100:3 100:4", "50:10 250:10", "50:1 junk 250:5"])
def test_an_edited_body_with_other_events_is_spread_over_the_same_span(chunks):
    record = edited(chunks)

    assert record.chunks == ((0.15, EVENTS[0]), (0.275, EVENTS[1]), (0.4, EVENTS[2]))


@pytest.mark.parametrize(
    "chunks", ["", "x", "1:99999999999999", "-1:-1", "1e3:5", "nan:1", "::", "é"]
)
def test_no_timing_string_stops_the_body(chunks):
    assert edited(chunks).body == STREAM


def test_says_once_that_bodies_were_edited(caplog):
    tree = yaml.safe_load(plain(llmbridge={"v": 1, "chunks": "1:1"}))
    tree["interactions"] *= 3

    loads(yaml.safe_dump(tree))

    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("interactions: [", r"not YAML.*line \d"),
        ("interactions:\n- request: {a", r"not YAML.*line \d"),
        ("a: b: c", "not YAML.*line 1"),
        ("a: \x01", "not YAML"),
        ('{"interactions": [', "not JSON"),
        ('{"interactions": [{"request"', "not JSON"),
        ("just text", "no cassette"),
        ("a: 1", "no cassette"),
        ("[]", "no cassette"),
        ("version: 1\ninteractions: 5", r"no cassette.*\$\.interactions"),
        ("version: 1\ninteractions: [5]", r"no cassette.*\$\.interactions\[0\]"),
        ("version: 2\ninteractions: []", "version 2"),
        ("interactions: !!int sk-FAKE", "not plain data: a value is no int in line 1, column 15$"),
        ("interactions: " + "9" * 5000, "not plain data: a value is no int in line 1"),
        ("? [a]\n: b", "not plain data"),
        (plain(status=None), r"interactions\[0\]\.response has no status"),
        (plain(status={"code": "x"}), r"status\.code"),
        (plain(status={"code": 7}), r"status\.code"),
        (plain(body={"string": 5}), r"interactions\[0\]\.response\.body\.string is of type int"),
        (plain(body={"type": 5}), r"response\.body is of type dict"),
        (plain(headers=[1]), r"response\.headers is of type list"),
        (plain(headers={"a": {"b": 1}}), r"response\.headers\.a is of type dict"),
        (plain(headers={"a": "b\r\nc: d"}), r"response\.headers\.a holds a line break"),
        (plain(llmbridge={}), r"llmbridge"),
        (plain(llmbridge={"v": 1, "chunks": 5}), r"llmbridge\.chunks"),
        (plain(llmbridge={"v": 1, "head_ms": float("inf")}), r"head_ms"),
        (plain(llmbridge={"v": 1, "end": "soon"}), r"llmbridge\.end is 'soon'"),
        (plain(llmbridge={"v": 1, "end": "completed nan"}), r"llmbridge\.end"),
        (plain(llmbridge={"v": 1, "recorded_at": "noon"}), r"recorded_at"),
        (plain(llmbridge={"v": 2}), r"interactions\[0\]\.response\.llmbridge has version 2"),
        (plain().replace(URL, "http://[::1"), r"request\.uri is no URL"),
        (plain(parsed_body=b"\x00"), r"parsed_body is no JSON"),
    ],
)
def test_a_file_that_is_no_cassette_is_one_error_with_its_name_and_place(text, says):
    with pytest.raises(CassetteError, match=f"(?s)^session.yaml.*({says})"):
        loads(text)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
PLACES = [
    ("request", "method"),
    ("request", "uri"),
    ("request", "body"),
    ("request", "headers"),
    ("response", "status"),
    ("response", "headers"),
    ("response", "body"),
    ("response", "llmbridge"),
    ("response", "parsed_body"),
    ("response", "content"),
]


@given(place=st.sampled_from(PLACES), junk=JUNK)
def test_no_value_in_any_place_ends_in_another_exception(place, junk):
    tree = yaml.safe_load(plain())
    tree["interactions"][0][place[0]][place[1]] = junk
    with suppress(CassetteError):
        loads(yaml.safe_dump(tree, allow_unicode=False))
