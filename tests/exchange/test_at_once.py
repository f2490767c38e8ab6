import asyncio
from collections.abc import Awaitable, Callable

import pytest

from llmbridge.exchange.at_once import Rest, at_once, begin, enter_task


class Step:
    """Waits for `wait`, and notes how it goes."""

    def __init__(self, wait: Callable[[], Awaitable[object]]) -> None:
        self.seen: list[str] = []
        self._wait = wait

    async def __call__(self) -> str:
        try:
            told = await self._wait()
            await asyncio.sleep(0)
        except BaseException as reason:
            self.seen.append(repr(reason))
            raise
        self.seen.append("done")
        return f"{told}"


async def now() -> int:
    return 1


async def test_what_waits_for_nothing_is_there():
    assert (begin(now()), at_once(now())) == (1, 1)


async def test_what_waits_goes_on_where_it_was():
    future = asyncio.get_running_loop().create_future()
    step = Step(lambda: future)
    rest = begin(step())
    assert isinstance(rest, Rest)
    asyncio.get_running_loop().call_soon(future.set_result, 5)

    assert await rest == "5"
    assert step.seen == ["done"]


async def test_what_fails_later_fails_where_the_rest_is_awaited():
    future = asyncio.get_running_loop().create_future()
    step = Step(lambda: future)
    rest = begin(step())
    assert isinstance(rest, Rest)
    future.set_exception(ValueError("no"))

    with pytest.raises(ValueError, match="no"):
        await rest
    assert step.seen == ["ValueError('no')"]


async def test_the_rest_is_cancelled_with_the_task_that_awaits_it():
    step = Step(lambda: asyncio.Event().wait())
    rest = begin(step())
    assert isinstance(rest, Rest)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await rest
    assert step.seen == ["CancelledError()"]


def test_what_waits_and_must_not_is_given_up_there():
    step = Step(lambda: asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="and waits"):
        at_once(step())
    assert step.seen == ["GeneratorExit()"]


async def test_nothing_is_waited_for_in_a_task():
    assert begin(enter_task()) is None


def test_nothing_is_waited_for_where_no_task_can_be():
    assert begin(enter_task()) is None


async def test_a_task_is_entered_where_there_is_none():
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    waits: list[bool] = []

    def without_task() -> None:
        rest = begin(enter_task())
        waits.append(isinstance(rest, Rest))
        if isinstance(rest, Rest):
            rest.close()
        done.set()

    loop.call_soon(without_task)
    await done.wait()

    assert waits == [True]
