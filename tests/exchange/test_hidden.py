"""llmbridge.exchange.hidden: what is remembered, for whom, and how much of it."""

from collections.abc import Callable
from typing import Any

from llmbridge.exchange.hidden import HiddenRounds
from llmbridge.wire.tool_turns import Hidden


def hidden(text: str = "x") -> Hidden:
    said: dict[str, Any] = {"role": "assistant", "content": text}
    return Hidden((said,))


def said(words: str) -> Callable[[], bytes]:
    return words.encode


def test_it_is_found_by_any_of_its_ids_after_the_same_words():
    memory = HiddenRounds(10_000)
    memory.keep("alice", ["a", "b"], b"hi", hidden())

    found = [
        memory.find("alice", ["z", "b"], said("hi")),
        memory.find("alice", ["a"], None),
        memory.find("alice", ["a"], said("hello")),
        memory.find("bob", ["a"], said("hi")),
        memory.find("alice", ["c"], said("hi")),
        memory.find("alice", [], said("hi")),
    ]

    assert found == [hidden(), hidden(), None, None, None, None]


def test_of_two_with_one_id_the_words_before_decide_and_else_the_later():
    memory = HiddenRounds(10_000)
    memory.keep("alice", ["a"], b"one", hidden("first"))
    memory.keep("alice", ["a"], b"two", hidden("second"))

    assert memory.find("alice", ["a"], said("one")) == hidden("first")
    assert memory.find("alice", ["a"], None) == hidden("second")


def test_the_longest_unused_goes_first_when_there_is_no_room():
    memory = HiddenRounds(250)
    for name in ("a", "b"):
        memory.keep("alice", [name], b"", hidden("x" * 60))

    memory.find("alice", ["a"], said(""))
    memory.keep("alice", ["c"], b"", hidden("x" * 60))

    kept = [name for name in "abc" if memory.find("alice", [name], said(""))]
    assert kept == ["a", "c"]
    assert repr(memory) == "HiddenRounds(2 answers, 192 bytes)"


def test_what_has_no_id_or_is_too_large_is_not_kept():
    memory = HiddenRounds(100)
    memory.keep("alice", ["", ""], b"", hidden())
    memory.keep("alice", ["a"], b"", hidden("x" * 200))

    assert repr(memory) == "HiddenRounds(0 answers, 0 bytes)"


def test_the_words_before_are_not_looked_at_where_no_id_is_known():
    memory = HiddenRounds(10_000)
    memory.keep("alice", ["a"], b"hi", hidden())

    def dear() -> bytes:
        raise AssertionError("nobody asks")

    assert memory.find("alice", ["b"], dear) is None
