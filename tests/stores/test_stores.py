from dataclasses import replace
from datetime import timedelta

import pytest

from llmbridge.errors import ConfigurationError
from tests.stores.kept import ASK, NOON, answered, asked


async def test_a_start_is_there_as_soon_as_begin_returns(store):
    await store.begin(asked("a"))

    assert store.interceptions() == [asked("a")]


async def test_an_end_replaces_the_start(store):
    ended = asked(
        "a",
        ended_at=NOON + timedelta(seconds=2),
        status=200,
        end="completed",
        actor="bob",
        error="\x00\udc80\x1a0041",
        fault="f",
        replayed=True,
    )
    await store.begin(asked("a"))

    store.end(ended)
    store.flush()

    assert store.interceptions() == [ended]


async def test_records_come_back_whole_in_the_order_they_were_made(store):
    made = [
        answered(
            "b",
            b"x" * 100_000,
            started_at=NOON,
            head_s=0.1,
            duration_s=1.5,
            model="m",
            key_hint="sk-a...0001",
        ),
        replace(answered("a", round=1, error="e", redacted=("r",), timed=False), request=None),
        *(answered(str(number)) for number in range(250)),
    ]

    for record in made:
        store.add(record)
    store.flush()

    assert (store.records(), list(store)) == (made, made)
    assert [record.chunks for record in store] == [record.chunks for record in made]


async def test_interceptions_come_by_start_time(store):
    for id, second in (("late", 9), ("early", 1), ("middle", 5)):
        await store.begin(asked(id, second))

    assert [each.id for each in store.interceptions()] == ["early", "middle", "late"]


async def test_interceptions_of_one_moment_come_by_their_ids(store):
    for id in ("b", "a", "B"):
        await store.begin(asked(id))
    without_zone = replace(asked("c"), started_at=NOON.replace(tzinfo=None))
    await store.begin(without_zone)

    assert [each.id for each in store.interceptions()] == ["B", "a", "b", "c"]


async def test_a_filter_names_a_field_and_its_value(store):
    made = [answered("a"), answered("b", model="m", started_at=NOON), answered("b", round=1)]
    for record in made:
        store.add(record)
    store.flush()

    assert store.records(interception_id="b", round=1) == [made[2]]
    assert store.records(started_at=NOON, model="m") == [made[1]]
    assert store.records(request=ASK, model=None) == [made[0], made[2]]


@pytest.mark.parametrize("kind", ["records", "interceptions"])
def test_an_unknown_filter_is_told_with_those_there_are(store, kind):
    with pytest.raises(ConfigurationError, match=r"no filter 'modle': use one of .*model"):
        getattr(store, kind)(modle="x")
