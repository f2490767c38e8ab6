import asyncio
from functools import partial

from llmbridge.frontends.connection import STARTS, Connections


async def test_calls_that_come_together_begin_few_a_turn_and_what_else_there_is_to_do_goes_between():
    loop, open_ones, begun = asyncio.get_running_loop(), Connections(), list[int]()
    for number in range(2 * STARTS + 1):
        open_ones.start(partial(begun.append, number), loop)

    counts: list[int] = []
    for _ in range(3):
        loop.call_soon(lambda: counts.append(len(begun)))
        await asyncio.sleep(0)

    assert counts == [STARTS, 2 * STARTS, 2 * STARTS + 1]
    assert begun == [*range(2 * STARTS + 1)]


async def test_a_call_that_begins_the_next_one_begins_few_a_turn_too():
    loop, open_ones, begun = asyncio.get_running_loop(), Connections(), list[int]()

    def begin():
        begun.append(len(begun))
        if len(begun) < 40:
            open_ones.start(begin, loop)

    open_ones.start(begin, loop)
    counts = list[int]()
    for _ in range(6):
        await asyncio.sleep(0)
        counts.append(len(begun))

    assert counts == [1, 2, 3, 4, 5, 6]
