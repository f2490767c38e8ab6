import json

import pytest

from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.leaks import Leak, leaks, masked, path_at
from llmbridge.exchange.record import Record
from llmbridge.exchange.redact import Redactor

KEY = "sk-ant-api03-Kq8vJ2mTz4WcXr7b"
STREAM = Headers({"content-type": "text/event-stream"})
REDACTOR = Redactor(lenient=True)


def asking(
    body: bytes = b"{}", url: str = "https://api.anthropic.com/v1/messages", **headers: str
) -> Record:
    request = Request("POST", url, Headers(headers), body)
    return Record("i", "anthropic", "anthropic.messages", request, 200, Headers(), ())


def answering(*chunks: bytes, headers: Headers = STREAM) -> Record:
    timed = tuple((0.0, chunk) for chunk in chunks)
    return Record("i", "anthropic", "anthropic.messages", None, 200, headers, timed)


def event(**data: object) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def said(index: int, text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return event(type="content_block_delta", index=index, delta=delta)


START = event(type="content_block_start", index=0, content_block={"type": "text", "text": ""})


def places(record: Record, redactor: Redactor = REDACTOR) -> list[tuple[str, str]]:
    return [(leak.place, leak.rule) for leak in leaks(record, redactor)]


def test_nothing_is_found_where_nothing_is():
    record = asking(b'{"max_tokens":1}', authorization="Bearer test_key", x_trace="1")

    assert leaks(record, REDACTOR) == []


@pytest.mark.parametrize(
    ("record", "place", "rule"),
    [
        (asking(Authorization=f"Bearer {KEY}"), "request.headers.authorization", "header"),
        (asking(cookie="session=a8f2c"), "request.headers.cookie", "header"),
        (asking(note=f"for {KEY}"), "request.headers.note", "anthropic-key"),
        (asking(url="https://h/v1?key=a8f2c91b"), "request.url", "query"),
        (asking(url="https://me:a8f2c91b@h/v1"), "request.url", "userinfo"),
        (asking(b'{"a":[1,{"api_key":"hunter2x"}]}'), "request.body $.a[1].api_key", "field"),
        (asking(b"key: " + KEY.encode()), "request.body byte 5", "anthropic-key"),
        (
            answering(b"", headers=Headers({"set-cookie": "a=b"})),
            "response.headers.set-cookie",
            "header",
        ),
        (
            answering(b'{"a b":{"c":"' + KEY.encode() + b'"}}', headers=Headers()),
            "response.body $['a b'].c",
            "anthropic-key",
        ),
        (answering(START, said(0, KEY)), "response.body event 1 $.delta.text", "anthropic-key"),
        (
            answering(START + said(0, KEY)[:90], said(0, KEY)[90:]),
            "response.body event 1 $.delta.text",
            "anthropic-key",
        ),
    ],
)
def test_each_place_is_named(record, place, rule):
    assert places(record) == [(place, rule)]


def test_a_secret_spread_over_events_is_found_in_the_answer():
    record = answering(START, said(0, "It is " + KEY[:12]), said(0, KEY[12:]))

    assert leaks(record, REDACTOR) == [
        Leak(
            "response.message content[0]", "anthropic-key", "sk-ant... (29 characters)", spread=True
        )
    ]


def test_a_known_secret_is_found_by_its_value():
    record = asking(b'{"messages":"my name is tulip-garden-9"}')

    assert places(record, Redactor(["tulip-garden-9"], lenient=True)) == [
        ("request.body $.messages", "secret")
    ]


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        (f"Bearer {KEY}", "sk-ant... (29 characters)"),
        ("a8f2c", "a... (5 characters)"),
        ("abc", "... (3 characters)"),
    ],
)
def test_an_excerpt_shows_at_most_a_quarter(secret, shown):
    assert masked(secret) == shown


@pytest.mark.parametrize(
    ("before", "path"),
    [
        ("", ""),
        ("plain ", ""),
        ('{"a": ', "$.a"),
        ('{"a": "x,y", "b": [0, [], {"c": ', "$.b[2].c"),
        ('{"a": {"b": 1}, "it\'s": ', '$["it\'s"]'),
        ('{"a": "}]", "b": "', "$.b"),
        ("}} ", ""),
    ],
)
def test_the_path_of_an_offset(before, path):
    text = before.encode() + b"HERE"

    assert path_at(text, text.index(b"HERE")) == path


def test_what_is_found_is_what_a_lenient_redactor_takes_out():
    record = asking(
        b'{"password":"hunter2x"}', authorization="Bearer a8f2c", accept="*/*", useragent="x/1"
    )

    clean = REDACTOR.record(record)

    assert clean.request is not None
    assert clean.request.headers.pairs == (
        ("authorization", "<redacted:header>"),
        ("accept", "*/*"),
        ("useragent", "x/1"),
    )
    assert leaks(clean, REDACTOR) == []
