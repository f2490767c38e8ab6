"""The value of a cut JSON document, however it is cut, and kept values that stay as they are."""

import base64
import copy
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.canon.partial_json import MAX_DEPTH, MAX_NUMBER, PartialJSON, parse_partial
from tests.shared import SHARED, needs_shared

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.text(alphabet='"\\/\n\té😀x', max_size=6)
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("ab\\é", max_size=2), inner, max_size=4)
    ),
    max_leaves=12,
)
spelled = st.builds(
    lambda document, ascii_only, indent: json.dumps(
        document, ensure_ascii=ascii_only, indent=indent
    ),
    documents,
    st.booleans(),
    st.sampled_from([None, 1]),
)
# Mostly broken: JSON's own characters in any order.
broken = st.text(alphabet='{}[]",:\\u018dDeE+-.tnrl \n\x00é', max_size=16)
places = st.lists(st.integers(0, 80), max_size=8)


def cut(whole: Any, at: list[int]) -> list[Any]:
    borders = [0, *sorted(min(place, len(whole)) for place in at), len(whole)]
    return [whole[begin:end] for begin, end in pairwise(borders)]


def seen(value: Any) -> str:
    """The value with its types and the order of its keys, which `==` passes over."""
    return repr(value)


def at_once(text: str | bytes) -> str:
    try:
        return seen(parse_partial(text))
    except ValueError:
        return "error"


def in_pieces(pieces: list[Any]) -> str:
    parser = PartialJSON()
    try:
        for piece in pieces:
            parser.feed(piece)
        return seen(parser.value)
    except ValueError:
        return "error"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{", {}),
        ('{"query": "hel', {"query": "hel"}),
        ('{"a": "x", "b', {"a": "x"}),
        ('{"a": "x", "b"', {"a": "x"}),
        ('{"a": "x", "b" : ', {"a": "x"}),
        ('{"a": tru', {}),
        ('{"a": true', {"a": True}),
        ("[1, 2", [1, 2]),
        ("[1, -", [1]),
        ("[1, 2.", [1]),
        ("[1, 2.5e+", [1]),
        ("[1, 2.5e+1", [1, 25.0]),
        ("[1,", [1]),
        ('{"a": [{"b": "c', {"a": [{"b": "c"}]}),
        ('{"a": "}', {"a": "}"}),
        ('{"a": "x\\', {"a": "x"}),
        ('{"a": "x\\u00', {"a": "x"}),
        ('{"a": "x\\u0041', {"a": "xA"}),
        ('{"a": "x\\ud83d', {"a": "x"}),
        ('{"a": "x\\ud83d\\ude0', {"a": "x"}),
        ('{"a": "x\\ud83d\\ude00', {"a": "x😀"}),
        (b'{"a": "x\xf0\x9f\x98', {"a": "x"}),
        ('{"a": 1, "b": 2, "a": 3', {"a": 3, "b": 2}),
        ('{"a": 1, "a": ', {"a": 1}),
        ('{"a\\n\\u00e9": 1', {"a\né": 1}),
        (' {"a": 1} \n', {"a": 1}),
        ('"ab', "ab"),
        ("-0.0", -0.0),
        ("12", 12),
        ("null", None),
        ("1e400", float("inf")),
    ],
)
def test_cut_document_has_the_value_it_determines(text, value):
    assert at_once(text) == seen(value)


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            " \n",
            "tr",
            "-",
            "]",
            "}",
            "// c",
            "{'a'",
            "{a",
            '{"a" 1',
            '{"a":1,}',
            "[1,]",
            "[1}",
            '{"a":[1}',
        ],
        *[
            '{"a":01',
            '{"a":+1',
            '{"a":1.e',
            '{"a":.5',
            '{"a":trux',
            '{"a":"\\x',
            '{"a":"\n',
            '{"a":"\\u00g',
        ],
        *[
            "NaN",
            "[Infinity",
            '{"a":-I',
            '{"a":1}x',
            "[1 2",
            '"a" "b"',
            "\ufeff{}",
            "[1 ,, 2]",
            "{,",
            "[\x00",
        ],
        *[b'"\xff', b'"\xed\xa0\x80', b'\xef\xbb\xbf{"a":1'],
        *["1" * (MAX_NUMBER + 1), "[" * 100_000, '{"a":' * 100_000],
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_begins_no_document_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        parse_partial(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [('"a\\ud83d"', "a\ufffd"), ('"a\\udc00b', "a\ufffdb"), ('{"\\ud83d":1', {"\ufffd": 1})],
)
def test_lone_surrogate_becomes_a_replacement_character(text, value):
    assert parse_partial(text) == value


def test_surrogates_of_one_character_join_across_pieces():
    assert PartialJSON().feed('"\\ud83d').feed("\\ude00 \ud83d").feed('\ude00"').value == "😀 😀"


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_is_read_up_to_the_limit(opening):
    assert in_pieces([opening] * MAX_DEPTH) == at_once(opening * MAX_DEPTH) != "error"
    assert in_pieces([opening] * (MAX_DEPTH + 1)) == at_once(opening * (MAX_DEPTH + 1)) == "error"


