from asyncio import run
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.record import Interception, Record, Store
from llmbridge.stores.memory import MemoryStore

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def asked(id: str, second: int = 0, **more) -> Interception:
    request = Request("POST", "http://localhost/v1/messages", Headers(), b"{}")
    return Interception(id, NOON + timedelta(seconds=second), request, **more)


def answered(id: str, body: bytes = b"hi", **more) -> Record:
    return Record(
        id, "anthropic", "anthropic.messages", None, 200, Headers(), ((0.1, body),), **more
    )


def full(limit: int, *ids: str, size: int = 10_000) -> MemoryStore:
    """A store with one ended interception of each id, a record of this size in each."""
    store = MemoryStore(max_bytes=limit)
    for second, id in enumerate(ids):
        store.add(answered(id, b"x" * size))
        store.end(asked(id, second, end="completed"))
    return store


async def test_keeps_the_start_of_an_interception_until_its_end_replaces_it():
    store: Store = MemoryStore()
    await store.begin(asked("a"))
    begun = store.interceptions()

    store.end(asked("a", end="completed"))

    assert begun == [asked("a")]
    assert store.interceptions() == [asked("a", end="completed")]


async def test_interceptions_come_by_start_time():
    store = MemoryStore()
    for id, second in (("late", 9), ("early", 1), ("middle", 5)):
        await store.begin(asked(id, second))

    assert [each.id for each in store.interceptions()] == ["early", "middle", "late"]


def test_records_come_in_the_order_they_were_made():
    store = MemoryStore()
    made = [answered("a", round=0), answered("b"), answered("a", round=1)]
    for record in made:
        store.add(record)

    assert (store.records(), list(store), len(store)) == (made, made, 3)


def test_a_filter_names_a_field_and_its_value():
    store = MemoryStore()
    for record in (answered("a"), answered("b", model="m"), answered("b", round=1, model="m")):
        store.add(record)

    assert store.records(interception_id="b", round=1) == [answered("b", round=1, model="m")]
    assert store.records(model="other") == []


@pytest.mark.parametrize("kind", ["records", "interceptions"])
def test_an_unknown_filter_is_told_with_those_there_are(kind):
    with pytest.raises(ConfigurationError, match=r"no filter 'modle': use one of .*model"):
        getattr(MemoryStore(), kind)(modle="x")


def test_past_its_limit_it_drops_the_oldest_interceptions_whole():
    store = full(30_000, "a", "b", "c", "d")

    assert [each.id for each in store.interceptions()] == ["c", "d"]
    assert [each.interception_id for each in store] == ["c", "d"]


async def test_what_is_under_way_is_never_dropped():
    store = MemoryStore(max_bytes=30_000)
    await store.begin(asked("open"))
    store.add(answered("open", b"x" * 20_000))

    for id in ("a", "b", "c"):
        store.add(answered(id, b"x" * 10_000))

    assert [each.interception_id for each in store] == ["open", "c"]


def test_the_newest_stays_even_when_it_is_too_large_alone():
    assert len(full(100, "a", "b")) == 1


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_positive(limit):
    with pytest.raises(ConfigurationError, match="max_bytes"):
        MemoryStore(max_bytes=limit)


def test_reading_while_others_write():
    store = MemoryStore(max_bytes=50_000)

    def write(name: str) -> None:
        for index in range(300):
            id = f"{name}{index}"
            run(store.begin(asked(id, index)))
            store.add(answered(id))
            store.end(asked(id, index, end="completed"))

    writers = [Thread(target=write, args=(name,)) for name in "abcd"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert all(record.body == b"hi" for record in store)
        store.interceptions()
    for writer in writers:
        writer.join()

    kept = {each.id for each in store.interceptions()}
    assert kept == {record.interception_id for record in store}


def test_is_not_false_when_empty_and_says_what_it_holds():
    store = full(1_000_000, "a", "b")
    store.add(replace(answered("a"), round=1))

    assert bool(MemoryStore())
    assert repr(store) == "MemoryStore(2 interceptions, 3 records, max_bytes=1000000)"
    assert repr(MemoryStore()) == "MemoryStore(0 interceptions, 0 records)"


def test_can_be_read_after_it_was_closed():
    store = MemoryStore()
    store.add(answered("a"))

    store.flush()
    store.close()
    store.close()

    assert list(store) == [answered("a")]
