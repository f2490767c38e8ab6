from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta

import pytest

from llmbridge import Budget
from llmbridge.errors import BudgetSpent, ConfigurationError
from llmbridge.exchange.budgets import Budgets
from llmbridge.exchange.spending import Spent

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
TODAY = NOON.date()


class Clock:
    """Says the time that the test wants."""

    def __init__(self) -> None:
        self.now = NOON
        self.passed_s = 0.0

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.passed_s


class Past:
    """A store's answers to what was spent, and what it was asked."""

    def __init__(self, *spent: Spent) -> None:
        self.spent = list(spent)
        self.asked: list[date] = []

    def __call__(self, since: datetime) -> Iterable[Spent]:
        self.asked.append(since.date())
        return [each for each in self.spent if each.day >= since.date()]


def spent(usd: float = 0, tokens: int = 0, **more: object) -> Spent:
    known = {"actor": "alice", "model": "m", "day": TODAY, **more}
    return Spent(tokens=tokens, usd=usd, **known)  # type: ignore[arg-type]  # the fields by name


async def refused(budgets: Budgets, actor: str = "alice", model: str = "m") -> str:
    """Why a call is refused; empty where it is not."""
    try:
        await budgets.admit(actor, model)
    except BudgetSpent as error:
        return error.message
    return ""


def of(*budgets: Budget, read: Callable[[datetime], Iterable[Spent]] | None = None) -> Budgets:
    return Budgets(budgets, read or Past(), Clock())


async def test_a_budget_lets_calls_pass_until_it_is_spent_and_then_says_why() -> None:
    budgets = of(Budget(usd=5, model="claude-*"))
    budgets.count(spent(4.99, model="claude-sonnet-4-5"))
    before = await refused(budgets, model="claude-sonnet-4-5")

    budgets.count(spent(0.02, model="claude-haiku-4-5"))

    assert before == ""
    assert await refused(budgets, model="claude-sonnet-4-5") == (
        "the budget is spent: 'alice', with models 'claude-*', took $5.01 of $5.00 a day;"
        " there is more at 2026-11-21 00:00 UTC"
    )
    assert await refused(budgets, model="gpt-5") == ""


@pytest.mark.parametrize(("per", "hours"), [("day", 12), ("month", 10 * 24 + 12)])
async def test_a_refusal_says_when_there_is_more(per: str, hours: int) -> None:
    budgets = of(Budget(tokens=10, per=per))  # type: ignore[arg-type]  # one of the two words
    budgets.count(spent(tokens=1_000))

    with pytest.raises(BudgetSpent, match=f"took 1,000 tokens of 10 tokens a {per}") as caught:
        await budgets.admit("alice", "m")

    assert caught.value.retry_after_s == hours * 3600


async def test_each_actor_has_a_budget_of_their_own_nobody_too() -> None:
    budgets = of(Budget(usd=1))
    budgets.count(spent(1))
    budgets.count(spent(1, actor=""))

    told = [await refused(budgets, actor) for actor in ("alice", "bob", "")]

    assert [bool(each) for each in told] == [True, False, True]
    assert "calls of nobody's name took $1.00" in told[2]


async def test_a_shared_budget_is_for_all_together() -> None:
    budgets = of(Budget(usd=1, shared=True))
    budgets.count(spent(0.5))
    budgets.count(spent(0.5, actor="bob"))

    assert "all together took $1.00" in await refused(budgets, "carol")


async def test_the_first_budget_of_its_kind_that_fits_is_the_actors() -> None:
    budgets = of(
        Budget(usd=20, actor="alice"), Budget(usd=5), Budget(usd=50, per="month"), Budget(tokens=9)
    )
    for actor in ("alice", "bob"):
        budgets.count(spent(6, actor=actor))

    assert [bool(await refused(budgets, actor)) for actor in ("alice", "bob")] == [False, True]
    budgets.count(spent(tokens=9))
    assert "9 tokens of 9 tokens" in await refused(budgets, "alice")


