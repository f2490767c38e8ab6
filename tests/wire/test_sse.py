"""Server-sent events: the standard's rules, whatever the cut; where events end."""

import base64
import hashlib
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.wire.sse import SSE, Framer, SSEDecoder, encode_sse, ends_event
from tests.shared import SHARED, needs_shared

ANTHROPIC = (
    b"event: message_start\n"
    b'data: {"type":"message_start"}\n\n'
    b"event: ping\n"
    b'data: {"type": "ping"}\n\n'
    b"event: message_stop\n"
    b'data: {"type":"message_stop"}\n\n'
)
OPENROUTER = (
    b': OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\ndata: {"n":1}\n\ndata: [DONE]\n\n'
)

# Everything that has a meaning of its own, so that random streams meet in the corners.
PARTS = [
    *[
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b"\xef\xbb\xbf",
        b":",
        b" ",
        b"\0",
        b"\xf0\x9f\x98\x80",
    ],
    *[
        b"data",
        b"data:",
        b"data: x",
        b"\ndata: ",
        b"datas: x",
        b" data: x",
        b"event: a",
        b"event:",
        b"event: ",
    ],
    *[
        b"id: 7",
        b"id",
        b"id: a\0",
        b"retry: 12",
        b"retry: x",
        b": note",
        b"\xff",
        b"\xf0\x9f",
        b"[DONE]",
        b"end",
    ],
    *[
        b"data: [DONE]\n\n",
        b"event: end\ndata: 1\n\n",
        b"event: end\r\ndata: 1\r\n\r\n",
        b"data: 1\r\r",
    ],
]
streams = st.lists(st.sampled_from(PARTS), max_size=14).map(b"".join)
names = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)
texts = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]))


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(min(place, len(whole)) for place in places), len(whole)]
    return [whole[begin:end] for begin, end in pairwise(borders)]


def decoded(chunks: list[bytes]) -> tuple[list[SSE], int | None, str]:
    decoder = SSEDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events, decoder.retry, decoder.last_event_id


def by_the_book(whole: bytes) -> tuple[list[SSE], int | None, str]:
    """The standard's own algorithm, line by line over the whole stream."""
    text = whole.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _ = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    events: list[SSE] = []
    data, name, last_id, kept_id, retry = "", "", "", "", None
    for line in lines:
        field, _, value = line.partition(":")
        value = value[1:] if value[:1] == " " else value
        if not line:
            kept_id = last_id
            events += [SSE(name or "message", data[:-1], last_id)] if data else []
            data = name = ""
        elif field == "data":
            data += value + "\n"
        elif field == "event":
            name = value
        elif field == "id":
            last_id = last_id if "\0" in value else value
        elif field == "retry":
            retry = int(value) if value and set(value) <= set("0123456789") else retry
    return events, retry, kept_id


def test_event_has_the_defaults_of_the_standard():
    assert decoded([b"data: hello\n\n"]) == ([SSE("message", "hello", "")], None, "")


@pytest.mark.feature("aibridge", 15)
def test_anthropic_stream_keeps_its_event_names():
    events, _, _ = decoded([ANTHROPIC])

    assert events == [
        SSE("message_start", '{"type":"message_start"}'),
        SSE("ping", '{"type": "ping"}'),
        SSE("message_stop", '{"type":"message_stop"}'),
    ]


def test_comments_of_openrouter_are_no_events():
    events, _, _ = decoded([OPENROUTER])

    assert events == [SSE(data='{"n":1}'), SSE(data="[DONE]")]


def test_crlf_cut_in_two_is_one_line_end():
    events, _, _ = decoded([b"data: a\r", b"\ndata: b\r\n\r", b"\n", b"data: c\r\n\r\n"])

    assert events == [SSE(data="a\nb"), SSE(data="c")]


def test_event_comes_as_soon_as_its_last_cr_is_there():
    assert SSEDecoder().feed(b"data: a\r\n\r") == [SSE(data="a")]


def test_character_cut_in_two_is_whole_again():
    events, _, _ = decoded([b"data: \xf0\x9f", b"\x98\x80\n\n"])

    assert events == [SSE(data="😀")]


def test_invalid_bytes_are_replaced():
    events, _, _ = decoded([b"data: a\xffb\xf0\x9f\n\n"])

    assert events == [SSE(data="a\ufffdb\ufffd")]


