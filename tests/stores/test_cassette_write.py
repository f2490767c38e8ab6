import gzip
import json
import random
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from llmbridge.errors import End
from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.record import Record
from llmbridge.stores.cassette_write import dump, dump_json, form_of
from tests.stores.recordings import ASKED, EVENTS, STREAM, STREAMED, URL, loads, timeless


def test_writes_what_a_reader_expects():
    assert dump(
        [replace(STREAMED, chunks=(*STREAMED.chunks, (1.5, b"data: \xf0\x9f\x99\x82")))]
    ) == (
        """\
interactions:
- request:
    body: |-
      {"model":"claude-x","messages":[],"stream":true}
    headers:
      content-type:
      - application/json
    method: POST
    uri: https://api.anthropic.com/v1/messages
  response:
    body:
      string: |-
        event: a
        data: {"n":1}

        : ping

        event: b
        data: {"n":2}

        data: 🙂
    headers:
      content-type:
      - text/event-stream
    llmbridge:
      api: anthropic.messages
      chunks: 2.14:9 0.36:23 1467.5:24 0:10
      end: completed 1501.23
      head_ms: 30.0
      provider: anthropic
      recorded_at: '2026-11-20T12:00:00Z'
      redacted:
      - header
      v: 1
    status:
      code: 200
      message: OK
version: 1
"""
    )


def test_reads_what_it_wrote():
    assert loads(dump([STREAMED])) == [STREAMED]


def test_nothing_recorded_is_a_cassette_too():
    assert loads(dump([])) == []


BODY = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text("ab \n\t:#-'\"\\|>{}[]&*!%@`é🙂\x85\u2028\ufeff\r\x00", max_size=60).map(str.encode),
    st.lists(
        st.sampled_from(
            [*EVENTS, b"\n", b" ", b"\r\n", b"- x", b"---", b"...", b"data: [DONE]\n\n"]
        )
    ).map(b"".join),
)
TIMES = st.lists(st.floats(0, 100, allow_nan=False), max_size=6).map(sorted)
NAMES = st.text("abcxyz-", min_size=1, max_size=6)
HEADER_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=12)


@st.composite
def records(draw: st.DrawFn) -> Record:
    body = draw(BODY)
    times = draw(TIMES) or ([0.5] if body else [])
    cuts = draw(
        st.lists(
            st.integers(0, len(body)),
            min_size=max(0, len(times) - 1),
            max_size=max(0, len(times) - 1),
        )
    )
    pieces = [body[a:b] for a, b in pairwise([0, *sorted(cuts), len(body)])] if times else []
    request = Request(
        draw(st.sampled_from(["POST", "GET"])),
        draw(
            st.sampled_from([URL, "https://api.openai.com/v1/chat/completions", "http://h/?a=%20"])
        ),
        Headers(draw(st.dictionaries(NAMES, HEADER_TEXT, max_size=3))),
        draw(BODY),
    )
    return Record(
        "session.yaml#0",
        "openai",
        "openai.chat",
        draw(st.none() | st.just(request)),
        draw(st.integers(100, 599)),
        Headers(draw(st.dictionaries(NAMES, HEADER_TEXT, max_size=3))),
        tuple(zip(times, pieces, strict=True)),
        started_at=draw(st.none() | st.datetimes(timezones=st.just(UTC))),
        round=draw(st.integers(0, 3)),
        model=draw(st.sampled_from(["m", "gpt-x"])),
        head_s=draw(st.none() | st.floats(0, 100)),
        duration_s=draw(st.none() | st.floats(0, 1000)),
        end=draw(st.sampled_from(get_args(End))),
        error=draw(st.none() | st.text(st.characters(codec="utf-8"), max_size=12)),
        redacted=tuple(draw(st.lists(NAMES, max_size=2))),
        timed=draw(st.booleans()),
    )


def dump_ascii(records: Iterable[Record]) -> str:
    form = form_of(Path("x.yaml"), ascii=True)
    text = form.join(map(form.entry, records))
    assert text.isascii()
    return text


@pytest.mark.parametrize("write", [dump, dump_json, dump_ascii])
@given(record=records())
def test_the_same_bytes_in_the_same_pieces_at_the_same_times(write, record):
    request_body = record.request.body if record.request else b""
    assume(write is not dump_json or (_is_text(record.body) and _is_text(request_body)))

    text = write([record])
    (again,) = loads(text)

    assert [chunk for _, chunk in again.chunks] == [chunk for _, chunk in record.chunks]
    if record.timed:
        for (kept, _), (recorded, _) in zip(again.chunks, record.chunks, strict=True):
            assert _near(kept, recorded)
    assert _near(again.head_s, record.head_s)
    assert _near(again.duration_s, record.duration_s)
    assert timeless(again) == timeless(record)
    assert write([again]) == text


