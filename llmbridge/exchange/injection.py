"""What faults have in common: which calls they hit, and how that is told.

An interceptor just above the upstream. Each fault hits the calls that it is meant for, in the order in which they come;
the interception keeps what was really injected.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from random import Random
from threading import Lock
from typing import Any, Literal, TypedDict

from llmbridge.errors import BridgeError, ConfigurationError, CutOnPurpose, End
from llmbridge.exchange.at_once import in_task
from llmbridge.exchange.call import Call, Handler, Reply, chain
from llmbridge.exchange.options import check_list

Ending = Literal["reset", "eof"]
"""The connection breaks; or it closes as if all had been sent."""


class Limits(TypedDict, total=False):
    """Which calls a fault hits: the first `times`, those of a model glob or for which a function is true, or some of them.

    With `probability` below 1 `seed` decides, so that the same calls are hit every time.
    """

    times: int | None
    when: str | Callable[[Call], bool] | None
    probability: float
    seed: int


Inject = Callable[["Strike", Handler], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that can go wrong; `text` says what, for the interception."""

    text: str
    inject: Inject
    times: int | None = None
    when: str | Callable[[Call], bool] | None = None
    probability: float = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.times is not None and self.times < 1:
            raise ConfigurationError(f"{self.text}: times={self.times!r}, give 1 or more")
        if not 0 <= self.probability <= 1:
            raise ConfigurationError(f"{self.text}: probability={self.probability!r}, give 0 to 1")

    def __repr__(self) -> str:
        return self.text

    def suits(self, call: Call) -> bool:
        """True when it is meant for this call."""
        if isinstance(self.when, str):
            return fnmatchcase(call.model, self.when)
        return self.when is None or self.when(call)


class Strike:
    """One fault as it hits one call."""

    source: Reply
    reply: Reply

    def __init__(self, call: Call, text: str) -> None:
        self.call = call
        self._text = text
        self._told = False

    def tell(self) -> None:
        """It was injected now; said once."""
        if not self._told:
            self._told = True
            self.call.faults.append(self._text)

    def spoil(self, source: Reply, spoiled: Callable[[Reply], AsyncIterator[bytes]]) -> Reply:
        """The reply with other bytes; nobody knows how many."""
        self.source, self.reply = source, source.through(spoiled)
        self.reply.headers = source.headers.without("content-length")
        return self.reply

    def settle(self, end: End, error: BridgeError) -> None:
        """Say how the reply ends; nothing is added to it."""
        self.reply.settled, self.reply.error = end, error

    async def cut(self, how: Ending = "eof") -> None:
        """End the reply here, whatever was to come.

        Raises:
            CutOnPurpose: the connection breaks.
        """
        self.tell()
        error = CutOnPurpose(f"the answer was cut on purpose: {self._text}")
        self.settle("truncated", error)
        await self.source.aclose("client_gone")
        if how == "reset":
            raise error


class _Armed:
    """A fault and the calls it has seen."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._left = math.inf if fault.times is None else fault.times
        self._random = Random(fault.seed)
        self._lock = Lock()

    async def __call__(self, call: Call, forward: Handler) -> Reply:
        if not self._hits(call):
            return await forward(call)
        return await self._fault.inject(Strike(call, self._fault.text), forward)

    def _hits(self, call: Call) -> bool:
        if not self._fault.suits(call):
            return False
        with self._lock:
            if not self._left or self._random.random() >= self._fault.probability:
                return False
            self._left -= 1
            return True


class Faults:
    """An interceptor that injects; the first fault sees a call first, and one that answers itself spares it the rest.

    `armed` are those that may be injected now; while there are none, nothing takes its time.

    Raises:
        ConfigurationError: something is no fault.
    """

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self.armed = _arm(faults)
        self._lock = Lock()

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        """Forward the call, or not."""
        armed = self.armed
        return chain((in_task, *armed), forward)(call) if armed else forward(call)

    @contextmanager
    def during(self, faults: Sequence[Fault]) -> Generator[None]:
        """These too, before the others, until the block ends."""
        added = _arm(faults)
        with self._lock:
            self.armed = (*added, *self.armed)
        try:
            yield
        finally:
            with self._lock:
                self.armed = tuple(each for each in self.armed if each not in added)


def _arm(faults: Sequence[Any]) -> tuple[_Armed, ...]:
    check_list("faults", faults)
    for fault in faults:
        if not isinstance(fault, Fault):
            raise ConfigurationError(
                f"{fault!r} is no fault: give one of llmbridge.faults, such as faults.status(429)"
            )
    return tuple(_Armed(fault) for fault in faults)
