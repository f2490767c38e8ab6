import asyncio
import gc

from llmbridge.upstreams.per_loop import PerLoop


class Thing:
    """Remembers that it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


async def test_a_loop_has_one_and_keeps_it() -> None:
    things = PerLoop(Thing, Thing.close)

    first, second = await things.here(), await things.here()
    await things.aclose()

    assert first is second
    assert (first.closed, first.value.closed) == (True, 1)


async def test_after_closing_another_is_made() -> None:
    things = PerLoop(Thing, Thing.close)
    first = await things.here()
    await things.aclose()

    second = await things.here()
    await things.aclose()
    await things.aclose()

    assert first is not second
    assert [first.value.closed, second.value.closed] == [1, 1]


async def test_one_in_use_is_not_closed() -> None:
    things = PerLoop(Thing, Thing.close)
    held = await things.here()
    held.users += 1

    await things.aclose()
    before = held.value.closed
    held.users -= 1
    await things.aclose()

    assert (before, held.value.closed) == (0, 1)


def test_each_loop_has_its_own_which_ends_with_it() -> None:
    things = PerLoop(Thing, Thing.close)

    held = [asyncio.run(things.here()) for _ in range(3)]

    assert [each.value.closed for each in held] == [1, 1, 1]
    assert len({id(each.value) for each in held}) == 3


async def test_it_ends_with_its_owner_even_in_a_ring_of_garbage() -> None:
    things = PerLoop(Thing, Thing.close)
    things.ring = things  # type: ignore[attr-defined]  # as a bridge and its handlers refer to each other
    thing = (await things.here()).value

    del things
    gc.collect()
    for _turn_of_the_loop in range(5):
        await asyncio.sleep(0)

    assert thing.closed == 1


def test_a_loop_that_was_just_closed_is_forgotten_when_the_next_one_asks() -> None:
    things = PerLoop(Thing, Thing.close)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(things.here())
    loop.close()

    asyncio.run(things.here())

    assert loop not in things._kept
