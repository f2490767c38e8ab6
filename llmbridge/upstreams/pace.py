"""When the pieces of a recording are due: as recorded, faster, or at a pace of your own where nobody noted the times."""

from dataclasses import dataclass
from itertools import islice

from llmbridge.exchange.options import check_number
from llmbridge.exchange.record import Record
from llmbridge.upstreams.deadlines import Tokens


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
        check_number("speed", self.speed, "give 0 for instant, 1 for the recorded pace")
        self._tokens(self.jitter)

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
        seed = None if self.jitter is None else f"{self.jitter} {record.interception_id}"
        times = tuple(islice(self._tokens(seed).due(), len(record.chunks)))
        return (times[0] if times else self.ttft or 0.0), times

    def _tokens(self, seed: int | str | None) -> Tokens:
        """Events of a recording are as good as the tokens that made them."""
        return Tokens(self.ttft or 0, self.tps, seed)
