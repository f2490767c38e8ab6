import json
import math
from array import array
from base64 import b64decode
from typing import Any

import pytest

from llmbridge.upstreams.embeddings import embed, unit_vector


def embedded(**body: Any) -> Any:
    return json.loads(embed({"model": "m", **body}))


def test_a_vector_has_length_one() -> None:
    assert math.isclose(math.hypot(*unit_vector("Lisbon", 256)), 1)


def test_equal_texts_have_equal_vectors() -> None:
    first, second, third = embedded(input=["a", "b", "a"])["data"]

    assert first["embedding"] == third["embedding"]
    assert first["embedding"] != second["embedding"]


def test_other_texts_point_elsewhere() -> None:
    pair = zip(unit_vector("Lisbon", 256), unit_vector("Tokyo", 256), strict=True)

    assert abs(sum(one * other for one, other in pair)) < 0.3


@pytest.mark.parametrize(
    ("given", "count"),
    [("a text", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([], 0)],
    ids=["text", "texts", "tokens", "lists of tokens", "nothing"],
)
def test_each_input_has_one_vector(given: Any, count: int) -> None:
    data = embedded(input=given)["data"]

    assert [each["index"] for each in data] == [*range(count)]


def test_the_client_chooses_how_long_vectors_are() -> None:
    (only,) = embedded(input="a", dimensions=12)["data"]

    assert len(only["embedding"]) == 12


def test_packed_vectors_hold_the_same_numbers() -> None:
    (only,) = embedded(input="a", dimensions=8, encoding_format="base64")["data"]

    floats = array("f", b64decode(only["embedding"]))
    assert floats == array("f", unit_vector("a", 8))


def test_tokens_are_counted_in_words() -> None:
    assert embedded(input=["one two", "three"])["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
