"""Async code that waits for nothing, run where it is: no task, no turn of a loop, no loop at all."""

from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


def at_once(step: Awaitable[T]) -> T:
    """What a step that waits for nothing gives.

    Raises:
        RuntimeError: it waits, although its upstream says that it never does.
    """
    walk = step.__await__()
    try:
        next(walk)
    except StopIteration as done:
        given: T = done.value
        return given
    raise RuntimeError("a call was to be answered at once, and waits")
