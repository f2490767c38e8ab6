from datetime import date

import pytest

from llmbridge import RateLimit
from llmbridge.errors import ConfigurationError, Limited
from llmbridge.exchange.rate_limits import RateLimits
from llmbridge.exchange.spending import Spent


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def passes(limits: RateLimits, actor: str = "alice", model: str = "m") -> float | None:
    """None where a call may pass, else the seconds to wait."""
    try:
        await limits.admit(actor, model)
    except Limited as error:
        return error.retry_after_s
    return None


def taken(tokens: int, actor: str = "alice") -> Spent:
    return Spent(actor, "m", date(2026, 11, 20), tokens, 0.0)


async def test_a_minutes_calls_may_come_at_once_and_then_one_by_one() -> None:
    clock = Clock()
    limits = RateLimits([RateLimit(requests_per_minute=3)], clock)
    burst = [await passes(limits) for _ in range(4)]
    clock.now_s += 10
    early = await passes(limits)
    clock.now_s += 10

    assert (burst, early, await passes(limits)) == ([None, None, None, 20.0], 10.0, None)


async def test_a_refused_call_takes_nothing() -> None:
    clock = Clock()
    limits = RateLimits(
        [RateLimit(requests_per_minute=60), RateLimit(requests_per_minute=1, model="o*")], clock
    )
    for _ in range(10):
        await passes(limits, model="o3")

    others = [await passes(limits) for _ in range(60)]

    assert others.count(None) == 59


async def test_tokens_are_taken_out_when_a_call_has_ended() -> None:
    clock = Clock()
    limits = RateLimits([RateLimit(tokens_per_minute=60)], clock)
    first = await passes(limits)
    limits.count(taken(119))
    indebted = await passes(limits)
    clock.now_s += 60

    assert (first, indebted, await passes(limits)) == (None, 60.0, None)


async def test_actors_are_limited_each_or_together() -> None:
    each = RateLimits([RateLimit(requests_per_minute=1)], Clock())
    together = RateLimits([RateLimit(requests_per_minute=1, shared=True)], Clock())

    assert [await passes(each, actor) for actor in ("alice", "bob", "")] == [None, None, None]
    assert [await passes(together, actor) for actor in ("alice", "bob")] == [None, 60.0]


async def test_a_refusal_names_who_what_and_when() -> None:
    limits = RateLimits([RateLimit(requests_per_minute=2, model="gpt-*")], Clock())
    for _ in range(2):
        await passes(limits, model="gpt-5")

    with pytest.raises(Limited) as caught:
        await limits.admit("alice", "gpt-5")

    assert caught.value.message == (
        "too much at once: 'alice', with models 'gpt-*', may have 2 requests a minute; ask again in 30.0 s"
    )


async def test_names_that_clients_make_up_do_not_pile_up() -> None:
    clock = Clock()
    limits = RateLimits([RateLimit(requests_per_minute=1)], clock)
    for number in range(10_000):
        await passes(limits, str(number))
    clock.now_s += 60

    await passes(limits, "one more")

    assert len(limits._buckets) == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "a limit of nothing"),
        ({"requests_per_minute": "6"}, "requests_per_minute='6' is no bound"),
        ({"requests_per_minute": 0}, "requests_per_minute=0 is no bound"),
        ({"tokens_per_minute": 5, "model": ""}, "model='' fits nothing"),
    ],
)
def test_what_limits_nothing_is_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        RateLimit(**options)  # type: ignore[arg-type]  # what somebody may give
