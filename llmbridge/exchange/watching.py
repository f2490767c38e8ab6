"""Somebody who sees calls while they are under way, without a part in them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from llmbridge.exchange.call import Call, Headers
from llmbridge.exchange.record import Chunk, Interception, Record

_NO_FIELDS = Headers()


@dataclass(slots=True, eq=False)
class Exchange:
    """An exchange with an upstream under way, as it is: secrets are still in it.

    `chunks` grows as they come. `record` is there when it has ended; `failed` is True when there was no answer.
    """

    call: Call
    started_at: datetime
    chunks: list[Chunk] = field(default_factory=list[Chunk])
    status: int | None = None
    headers: Headers = field(default_factory=lambda: _NO_FIELDS)
    record: Record | None = None
    failed: bool = False

    @property
    def ended(self) -> bool:
        """True when nothing more comes."""
        return self.failed or self.record is not None


Told = Interception | Exchange
"""An interception is told when it begins and when it ends, an exchange when it begins."""

See = Callable[[Told], object]
"""Must neither wait nor fail: it is called in the middle of a call, in that call's thread."""


class Watchers:
    """Those who watch a bridge. `exchanges` are under way, for who comes late."""

    def __init__(self) -> None:
        self.exchanges: dict[int, Exchange] = {}
        self._see: tuple[See, ...] = ()

    def add(self, see: See) -> None:
        """Tell this one, too, from now on."""
        self._see += (see,)

    def remove(self, see: See) -> None:
        """Tell this one no more."""
        self._see = tuple(each for each in self._see if each != see)

    def tell(self, interception: Interception) -> None:
        """An interception began or ended."""
        for see in self._see:
            see(interception)

    def began(self, exchange: Exchange) -> None:
        """An upstream is asked."""
        self.exchanges[id(exchange)] = exchange
        for see in self._see:
            see(exchange)

    def ended(self, exchange: Exchange) -> None:
        """It answers no more."""
        self.exchanges.pop(id(exchange), None)