async def test_a_day_ends_at_midnight_and_a_month_with_its_last_day() -> None:
    clock = Clock()
    budgets = Budgets([Budget(usd=1), Budget(usd=2, per="month")], Past(), clock)
    budgets.count(spent(1.5))
    at_noon = await refused(budgets)
    clock.now += timedelta(days=1)
    budgets.count(spent(0.5, day=clock.now.date()))
    a_day_later = await refused(budgets)
    clock.now += timedelta(days=11)
    budgets.count(spent(0.5, day=clock.now.date()))

    assert ("a day" in at_noon, "$2.00 of $2.00 a month" in a_day_later) == (True, True)
    assert await refused(budgets) == ""


async def test_what_was_spent_before_the_start_counts() -> None:
    yesterday = TODAY - timedelta(days=1)
    past = Past(spent(3, day=yesterday), spent(2), spent(9, day=date(2026, 10, 31)))

    daily, monthly = of(Budget(usd=5), read=past), of(Budget(usd=5, per="month"), read=past)

    assert (await refused(daily), "$5.00 of $5.00" in await refused(monthly)) == ("", True)
    assert past.asked == [TODAY, date(2026, 11, 1)]


async def test_what_others_spend_counts_within_half_a_minute_and_nothing_counts_twice() -> None:
    clock, past = Clock(), Past(spent(9, day=date(2026, 11, 3)))
    budgets = Budgets([Budget(usd=12, per="month")], past, clock, 30, clock.monotonic)
    budgets.count(spent(1))
    past.spent += [spent(1), spent(2, actor="alice")]  # ours is there by now, and another's
    clock.passed_s = 29
    early = await refused(budgets)
    clock.passed_s = 30

    late = await refused(budgets)

    assert (early, "$12.00 of $12.00" in late) == ("", True)
    assert past.asked == [date(2026, 11, 1), date(2026, 11, 19)]


async def test_days_that_are_over_are_read_once() -> None:
    clock, past = Clock(), Past(spent(1, day=date(2026, 11, 3)), spent(1, day=date(2026, 11, 19)))
    budgets = Budgets([Budget(usd=3, per="month")], past, clock, 30, clock.monotonic)
    for days, taken in ((1, 0.5), (3, 0.5), (12, 1)):
        clock.now = NOON + timedelta(days=days)
        clock.passed_s += 30
        past.spent.append(spent(taken, day=clock.now.date()))
        told = await refused(budgets)

        assert ("$3.00 of $3.00" in told) == (days == 3)

    asked = [day.isoformat() for day in past.asked]
    assert asked == ["2026-11-01", "2026-11-19", "2026-11-20", "2026-12-01"]


async def test_what_no_answer_says_stays_counted_when_the_store_is_asked_again() -> None:
    clock, past = Clock(), Past()
    budgets = Budgets([Budget(tokens=10)], past, clock, 30, clock.monotonic)
    budgets.count(spent(tokens=7, guessed_tokens=3))
    budgets.count(spent(tokens=3, guessed_tokens=3))
    past.spent = [spent(tokens=4)]
    clock.passed_s = 30
    once = await refused(budgets)
    clock.passed_s = 60

    assert ("took 10 tokens of 10 tokens" in once, await refused(budgets)) == (True, once)


async def test_a_store_that_cannot_be_read_now_leaves_what_is_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, past = Clock(), Past()
    budgets = Budgets([Budget(usd=1)], past, clock, 30, clock.monotonic)
    budgets.count(spent(1))
    past.spent = [None]  # type: ignore[list-item]  # fails when it is looked at
    clock.passed_s = 30

    assert "$1.00 of $1.00" in await refused(budgets)
    assert "what was spent cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "a budget of nothing"),
        ({"usd": "5"}, "usd='5' is no bound"),
        ({"usd": 0}, "usd=0 is no bound"),
        ({"tokens": -1}, "tokens=-1 is no bound"),
        ({"usd": float("nan")}, "usd=nan is no bound"),
        ({"usd": 1, "per": "week"}, "per='week' is no time of a budget"),
        ({"usd": 1, "actor": ""}, "actor='' fits nothing"),
    ],
)
def test_what_bounds_nothing_is_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Budget(**options)  # type: ignore[arg-type]  # what somebody may give
