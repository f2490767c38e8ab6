"""No more than so many calls or tokens a minute, for each actor and model.

A bucket holds what a minute gives, so that a burst may take it at once, and fills evenly.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from threading import Lock
from time import monotonic as system_monotonic

from llmbridge.errors import ConfigurationError, Limited
from llmbridge.exchange.bounds import Bound, Bounds, Held
from llmbridge.exchange.spending import Spent

_MINUTE_S = 60.0
_MOST_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many calls or tokens a minute: for each actor that the pattern fits, `shared` for all of them together.

    Models and several limits are as with `Budget`. Tokens are counted when an answer has ended.

    Raises:
        ConfigurationError: neither calls nor tokens are given, or one is not more than 0.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    actor: str = "*"
    model: str = "*"
    shared: bool = False

    def __post_init__(self) -> None:
        if not tuple(self.bounds()):
            raise ConfigurationError(
                "a limit of nothing: give requests_per_minute, tokens_per_minute, or both"
            )

    def bounds(self) -> Iterator[Bound]:
        """One bound for each unit."""
        where = (self.actor, self.model, self.shared)
        if self.requests_per_minute is not None:
            yield Bound("requests", self.requests_per_minute, "minute", *where)
        if self.tokens_per_minute is not None:
            yield Bound("tokens", self.tokens_per_minute, "minute", *where)


class RateLimits:
    """Refuses calls of those who ask too much at once, and says when to ask again. This process counts for itself."""

    def __init__(
        self, limits: Iterable[RateLimit], monotonic: Callable[[], float] = system_monotonic
    ) -> None:
        self._bounds = Bounds([bound for limit in limits for bound in limit.bounds()])
        self._monotonic = monotonic
        self._buckets: dict[tuple[int, str], _Bucket] = {}
        self._lock = Lock()

    def __bool__(self) -> bool:
        return bool(self._bounds.all)

    async def admit(self, actor: str, model: str) -> None:
        """Let a call pass where there is room for it.

        Raises:
            Limited: there is none; says when there is.
        """
        now_s = self._monotonic()
        with self._lock:
            filled = [
                (each.bound, self._filled(each, now_s)) for each in self._bounds.on(actor, model)
            ]
            for bound, bucket in filled:
                # Of tokens nobody knows before how many it takes: one must be there.
                if bucket.level < 1:
                    raise _refusal(bound, actor, (1 - bucket.level) * _MINUTE_S / bound.most)
            for bound, bucket in filled:
                if bound.unit == "requests":
                    bucket.level -= 1

    def count(self, spent: Spent) -> None:
        """Take the tokens out; there may be less than none left."""
        now_s = self._monotonic()
        with self._lock:
            for each in self._bounds.on(spent.actor, spent.model):
                if each.bound.unit == "tokens":
                    self._filled(each, now_s).level -= spent.tokens

    def _filled(self, held: Held, now_s: float) -> "_Bucket":
        bucket = self._buckets.get(held.key)
        if bucket is None:
            if len(self._buckets) >= _MOST_BUCKETS:
                self._forget_full(now_s)
            bucket = self._buckets[held.key] = _Bucket(held.bound.most, now_s)
        bucket.fill(held.bound.most, now_s)
        return bucket

    def _forget_full(self, now_s: float) -> None:
        """A bucket that is full again is as good as a new one."""
        for key, bucket in tuple(self._buckets.items()):
            most = self._bounds.all[key[0]].most
            bucket.fill(most, now_s)
            if bucket.level >= most:
                del self._buckets[key]


@dataclass(slots=True)
class _Bucket:
    level: float
    at_s: float

    def fill(self, most: float, now_s: float) -> None:
        self.level = min(most, self.level + (now_s - self.at_s) * most / _MINUTE_S)
        self.at_s = now_s


def _refusal(bound: Bound, actor: str, wait_s: float) -> Limited:
    error = Limited(
        f"too much at once: {bound.whose(actor)} may have {bound.most:,.0f} {bound.unit} a minute;"
        f" ask again in {wait_s:.1f} s"
    )
    error.retry_after_s = wait_s
    return error
