"""No more than so many dollars or tokens a day or month, for each actor and model."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from threading import Lock
from time import monotonic as system_monotonic
from typing import Literal

import anyio.to_thread

from llmbridge.errors import BudgetSpent, ConfigurationError
from llmbridge.exchange.bounds import Bound, Bounds
from llmbridge.exchange.pricing import load_prices
from llmbridge.exchange.recorder import Clock, utc_now
from llmbridge.exchange.spending import Spent

_logger = logging.getLogger("llmbridge")

FRESH_S = 30.0
"""How old the sums of a store may be that other bridges write to, too."""

Read = Callable[[datetime], Iterable[Spent]]
"""What was taken since then, by all who write to a store."""


_Key = tuple[tuple[int, str], date]


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be taken in a day or a month (UTC): `usd` at list prices, `tokens`, or both.

    It is for each actor that the pattern fits, `shared` for all of them together, and for all models that the pattern
    fits in one sum. All budgets hold, but of those of the same models, time and unit only the first that fits: one
    for `alice` before one for `*` is hers alone.

    Raises:
        ConfigurationError: neither dollars nor tokens are given, or one is not more than 0.
    """

    usd: float | None = None
    tokens: int | None = None
    per: Literal["day", "month"] = "day"
    actor: str = "*"
    model: str = "*"
    shared: bool = False

    def __post_init__(self) -> None:
        if self.per not in ("day", "month"):
            raise ConfigurationError(f"per={self.per!r} is no time of a budget: give day or month")
        if not tuple(self.bounds()):
            raise ConfigurationError("a budget of nothing: give usd, tokens, or both")

    def bounds(self) -> Iterator[Bound]:
        """One bound for each unit."""
        if self.usd is not None:
            yield Bound("usd", self.usd, self.per, self.actor, self.model, self.shared)
        if self.tokens is not None:
            yield Bound("tokens", self.tokens, self.per, self.actor, self.model, self.shared)


class Budgets:
    """Refuses calls of those who have nothing left. A call under way may take more than is left.

    What was spent before is `read` at the start, and, where others spend as well, again when that is `fresh_s` old.
    """

    def __init__(
        self,
        budgets: Iterable[Budget],
        read: Read,
        clock: Clock = utc_now,
        fresh_s: float | None = None,
        monotonic: Callable[[], float] = system_monotonic,
    ) -> None:
        self._bounds = Bounds([bound for budget in budgets for bound in budget.bounds()])
        self._read = read
        self._clock = clock
        self._fresh_s = fresh_s
        self._monotonic = monotonic
        self._sums: dict[_Key, float] = {}
        self._counted: list[Spent] = []
        self._guessed: dict[tuple[str, str, date], Spent] = {}
        self._newest = date.min
        self._settled: tuple[tuple[Spent, ...], date] = (), date.min
        self._lock, self._reading = Lock(), Lock()
        self._read_at = monotonic()
        if self._bounds.all:
            load_prices()
            self._catch_up()

    def __bool__(self) -> bool:
        return bool(self._bounds.all)

    async def admit(self, actor: str, model: str) -> None:
        """Let a call pass while something is left.

        Raises:
            BudgetSpent: nothing is; says how much was, and when there is more.
        """
        held = self._bounds.on(actor, model)
        if not held:
            return
        if self._fresh_s is not None and self._monotonic() - self._read_at >= self._fresh_s:
            await anyio.to_thread.run_sync(self._refresh)
        now = self._clock()
        with self._lock:
            for each in held:
                begun = _begun(each.bound, now.date())
                spent = self._sums.get((each.key, begun), 0.0)
                if spent >= each.bound.most:
                    raise _refusal(each.bound, actor, spent, now, _ends(each.bound, begun))

    def count(self, spent: Spent) -> None:
        """Add what an exchange took."""
        with self._lock:
            if self._fresh_s is not None:
                self._counted.append(spent)
            elif spent.day > self._newest:
                month = spent.day.replace(day=1)
                self._sums = {key: sum for key, sum in self._sums.items() if key[1] >= month}
            self._newest = max(self._newest, spent.day)
            self._add(self._sums, spent)

    def _refresh(self) -> None:
        """Ask the store again; who comes while somebody does, goes by what is known."""
        if not self._reading.acquire(blocking=False):
            return
        try:
            self._catch_up()
        except Exception:
            # The border to the store: calls go on by what is known, as they are recorded, or refused for that.
            _logger.exception("what was spent cannot be read; budgets go by what is known")
        finally:
            self._reading.release()

    def _catch_up(self) -> None:
        with self._lock:
            known, self._counted = self._counted, []
        self._read_at = self._monotonic()
        try:
            read = self._spent()
        except BaseException:
            with self._lock:
                self._counted = known + self._counted
            raise
        sums: dict[_Key, float] = {}
        for spent in read:
            self._add(sums, spent)
        with self._lock:
            # What an answer does not say is in no store.
            self._note_guesses(known)
            for spent in (*self._guessed.values(), *self._counted):
                self._add(sums, spent)
            self._sums = sums

    def _note_guesses(self, known: Iterable[Spent]) -> None:
        month = self._clock().date().replace(day=1)
        kept = {key: each for key, each in self._guessed.items() if each.day >= month}
        for each in known:
            if each.guessed_tokens:
                key = each.actor, each.model, each.day
                kept[key] = each.guessed.plus(kept.get(key))
        self._guessed = kept

    def _spent(self) -> Iterable[Spent]:
        """What was spent in all times that count; days that are over are not read again."""
        today = self._clock().date()
        begun = min(_begun(bound, today) for bound in self._bounds.all)
        known, until = self._settled
        all_of_it = (*known, *self._read(_midnight(max(begun, until))))
        # Calls of yesterday may still be under way.
        settled = max(begun, today - timedelta(days=1))
        self._settled = tuple(each for each in all_of_it if begun <= each.day < settled), settled
        return all_of_it

    def _add(self, sums: dict[_Key, float], spent: Spent) -> None:
        for each in self._bounds.on(spent.actor, spent.model):
            key = each.key, _begun(each.bound, spent.day)
            taken = spent.usd if each.bound.unit == "usd" else spent.tokens
            sums[key] = sums.get(key, 0.0) + taken


def _begun(bound: Bound, day: date) -> date:
    return day.replace(day=1) if bound.per == "month" else day


def _ends(bound: Bound, begun: date) -> datetime:
    days = 32 if bound.per == "month" else 1
    return _midnight(_begun(bound, begun + timedelta(days=days)))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _refusal(bound: Bound, actor: str, spent: float, now: datetime, ends: datetime) -> BudgetSpent:
    error = BudgetSpent(
        f"the budget is spent: {bound.whose(actor)} took {_amount(bound, spent)} of"
        f" {_amount(bound, bound.most)} a {bound.per}; there is more at {ends:%Y-%m-%d %H:%M} UTC"
    )
    error.retry_after_s = max(1.0, (ends - now).total_seconds())
    return error


def _amount(bound: Bound, value: float) -> str:
    if bound.unit == "tokens":
        return f"{value:,.0f} token{'' if value == 1 else 's'}"
    return f"${value:.2f}" if value >= 0.01 else f"${value:.6f}"
