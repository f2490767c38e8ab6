from typing import Any

import pytest

from llmbridge.upstreams.subset import difference

ASKED = {"model": "m", "tools": [{"name": "a"}, {"name": "b"}], "input": {"text": "hi", "n": 1}}


@pytest.mark.parametrize(
    "subset",
    [
        {},
        {"model": "m"},
        {"input": {"n": 1}},
        {"tools": [{"name": "a"}, {}]},
        {"tools": [..., {"name": "b"}], "model": ...},
    ],
)
def test_a_part_of_it_is_there(subset: Any) -> None:
    assert difference(subset, ASKED) == ""


@pytest.mark.parametrize(
    ("subset", "told"),
    [
        ({"model": "x"}, "$.model: expected 'x', was 'm'"),
        ({"modle": "m"}, "$.modle: expected 'm', there is none"),
        ({"input": {"text": "ho"}}, "$.input.text: expected 'ho', was 'hi'"),
        ({"tools": [{"name": "a"}]}, "$.tools: expected 1 items, there are 2"),
        ({"tools": [..., {"name": "c"}]}, "$.tools[1].name: expected 'c', was 'b'"),
        ({"input": "hi"}, "$.input: expected 'hi', was {'text': 'hi', 'n': 1}"),
    ],
)
def test_the_first_difference_is_told_with_its_place(subset: Any, told: str) -> None:
    assert difference(subset, ASKED) == told
