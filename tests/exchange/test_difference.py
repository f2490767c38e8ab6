from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.exchange.difference import differences, in_words, same_start

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("recorded", "now", "said"),
    [
        ({"a": 1}, {"a": 2}, "$.a: recorded 1, now 2"),
        ({"a": 1}, {"a": True}, "$.a: recorded 1, now true"),
        ({"a": 1}, {}, "$.a: recorded 1, now nothing"),
        ({}, {"a": None}, "$.a: recorded nothing, now null"),
        ({"a": [1, 2]}, {"a": [1]}, "$.a[1]: recorded 2, now nothing"),
        ({"a": [1]}, {"a": {"b": 1}}, '$.a: recorded [1], now {"b": 1}'),
        ({"m": [{"x": "hi"}]}, {"m": [{"x": "ho"}]}, '$.m[0].x: recorded "hi", now "ho"'),
    ],
)
def test_a_difference_names_its_place_and_both_values(recorded: Any, now: Any, said: str) -> None:
    assert in_words(differences(recorded, now)) == said


def test_a_long_text_is_shown_around_the_place_where_it_differs() -> None:
    before = "x" * 1000

    said = in_words(differences(before + "one" + before, before + "two" + before))

    assert said == (
        f'$: recorded "...{"x" * 20}one{"x" * 37}...", now "...{"x" * 20}two{"x" * 37}..."'
    )


def test_many_differences_are_counted() -> None:
    said = in_words(differences(list(range(9)), [0] * 9), most=2)

    assert said == "$[1]: recorded 1, now 0; $[2]: recorded 2, now 0; and 6 more"


def test_deep_nesting_is_no_trouble() -> None:
    one: Any = 1
    other: Any = 2
    for _ in range(5000):
        one, other = [one], [other]

    assert differences(one, other)[0].path == "$" + "[0]" * 5000


@given(JSON, JSON)
def test_there_is_a_difference_where_values_are_not_the_same(one: Any, other: Any) -> None:
    assert bool(differences(one, other)) == (repr(one) != repr(other) and not equal(one, other))


def equal(one: Any, other: Any) -> bool:
    """JSON's equality: true is not 1, and the order of keys does not count."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@given(st.text(alphabet="ab"), st.text(alphabet="ab"))
def test_the_same_start_is_the_longest_one(one: str, other: str) -> None:
    length = same_start(one, other)

    assert one[:length] == other[:length]
    assert one[length : length + 1] != other[length : length + 1] or one == other