def _near(kept: float | None, recorded: float | None) -> bool:
    if kept is None or recorded is None:
        return kept is recorded
    return abs(kept - recorded) < 0.00005


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(BODY)
def test_vcrpy_reads_the_same_body(body):
    record = replace(STREAMED, chunks=((0.5, body),))

    (interaction,) = yaml.safe_load(dump([record]))["interactions"]

    stored = interaction["response"]["body"]["string"]
    assert (stored.encode() if isinstance(stored, str) else stored) == body


@pytest.mark.parametrize(
    ("body", "style"),
    [
        (STREAM, "string: |+\n"),
        (b'{"a":1}', "string: |-\n"),
        (b"one\n", "string: |\n"),
        (b"\n\ndata: x\n\n", "string: |2+\n"),
        ("🙂 é\n\tx".encode(), "string: |-\n"),
        (b"a\r\n\r\n", 'string: "a\\r\\n\\r\\n"\n'),
        (b"trailing \nblank", 'string: "trailing \\nblank"\n'),
        (b"\x00", 'string: "\\0"\n'),
        (b"\xff", "string: !!binary |\n"),
        (b"", "string: ''\n"),
    ],
)
def test_bodies_are_literal_blocks_where_yaml_can_carry_them(body, style):
    text = dump([replace(STREAMED, chunks=((0.5, body),))])

    assert style in text
    assert loads(text)[0].body == body


def test_the_names_of_stand_ins_are_no_trap():
    body = b"a: llmbridge-body-answered\nb: llmbridge-body-asked\n"
    record = replace(STREAMED, chunks=((0.5, body),), request=replace(ASKED, body=body))

    (again,) = loads(dump([record]))

    assert (again.body, again.request) == (body, record.request)


def test_states_the_length_and_no_coding():
    record = replace(
        STREAMED,
        headers=Headers(
            {
                "content-length": "7",
                "content-encoding": "gzip",
                "transfer-encoding": "chunked",
                "x-request-id": "r",
            }
        ),
    )

    assert loads(dump([record]))[0].headers == Headers(
        {"content-length": str(len(STREAM)), "x-request-id": "r"}
    )


def test_a_body_kept_compressed_is_written_plain():
    record = replace(
        STREAMED,
        headers=Headers({"content-encoding": "gzip", "content-type": "text/event-stream"}),
        chunks=((0.1, gzip.compress(STREAM)),),
    )

    (again,) = loads(dump([record]))

    assert again.chunks == tuple((0.0, event) for event in EVENTS)
    assert not again.timed


def test_odd_characters_outside_of_bodies_do_not_spoil_the_file():
    record = replace(
        STREAMED, headers=Headers({"x-odd": "a\udcff\r\nb: c"}), error="\ud800", end="truncated"
    )

    (again,) = loads(dump([record]))

    assert (again.headers["x-odd"], again.error) == ("a\\udcff  b: c", "\\ud800")


def test_a_record_without_a_request_stays_one():
    record = replace(STREAMED, request=None, provider="x", dialect="openai.chat", model=None)

    assert loads(dump([record])) == [record]


def test_large_images_are_stored_as_length_and_hash():
    image = random.Random(1).randbytes(9000)
    body = b'{"image": "data:image/png;base64,%b"}' % b64encode(image)
    headers = Headers({"content-length": str(len(body))})
    record = replace(STREAMED, request=replace(ASKED, body=body, headers=headers))

    (again,) = loads(dump([record]))

    marker = b"<blob:sha256:%b:9000>" % sha256(image).hexdigest().encode()
    assert again.request is not None
    assert again.request.body == b'{"image": "data:image/png;base64,%b"}' % marker
    assert again.request.headers["content-length"] == str(len(again.request.body))


@pytest.mark.parametrize(
    ("body", "style"),
    [(STREAM, "string: |+\n"), ("é\n".encode(), 'string: "\\xE9\\n"\n')],
    ids=["ascii", "accent"],
)
def test_in_ascii_a_body_is_a_literal_block_where_it_is_ascii(body, style):
    form = form_of(Path("x.yaml"), ascii=True)

    assert style in form.entry(replace(STREAMED, chunks=((0.5, body),)))


def test_json_is_ascii_always():
    record = replace(STREAMED, chunks=((0.5, "é".encode()),))

    assert dump_json([record, record]).isascii()
    assert json.loads(dump_json([record]))["version"] == 1
    assert loads(dump_json([])) == []
