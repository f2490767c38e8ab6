"""JSON as RFC 8259 has it, and never another exception than ValueError."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.canon.strict_json import loads_strict
from tests.shared import SHARED, needs_shared

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


def outcome(data: str | bytes) -> Any:
    try:
        return ("value", loads_strict(data))
    except ValueError:
        return ("error", None)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, 2.5, true, null, "x"]}', {"a": [1, 2.5, True, None, "x"]}),
        ('{"a": "é"}', {"a": "é"}),
        ('"é😀"'.encode(), "é😀"),
        (b'"\\ud83d\\ude00"', "😀"),
        (b" 1 \n", 1),
        (b"1e-400", 0.0),
    ],
)
def test_whole_document_has_its_value(data, value):
    assert loads_strict(data) == value


@pytest.mark.parametrize(
    "data",
    [
        *[
            b"",
            b" ",
            b"{",
            b'{"a":1}x',
            b"{} {}",
            b"[1,]",
            b"{'a':1}",
            b"01",
            b"1.",
            b'"\n"',
            b'"\\x"',
        ],
        *[b"NaN", b"[Infinity]", b'{"a":-Infinity}', b"1e400", b"-1e400", b"9" * 5000],
        *[b"\xef\xbb\xbf{}", "\ufeff{}", b'"\xff"', b'"\xed\xa0\x80"', '{"a":1}'.encode("utf-16")],
        *[b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000],
    ],
    ids=lambda data: repr(data[:12]),
)
def test_anything_else_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"."):
        loads_strict(data)


def test_last_of_equal_keys_wins():
    assert loads_strict(b'{"a": 1, "b": 2, "a": 3}') == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'"a\\ud83d"', "a\ufffd"),
        (b'{"\\uDFFF": ["\\uD83D\\uDE00\\udc00"]}', {"\ufffd": ["😀\ufffd"]}),
        (b'"\\\\ud83d"', "\\ud83d"),
    ],
)
def test_lone_surrogate_becomes_a_replacement_character(data, value):
    assert loads_strict(data) == value


@given(documents, st.booleans())
def test_what_json_writes_is_read_back(document, ascii_only):
    spelled = json.dumps(document, ensure_ascii=ascii_only)

    assert loads_strict(spelled.encode()) == document


@given(st.text(alphabet='{}[]",:\\u018dDefE+-.tnrl \n\x00é', max_size=12))
def test_whatever_is_read_can_be_written_as_json(text):
    kind, value = outcome(text)

    assert kind == "error" or outcome(json.dumps(value, allow_nan=False).encode()) == (kind, value)


def vectors() -> list[Any]:
    if SHARED is None:
        return []
    files = sorted((SHARED / "conformance/json_hostile").glob("*.json"))
    return [
        pytest.param(case, id=case["id"])
        for path in files
        for case in json.loads(path.read_text())["cases"]
    ]


def bytes_of(case: dict[str, Any]) -> bytes:
    parts = case.get("parts") or [case["input_b64"]]
    long = [part if isinstance(part, dict) else {"b64": part, "repeat": 1} for part in parts]
    return b"".join(base64.b64decode(part["b64"]) * part["repeat"] for part in long)


@needs_shared
@pytest.mark.parametrize("case", vectors())
def test_conformance_vector(case):
    kind, _ = outcome(bytes_of(case))

    assert case["expect"] in (kind, "either")
