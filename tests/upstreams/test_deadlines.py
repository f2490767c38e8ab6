from itertools import islice, pairwise
from typing import Any

import pytest

from llmbridge.errors import ConfigurationError
from llmbridge.upstreams.deadlines import Deadlines, Tokens


def due(pace: Tokens, count: int = 4) -> list[float]:
    return [round(seconds, 3) for seconds in islice(pace.due(), count)]


def test_tokens_follow_the_first_at_an_even_pace() -> None:
    assert due(Tokens(ttft=0.5, tps=20)) == [0.5, 0.55, 0.6, 0.65]


def test_without_numbers_all_is_due_at_once() -> None:
    assert due(Tokens()) == [0, 0, 0, 0]


def test_jitter_moves_every_gap_a_little() -> None:
    times = due(Tokens(tps=10, jitter=3), 50)

    gaps = [round(later - sooner, 3) for sooner, later in pairwise(times)]
    assert len(set(gaps)) > 10
    assert all(0.05 <= gap <= 0.15 for gap in gaps)


def test_a_seed_gives_the_same_pace_again_and_another_does_not() -> None:
    one, again, other = (due(Tokens(tps=10, jitter=seed)) for seed in (1, 1, 2))

    assert (one == again, one == other) == (True, False)


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ({"ttft": -1}, "ttft=-1: give the seconds"),
        ({"ttft": float("nan")}, "ttft=nan"),
        ({"tps": 0}, "tps=0: give the tokens a second"),
        ({"jitter": 2}, "jitter=2 varies ttft and tps"),
    ],
)
def test_numbers_that_cannot_be_are_refused(numbers: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Tokens(**numbers)


class Clock:
    """Goes on only when somebody sleeps, and then a little too far."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.waits: list[float] = []
        monkeypatch.setattr("llmbridge.upstreams.deadlines.monotonic", lambda: self.now)
        monkeypatch.setattr("llmbridge.upstreams.deadlines.anyio.sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(round(seconds, 3))
        self.now += seconds + 0.01


async def test_lateness_does_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    deadlines = Deadlines(Tokens(ttft=0.5, tps=10))

    await deadlines.head()
    for _ in range(3):
        await deadlines.tokens()

    assert clock.waits == [0.5, 0.09, 0.09]


async def test_a_whole_answer_waits_for_its_last_token(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    await Deadlines(Tokens(ttft=0.5, tps=10)).tokens(6)

    assert clock.waits == [1.0]


async def test_a_reply_without_tokens_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    await Deadlines(Tokens(ttft=0.5, tps=10)).tokens(0)

    assert clock.waits == []


async def test_what_is_late_already_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    deadlines = Deadlines(Tokens(ttft=0.5))
    clock.now += 1

    await deadlines.head()

    assert clock.waits == []
