from llmbridge.exchange.remembered import Remembered


def test_what_was_remembered_is_found_by_an_equal_key():
    remembered = Remembered[str]()

    remembered.put((b"body", "/path"), "meaning", 4)

    assert remembered.get((bytes(bytearray(b"body")), "/path")) == "meaning"
    assert remembered.get((b"body", "/elsewhere")) is None


def test_the_oldest_go_when_all_are_too_large():
    remembered = Remembered[str](limit_bytes=10)

    for key in "abc":
        remembered.put(key, key.upper(), 4)

    assert [remembered.get(key) for key in "abc"] == [None, "B", "C"]


def test_what_is_remembered_twice_counts_once():
    remembered = Remembered[str](limit_bytes=10)

    for _ in range(5):
        remembered.put("a", "A", 4)
    remembered.put("b", "B", 4)

    assert len(remembered) == 2


def test_what_is_too_large_alone_is_not_kept():
    remembered = Remembered[str](limit_bytes=10)

    remembered.put("a", "A", 11)

    assert len(remembered) == 0
