from typing import Any

import pytest

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.json_path import JsonPath, join


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("$.id", {"list": [{"id": 2, "a b": 3}, {"more": [4, 5]}]}),
        ("$..id", {"list": [{"a b": 3}, {"more": [4, 5]}]}),
        ("$.list[*].id", {"id": 1, "list": [{"a b": 3}, {"more": [4, 5]}]}),
        ("$.list[0]['a b']", {"id": 1, "list": [{"id": 2}, {"more": [4, 5]}]}),
        ('$["list"][-1].more[*]', {"id": 1, "list": [{"id": 2, "a b": 3}, {"more": []}]}),
        ("$.list[1].more[-2]", {"id": 1, "list": [{"id": 2, "a b": 3}, {"more": [5]}]}),
        ("$.*", {}),
        ("$.nothing[7].here", {"id": 1, "list": [{"id": 2, "a b": 3}, {"more": [4, 5]}]}),
    ],
)
def test_what_the_path_leads_to_is_removed(path: str, left: Any) -> None:
    value = {"id": 1, "list": [{"id": 2, "a b": 3}, {"more": [4, 5]}]}

    JsonPath(path).remove(value)

    assert value == left


@pytest.mark.parametrize("text", ["", "$", "messages", "$id", "$.a.", "$.a[", "$.a[?(@.b)]"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no path"):
        JsonPath(text)


def test_a_path_is_written_as_it_is_read() -> None:
    path = join(join(join("$", "list"), 0), "a b")
    value = {"list": [{"a b": 1}]}

    JsonPath(path).remove(value)

    assert (path, value) == ("$.list[0]['a b']", {"list": [{}]})
