"""When the pieces of a recording are due: as recorded, faster, or at a pace of your own where nobody noted the times."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.record import Record

_SPREAD = 0.5
"""By which part of itself jitter makes a wait longer or shorter, at most."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`speed` 0 is instant, 1 as recorded, 2 twice as fast.

    A recording without times comes at once, or with `ttft` (seconds to its first event) and `tps` (events a second) as
    if a model wrote it; `jitter` is the seed by which these waits vary.

    Raises:
        ConfigurationError: a pace that cannot be.
    """

    speed: float = 0
    ttft: float | None = None
    tps: float | None = None
    jitter: int | None = None

    def __post_init__(self) -> None:
        if self.speed < 0:
            raise ConfigurationError(
                f"speed={self.speed!r}: give 0 for instant, 1 for the recorded pace"
            )
        if self.ttft is not None and self.ttft < 0:
            raise ConfigurationError(f"ttft={self.ttft!r}: give the seconds to the first event")
        if self.tps is not None and self.tps <= 0:
            raise ConfigurationError(f"tps={self.tps!r}: give the events a second, above 0")
        if self.jitter is not None and self.ttft is None and self.tps is None:
            raise ConfigurationError(
                f"jitter={self.jitter!r} varies ttft and tps: give one of them with it"
            )

    @property
    def at_once(self) -> bool:
        """True when no piece is ever waited for."""
        return not self.speed and self.ttft is None and self.tps is None

    def due(self, record: Record) -> tuple[float, tuple[float, ...]] | None:
        """When the head and each piece are due, in seconds since the request; None for all at once."""
        if not record.timed:
            return self._written(record)
        if not self.speed:
            return None
        times = tuple(seconds / self.speed for seconds, _ in record.chunks)
        first = times[0] if times else 0.0
        return (first if record.head_s is None else record.head_s / self.speed), times

    def _written(self, record: Record) -> tuple[float, tuple[float, ...]] | None:
        if self.ttft is None and self.tps is None:
            return None
        times = tuple(self._times(record))
        return (times[0] if times else self.ttft or 0.0), times

    def _times(self, record: Record) -> Iterator[float]:
        random = None
        if self.jitter is not None:
            random = Random(f"{self.jitter} {record.interception_id}")
        now, wait = 0.0, self.ttft or 0.0
        for _ in record.chunks:
            now += wait * random.uniform(1 - _SPREAD, 1 + _SPREAD) if random else wait
            yield now
            wait = 1 / self.tps if self.tps else 0.0
