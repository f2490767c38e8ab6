"""A circuit breaker: a provider that fails again and again is left alone for a while, and its clients hear so at once.

Source: aibridge, and sony/gobreaker, on which that is built.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from time import monotonic as system_monotonic
from typing import Literal

from llmbridge.errors import BridgeError, CircuitOpen, ConfigurationError
from llmbridge.exchange.call import Call, Handler, Reply

_logger = logging.getLogger("llmbridge")

FAILURES = frozenset({429, 503, 504, 529})
"""What counts. Other errors may be the request's fault, or gone with the next one."""

MOST_CIRCUITS = 1000
"""Clients choose models, so what is remembered of them has a bound; the oldest goes first."""

State = Literal["closed", "half_open", "open"]
Place = tuple[str, str, str]
"""Provider, endpoint and model."""
Change = Literal["trip", "reject"]


@dataclass(frozen=True, slots=True)
class Circuit:
    """How things stand with one model at one endpoint of a provider; what goes well is not listed."""

    provider: str
    endpoint: str
    model: str
    state: State
    trips: int
    rejects: int


@dataclass(slots=True)
class _Standing:
    """The same while it changes: `failures` in a row since `since_s`, then trials `asked` and `passed`.

    `age` counts the changes of state: an answer to what was asked before one says nothing.
    """

    since_s: float
    opened_s: float | None = None
    failures: int = 0
    asked: int = 0
    passed: int = 0
    age: int = 0
    trips: int = 0
    rejects: int = 0


class CircuitBreaker:
    """Refuses calls where a provider's model has failed, until it has had time to recover.

    After `failures` one after the other within `interval_s`, calls are refused for `open_s`. Then `trials` calls are let
    through: when all of them go well the circuit is closed again, and the first one that fails opens it anew. There is one
    for each provider, endpoint and model.

    Raises:
        ConfigurationError: a number that is not positive.
    """

    def __init__(
        self,
        *,
        failures: int = 5,
        interval_s: float = 10.0,
        open_s: float = 30.0,
        trials: int = 3,
        monotonic: Callable[[], float] = system_monotonic,
    ) -> None:
        numbers = {
            "failures": failures,
            "interval_s": interval_s,
            "open_s": open_s,
            "trials": trials,
        }
        for name, number in numbers.items():
            if not number > 0:
                raise ConfigurationError(f"{name}={number!r}: give a positive number")
        self._failures = failures
        self._interval_s = interval_s
        self._open_s = open_s
        self._trials = trials
        self._monotonic = monotonic
        self._standings: dict[Place, _Standing] = {}
        self._followers: list[Callable[[Place, Change], None]] = []
        # Calls come from several loops.
        self._lock = Lock()

    def __repr__(self) -> str:
        told = [f"{each.provider} {each.model!r} {each.state}" for each in self.circuits]
        return f"CircuitBreaker({', '.join(told)})"

    @property
    def circuits(self) -> tuple[Circuit, ...]:
        """Those that have failed lately, or were open once."""
        with self._lock:
            return tuple(
                Circuit(*place, self._state(it), it.trips, it.rejects)
                for place, it in self._standings.items()
            )

    def follow(self, tell: Callable[[Place, Change], None]) -> None:
        """Call `tell` whenever a circuit opens or turns a call away, at once and so quickly done."""
        self._followers.append(tell)

    async def __call__(self, call: Call, forward: Handler) -> Reply:
        """Forward the call, if its circuit is not open.

        Raises:
            CircuitOpen: it is, or all trials are under way.
        """
        place = (call.provider.name, call.target.partition("?")[0], call.model)
        age = self._enter(call, place)
        try:
            reply = await forward(call)
        except BridgeError as error:
            self._note(call, place, age, well=error.status not in FAILURES)
            raise
        except BaseException:
            self._forget(place, age)
            raise
        self._note(call, place, age, well=reply.replayed or reply.status not in FAILURES)
        return reply

    def _enter(self, call: Call, place: Place) -> int:
        if not self._standings:
            return 0
        with self._lock:
            it = self._standings.get(place)
            if it is None:
                return 0
            state = self._state(it)
            if state == "closed":
                return it.age
            if state == "open" or it.asked >= self._trials:
                it.rejects += 1
                self._tell(place, "reject")
                raise self._refusal(call, it)
            it.asked += 1
            return it.age

    def _note(self, call: Call, place: Place, age: int, *, well: bool) -> None:
        if well and not self._standings:
            return
        with self._lock:
            it = self._standings.get(place)
            if it is None:
                if well:
                    return
                it = self._remember(place)
            if it.age != age:
                return
            if it.opened_s is None:
                self._note_closed(call, place, it, well)
            elif not well:
                self._trip(call, place, it)
            else:
                it.passed += 1
                if it.passed >= self._trials:
                    it.opened_s, it.failures = None, 0
                    it.age += 1
                    _logger.info("%r: the circuit is closed again", call)
            if it.opened_s is None and not it.failures and not it.trips:
                del self._standings[place]

    def _note_closed(self, call: Call, place: Place, it: _Standing, well: bool) -> None:
        now_s = self._monotonic()
        if well:
            it.failures = 0
            return
        if not it.failures or now_s - it.since_s >= self._interval_s:
            it.since_s, it.failures = now_s, 0
        it.failures += 1
        if it.failures >= self._failures:
            self._trip(call, place, it)

    def _trip(self, call: Call, place: Place, it: _Standing) -> None:
        it.opened_s = self._monotonic()
        it.failures = it.asked = it.passed = 0
        it.age += 1
        it.trips += 1
        self._tell(place, "trip")
        _logger.warning("%r: the circuit is open for %g s", call, self._open_s)

    def _tell(self, place: Place, change: Change) -> None:
        for tell in self._followers:
            tell(place, change)

    def _forget(self, place: Place, age: int) -> None:
        """A call that was cancelled has shown nothing; another trial may take its place."""
        with self._lock:
            it = self._standings.get(place)
            if it is not None and it.age == age and it.opened_s is not None:
                it.asked -= 1

    def _remember(self, place: Place) -> _Standing:
        if len(self._standings) >= MOST_CIRCUITS:
            del self._standings[next(iter(self._standings))]
        it = self._standings[place] = _Standing(since_s=self._monotonic())
        return it

    def _state(self, it: _Standing) -> State:
        if it.opened_s is None:
            return "closed"
        return "open" if self._monotonic() - it.opened_s < self._open_s else "half_open"

    def _refusal(self, call: Call, it: _Standing) -> CircuitOpen:
        assert it.opened_s is not None
        left_s = max(1.0, it.opened_s + self._open_s - self._monotonic())
        error = CircuitOpen(
            f"circuit breaker is open: {call.provider.name!r} has failed for {call.model!r} again and again;"
            f" try again in {math.ceil(left_s)} s"
        )
        error.retry_after_s = left_s
        return error
