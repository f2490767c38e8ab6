"""Async code that waits for nothing, run where it is: no task, no turn of a loop, no loop at all."""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

from llmbridge.exchange.call import Call, Handler, Reply

T = TypeVar("T")


class Rest(Generator[Any, Any, T]):
    """What is left of a step that waits, for a task to await."""

    __slots__ = ("_first", "_walk")

    def __init__(self, first: object, walk: Generator[Any, Any, T]) -> None:
        self._first = [first]
        self._walk = walk

    def __await__(self) -> Generator[Any, Any, T]:
        return self

    def send(self, value: Any) -> Any:
        """Go on; what it waits for first is told once more."""
        return self._first.pop() if self._first else self._walk.send(value)

    def throw(self, *reason: Any) -> Any:
        """Go on with this instead."""
        self._first.clear()
        return self._walk.throw(*reason)


def begin(step: Awaitable[T]) -> T | Rest[T]:
    """What a step gives that waits for nothing; of one that waits, the rest."""
    walk = step.__await__()
    try:
        first = next(walk)
    except StopIteration as done:
        given: T = done.value
        return given
    return Rest(first, walk)


def at_once(step: Awaitable[T]) -> T:
    """What a step that waits for nothing gives.

    Raises:
        RuntimeError: it waits, although its upstream says that it never does.
    """
    begun = begin(step)
    if isinstance(begun, Rest):
        begun.close()
        raise RuntimeError("a call was to be answered at once, and waits")
    return begun


async def enter_task() -> None:
    """Said before something may be waited for: a call that was begun without a task goes on in one from here.

    Much that waits, such as a time limit, has to be begun in a task. A call comes here where what answers it was changed by
    another thread after it had begun.
    """
    try:
        if asyncio.current_task() is not None:
            return
    except RuntimeError:
        return  # There is no loop that could have one.
    await asyncio.sleep(0)


async def in_task(call: Call, forward: Handler) -> Reply:
    """An interceptor that sees to it that the others may wait."""
    await enter_task()
    return await forward(call)


def ask(upstream: Handler, call: Call) -> Awaitable[Reply]:
    """Hand a call to its upstream, in a task where that may wait."""
    return upstream(call) if getattr(upstream, "at_once", False) else in_task(call, upstream)
