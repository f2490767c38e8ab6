"""A store that tells of what ends."""

from pathlib import Path

from llmbridge.stores.followed import FollowedStore
from llmbridge.stores.memory import MemoryStore
from llmbridge.stores.sql import SqlStore
from tests.stores.kept import asked


def test_a_store_that_is_closed_has_told_all_and_nobody_waits_for_more() -> None:
    told: list[str] = []
    store = FollowedStore(MemoryStore(), lambda interception, records: told.append(interception.id))

    store.end(asked("a", end="completed"))
    store.close()
    store.catch_up(timeout_s=3600)

    assert told == ["a"]


def test_a_store_that_is_used_again_tells_again() -> None:
    told: list[str] = []
    store = FollowedStore(MemoryStore(), lambda interception, records: told.append(interception.id))

    for id in ("a", "b"):
        store.end(asked(id, end="completed"))
        store.close()
        store.close()

    assert told == ["a", "b"]


def test_it_waits_where_the_store_that_it_follows_does(tmp_path: Path) -> None:
    stores = (MemoryStore(), SqlStore(f"sqlite:///{tmp_path / 'calls.db'}"))
    followed = [FollowedStore(store, lambda *_: None) for store in stores]

    assert [store.at_once for store in followed] == [True, False]
    for store in followed:
        store.close()
