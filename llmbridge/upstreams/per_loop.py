"""One thing for each event loop: what has connections cannot move from loop to loop."""

import asyncio
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Held(Generic[T]):
    """A thing, and how many use it now."""

    value: T
    users: int = 0
    closed: bool = False


class _Kept(NamedTuple, Generic[T]):
    held: Held[T]
    keeper: AsyncGenerator[None]
    finalizer: "weakref.finalize[..., PerLoop[T]]"


class PerLoop(Generic[T]):
    """Makes one where a loop has none; it is closed when its loop ends, or when nobody has its `PerLoop` any more.

    Neither `make` nor `close` may refer to the owner.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[object]]) -> None:
        self._make = make
        self._close = close
        self._kept: dict[asyncio.AbstractEventLoop, _Kept[T]] = {}

    def opened(self) -> Held[T] | None:
        """The one of the running loop, if it is there already."""
        kept = self._kept.get(asyncio.get_running_loop())
        return None if kept is None or kept.held.closed else kept.held

    async def here(self) -> Held[T]:
        """The one of the running loop."""
        held = self.opened()
        if held is None:
            kept = self._kept[asyncio.get_running_loop()] = await self._open()
            held = kept.held
        return held

    async def aclose(self) -> None:
        """Close the running loop's, unless it is in use: then the end of the loop does."""
        loop = asyncio.get_running_loop()
        kept = self._kept.get(loop)
        if kept is None or kept.held.users:
            return
        del self._kept[loop]
        kept.finalizer.detach()
        await kept.keeper.aclose()

    async def _open(self) -> _Kept[T]:
        for loop in list(self._kept):
            if loop.is_closed() and (gone := self._kept.pop(loop, None)):
                gone.finalizer.detach()
        held = Held(self._make())
        # A loop that ends closes the generators that began in it.
        keeper = _keep(held, self._close)
        await anext(keeper)
        # The finalizer keeps the keeper out of its owner's garbage. Let go of alone, it is closed by its loop.
        return _Kept(held, keeper, weakref.finalize(self, _let_go, keeper))


async def _keep(held: Held[T], close: Callable[[T], Awaitable[object]]) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        held.closed = True
        await close(held.value)


def _let_go(keeper: AsyncGenerator[None]) -> None:
    """Nothing: the last reference goes with the call."""