def test_there_is_no_value_before_the_first_character():
    parser = PartialJSON()

    with pytest.raises(ValueError, match="no JSON value yet"):
        _ = parser.value

    assert parser.feed("{").value == {}


def test_error_stays():
    parser = PartialJSON().feed('{"a": 1')

    for _ in range(2):
        with pytest.raises(ValueError, match="cannot stand here"):
            parser.feed("]")
    with pytest.raises(ValueError, match="cannot stand here"):
        _ = parser.value


def test_document_is_complete_with_its_last_bracket():
    parser = PartialJSON().feed('{"a": [1]')

    states = [parser.complete, parser.feed("}").complete, parser.feed(" \n").complete]

    assert states == [False, True, True]


def test_bare_number_is_complete_when_something_follows():
    parser = PartialJSON().feed("12")

    states = [parser.complete, parser.feed("3").complete, parser.feed(" ").complete]

    assert (states, parser.value) == ([False, False, True], 123)


def test_document_with_an_error_is_not_complete():
    parser = PartialJSON().feed("{}")

    with pytest.raises(ValueError, match="cannot stand here"):
        parser.feed("x")

    assert not parser.complete


def test_value_is_the_same_object_until_more_is_fed():
    parser = PartialJSON().feed('{"a": [1, "x')

    assert parser.value is parser.value


def test_kept_values_stay_as_they_were():
    text = '{"a": "one two", "b": [{"c": 12.5}, {"d": [true, "\\u00e9"]}], "a": {"e": []}} '
    parser = PartialJSON().feed(text[:1])

    kept = [parser.feed(char).value for char in text[1:]]

    assert [seen(value) for value in kept] == [
        at_once(text[: size + 2]) for size in range(len(kept))
    ]


@given(spelled, places)
def test_kept_values_of_any_document_stay_as_they_were(text, at):
    parser, kept, copies = PartialJSON().feed("["), [], []

    for piece in cut(text + "]", at):
        kept.append(parser.feed(piece).value)
        copies.append(copy.deepcopy(kept[-1]))

    assert kept == copies


@given(spelled, st.integers(0, 80), places)
def test_cuts_do_not_change_the_value(text, size, at):
    assert in_pieces(cut(text[:size], at)) == at_once(text[:size])


@given(spelled, st.integers(0, 80), places)
def test_cuts_inside_characters_do_not_change_the_value(text, size, at):
    data = text.encode()[:size]

    assert in_pieces(cut(data, at)) == at_once(data)


@given(broken, places)
def test_cuts_do_not_change_what_is_broken(text, at):
    assert in_pieces(cut(text, at)) == in_pieces(list(text)) == at_once(text)


@given(st.binary(max_size=12))
def test_no_bytes_raise_anything_else(data):
    assert in_pieces([bytes([byte]) for byte in data]) == at_once(data)


@given(spelled)
def test_whole_document_has_the_value_json_gives(text):
    assert at_once(text) == seen(json.loads(text))


@given(spelled, st.integers(0, 80))
def test_jiter_agrees_on_every_prefix(text, size):
    jiter = pytest.importorskip("jiter", reason="needs jiter: install '.[dev]', openai brings it")
    data = text.encode()[:size]

    try:
        judged = seen(jiter.from_json(data, partial_mode="trailing-strings"))
    except ValueError:
        judged = "error"

    assert at_once(data) == judged


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"content": 'say "x"\n' * 250_000}),
        json.dumps({"x" * 2_000_000: 1}),
        json.dumps([{"line": n, "ok": True, "text": "of"} for n in range(20_000)]),
        " " * 2_000_000 + "1",
    ],
    ids=["string", "key", "objects", "space"],
)
def test_long_document_in_small_pieces_takes_linear_time(text):
    pieces = [text[place : place + 10] for place in range(0, len(text), 10)]

    assert in_pieces(pieces) == seen(json.loads(text))


def vectors() -> list[Any]:
    if SHARED is None:
        return []
    cases = json.loads((SHARED / "conformance/partial_json/vectors.json").read_text())["cases"]
    return [pytest.param(case, id=case["id"]) for case in cases]


def points(case: dict[str, Any]) -> list[tuple[bytes, set[str]]]:
    """Each input of a case, and the outcomes that are right for it."""
    if "prefix_runs" in case:
        document = case["document"].encode()
        return [
            (document[:size], allowed(run))
            for run in case["prefix_runs"]
            for size in range(run["from"], run["to"] + 1)
        ]
    data = base64.b64decode(case["input_b64"]) if "input_b64" in case else case["input"].encode()
    return [(data, allowed(case))]


def allowed(case: dict[str, Any]) -> set[str]:
    """Empty when any value will do."""
    right = {seen(case["value"])} if "value" in case else set()
    return right | ({"error"} if case["expect"] in ("error", "error_or_value") else set())


@needs_shared
@pytest.mark.parametrize("case", vectors())
def test_conformance_vector(case):
    for data, right in points(case):
        outcomes = {
            at_once(data),
            *(in_pieces(cut(data, [place])) for place in range(len(data) + 1)),
        }
        outcomes.add(in_pieces([bytes([byte]) for byte in data]))

        assert len(outcomes) == 1
        assert outcomes <= right or case.get("expect") == "either"
