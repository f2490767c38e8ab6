"""When the tokens of a reply that nobody recorded are due: the time to the first, then so many a second."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from time import monotonic

import anyio

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.options import check_number

_SPREAD = 0.5
"""By which part of itself jitter makes a wait longer or shorter, at most."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The first token `ttft` seconds after the request, then `tps` tokens a second; `jitter` is the seed by which the waits vary.

    Raises:
        ConfigurationError: a pace that cannot be.
    """

    ttft: float = 0
    tps: float | None = None
    jitter: int | str | None = None

    def __post_init__(self) -> None:
        check_number("ttft", self.ttft, "give the seconds to the first token")
        if self.tps is not None:
            wanted = "give the tokens a second, above 0"
            check_number("tps", self.tps, wanted, more_than_zero=True)
        if self.jitter is not None and not (self.ttft or self.tps):
            raise ConfigurationError(
                f"jitter={self.jitter!r} varies ttft and tps: give one of them with it"
            )

    def due(self) -> Iterator[float]:
        """When each token is due, in seconds since the request; without end."""
        random = None if self.jitter is None else Random(self.jitter)
        now, wait = 0.0, self.ttft
        while True:
            now += wait * random.uniform(1 - _SPREAD, 1 + _SPREAD) if random else wait
            yield now
            wait = 1 / self.tps if self.tps else 0.0


class Deadlines:
    """Waits for the tokens of one reply, by times counted from the request: lateness does not add up."""

    def __init__(self, tokens: Tokens) -> None:
        self._start = monotonic()
        self._head = next(tokens.due())
        self._due = tokens.due()

    async def head(self) -> None:
        """Wait for the head, which comes with the first token."""
        await self._reach(self._head)

    async def tokens(self, count: int = 1) -> None:
        """Wait for the next `count` tokens."""
        for seconds in islice(self._due, max(count - 1, 0), count):
            await self._reach(seconds)

    async def _reach(self, seconds: float) -> None:
        wait = self._start + seconds - monotonic() if seconds else 0
        if wait > 0:
            await anyio.sleep(wait)