def test_id_holds_until_it_is_replaced():
    events, _, last_id = decoded([b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\nid: 2\n\n"])

    assert (events, last_id) == ([SSE(data="a", id="1"), SSE(data="b", id="1"), SSE(data="c")], "2")


def test_id_of_an_open_block_does_not_count_yet():
    assert decoded([b"id: 1\ndata: a\n\nid: 2\n"]) == ([SSE(data="a", id="1")], None, "1")


def test_retry_counts_from_the_end_of_its_line():
    assert decoded([b"retry: 10\n\nretry: 20\nretry: 30"]) == ([], 20, "")


def test_retry_too_long_for_any_clock_is_ignored():
    assert decoded([b"retry: " + b"9" * 10_000 + b"\n\n"]) == ([], None, "")


def test_open_event_is_handed_out_by_close():
    decoder = SSEDecoder()
    decoder.feed(b"id: 3\ndata: a\n\ndata: [DONE]")

    assert decoder.close() == [SSE(data="[DONE]", id="3")]


@pytest.mark.parametrize("whole", [b"", b"data: a\n\n", b"data: a\n\n: bye", b"event: a\n"])
def test_close_has_nothing_to_give_where_no_data_is_open(whole):
    decoder = SSEDecoder()
    decoder.feed(whole)

    assert decoder.close() == []


def test_huge_event_in_small_pieces_takes_linear_time():
    whole = b"data: " + b"x" * 4_000_000 + b"\n\n"
    chunks = [whole[place : place + 16] for place in range(0, len(whole), 16)]

    events, _, _ = decoded(chunks)

    assert events == [SSE(data="x" * 4_000_000)]


@given(streams)
def test_decoder_follows_the_standard(whole):
    assert decoded([whole]) == by_the_book(whole)


@given(streams, st.lists(st.integers(0, 60), max_size=6))
def test_cuts_do_not_change_the_events(whole, places):
    assert decoded(cut(whole, places)) == decoded([whole])


@given(st.binary(max_size=60))
def test_no_bytes_are_an_error(whole):
    assert decoded([bytes([byte]) for byte in whole]) == by_the_book(whole)


def test_encoder_writes_only_what_is_set():
    assert encode_sse(SSE(data="a")) == b"data: a\n\n"
    assert encode_sse(SSE("ping", "", "7")) == b"event: ping\nid: 7\ndata: \n\n"


def test_encoder_writes_a_data_line_for_each_line_of_data():
    assert encode_sse(SSE(data="a\nb\r\nc\r")) == b"data: a\ndata: b\ndata: c\ndata: \n\n"


def test_encoder_replaces_what_utf8_cannot_carry():
    assert encode_sse(SSE(data="\ud83d")) == b"data: ?\n\n"


@pytest.mark.parametrize("event", [SSE("a\nb"), SSE("a", id="1\r")])
def test_line_break_in_a_name_or_id_is_refused(event):
    with pytest.raises(ValueError, match="line break"):
        encode_sse(event)


@given(st.lists(st.builds(SSE, names, texts)))
def test_what_was_encoded_is_decoded_again(events):
    whole = b"".join(map(encode_sse, events))

    assert decoded([whole]) == (events, None, "")


def is_end(event: SSE) -> bool:
    return event.event == "end" or event.data == "[DONE]"


def framed(chunks: list[bytes]) -> tuple[int | None, bool, bool]:
    """The terminal event's end in the whole stream; what `close` says; at a border."""
    framer = Framer(is_end, (b"end", b"[DONE]"))
    found, before = None, 0
    for chunk in chunks:
        place = framer.feed(chunk)
        if place is not None:
            assert found is None
            found = before + place
        before += len(chunk)
    return found, framer.close(), framer.at_border


def terminal_by_decoder(whole: bytes) -> tuple[int | None, bool]:
    """The same two facts, found by decoding byte by byte."""
    decoder = SSEDecoder()
    for place in range(1, len(whole) + 1):
        if any(map(is_end, decoder.feed(whole[place - 1 : place]))):
            if whole[place - 1 :] == b"\r":
                return None, True
            return place + (whole[place - 1 : place + 1] == b"\r\n"), False
    return None, any(map(is_end, decoder.close()))


def test_framer_tells_where_the_terminal_event_ends():
    assert framed([b"data: 1\n\n", b"data: [DONE]\n\n: bye\n\n"]) == (23, False, True)


def test_framer_takes_the_whole_crlf_of_the_last_line():
    assert framed([b"data: [DONE]\r\n\r\n"]) == (16, False, True)


def test_framer_waits_for_the_lf_of_the_last_line():
    framer = Framer(is_end, (b"[DONE]",))

    answers = [framer.feed(chunk) for chunk in (b"data: [DONE]\r\n\r", b"", b"\n", b"x")]

    assert answers == [None, None, 1, None]


def test_marker_inside_another_event_is_not_terminal():
    assert framed([b'data: "say [DONE]"\n\nevent: x\ndata: the end\n\n']) == (None, False, True)


def test_second_terminal_event_is_not_told():
    assert framed([b"event: end\ndata: 1\n\n", b"data: [DONE]\n\n"]) == (20, False, True)


def test_terminal_event_left_open_is_told_by_close():
    assert framed([b"data: 1\n\n", b"data: [DONE]"]) == (None, True, False)


def test_each_marked_event_is_shown_once_until_one_is_terminal():
    shown: list[str] = []

    def is_third(event: SSE) -> bool:
        shown.append(event.data)
        return event.data == "3!"

    framer = Framer(is_third, (b"!",))
    for chunk in cut(b"data: 1!\n\ndata: 2\n\ndata: 3!\n\ndata: 4!\n\n", list(range(0, 40, 3))):
        framer.feed(chunk)

    assert shown == ["1!", "3!"]


@pytest.mark.parametrize(
    ("whole", "at_border"),
    [
        (b"", True),
        (b"data: a\n\n", True),
        (b"data: a\r\n\r\n", True),
        (b"data: a\n\n\n", True),
        (b"data: a\n\n: PROCESSING\n", True),
        (b"\xef\xbb\xbf: hi\n", True),
        (b"data: a\n\n: PROCESS", False),
        (b"data: a\n", False),
        (b"data: a\n\nevent: b\n", False),
        (b"data: a\n\nid: 7\n", False),
    ],
)
def test_border_is_where_another_event_can_be_written(whole, at_border):
    assert framed([whole])[2] is at_border


def test_huge_marked_event_in_small_pieces_takes_linear_time():
    whole = b"data: [DONE]\ndata:" + b"[DONE]\ndata:" * 300_000 + b"\n\n"
    chunks = [whole[place : place + 16] for place in range(0, len(whole), 16)]

    assert framed(chunks) == (None, False, True)


@given(streams)
def test_framer_agrees_with_the_decoder(whole):
    found, open_end, _ = framed([whole])

    assert (found, open_end) == terminal_by_decoder(whole)


@given(streams, st.lists(st.integers(0, 60), max_size=6))
def test_cuts_do_not_change_the_frames(whole, places):
    assert framed(cut(whole, places)) == framed([whole])


@given(streams)
def test_event_written_at_a_border_is_read_as_it_is(whole):
    *_, at_border = framed([whole])
    events, retry, last_id = decoded([whole])

    after = decoded([whole + b"event: probe\ndata: x\n\n"])

    assert not at_border or after == ([*events, SSE("probe", "x", last_id)], retry, last_id)


def vectors() -> list[Any]:
    if SHARED is None:
        return []
    cases = json.loads((SHARED / "conformance/sse/vectors.json").read_text())["cases"]
    return [
        pytest.param(case, split, id=f"{case['id']}-{split}")
        for case in cases
        for split in case["splits"]
    ]


def chunks_of(case: dict[str, Any]) -> list[bytes]:
    long = [
        chunk if isinstance(chunk, dict) else {"b64": chunk, "repeat": 1}
        for chunk in case["chunks"]
    ]
    return [base64.b64decode(chunk["b64"]) * chunk["repeat"] for chunk in long]


def splits(chunks: list[bytes], split: str) -> Iterator[list[bytes]]:
    whole = b"".join(chunks)
    if split == "as_given":
        yield chunks
    elif split == "cut_each":
        yield from (cut(whole, [place]) for place in range(len(whole) + 1))
    else:
        size = {"whole": len(whole), "bytes": 1}.get(split) or int(split.removeprefix("every_"))
        yield [whole[place : place + size] for place in range(0, len(whole), size)]


def as_expected(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in event.items() if k != "times"}
        for event in events
        for _ in range(event.get("times", 1))
    ]


def as_spelled(event: SSE, like: dict[str, Any]) -> dict[str, Any]:
    spelled: dict[str, Any] = {"event": event.event, "data": event.data, "id": event.id}
    if "data" not in like:
        data = spelled.pop("data").encode()
        spelled |= {"data_utf8_len": len(data), "data_sha256": hashlib.sha256(data).hexdigest()}
    return spelled


@pytest.mark.feature("aibridge", 15)
@needs_shared
@pytest.mark.parametrize(("case", "split"), vectors())
@pytest.mark.feature("gateway", 39)
def test_conformance_vector(case, split):
    wanted = as_expected(case["expect"]["events"])

    for chunks in splits(chunks_of(case), split):
        events, retry, last_id = decoded(chunks)

        spelled = [as_spelled(*pair) for pair in zip(events, wanted, strict=True)]
        assert (spelled, retry, last_id) == (
            wanted,
            case["expect"]["retry"],
            case["expect"]["last_event_id"],
        )


@needs_shared
@pytest.mark.parametrize(("case", "split"), vectors())
def test_framer_knows_the_borders_of_the_vectors(case, split):
    for chunks in splits(chunks_of(case), split):
        _, _, at_border = framed(chunks)

        assert at_border == (not case["expect"]["pending_at_eof"])


@given(st.lists(st.sampled_from(PARTS)).map(b"".join))
def test_what_is_written_after_a_blank_line_is_an_event_of_its_own(stream):
    alone, _, _ = decoded([stream.rstrip(b"\r\n") + b"\n\n"])

    for end in (b"\n\n", b"\r\n\r\n", b"\n\r\n", b"\r\r"):
        begun = stream.rstrip(b"\r\n") + end
        events, _, _ = decoded([begun + b"event: ping\ndata: {}\n\n"])

        assert ends_event(begun[-3:])
        assert [(each.event, each.data) for each in events] == [
            *[(each.event, each.data) for each in alone],
            ("ping", "{}"),
        ]


@pytest.mark.parametrize("tail", [b"", b"\n", b"\r\n", b"\r", b"data: x\r\n", b"}\n"])
def test_a_line_end_alone_ends_no_event(tail):
    assert not ends_event(tail)
