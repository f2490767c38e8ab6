import asyncio
from functools import partial

from llmbridge.frontends.connection import Connections


async def test_calls_that_come_together_begin_one_by_one_and_what_else_there_is_to_do_goes_between():
    loop, open_ones, done = asyncio.get_running_loop(), Connections(), list[str]()
    for number in (1, 2, 3):
        open_ones.start(partial(done.append, f"call {number}"), loop)

    for turn in (1, 2, 3):
        loop.call_soon(done.append, f"turn {turn}")
        await asyncio.sleep(0)

    assert done == ["call 1", "turn 1", "call 2", "turn 2", "call 3", "turn 3"]
