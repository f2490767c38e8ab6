"""How much of what, for whom: what budgets and rate limits have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.options import check_bound

Unit = Literal["usd", "tokens", "requests"]
Per = Literal["minute", "day", "month"]


@dataclass(frozen=True, slots=True)
class Bound:
    """No more than `most` of a unit in a time, for each actor that the pattern fits, or for all of them together.

    All models that the pattern `model` fits are counted in one sum.
    """

    unit: Unit
    most: float
    per: Per
    actor: str = "*"
    model: str = "*"
    shared: bool = False

    def __post_init__(self) -> None:
        name = f"{self.unit}_per_minute" if self.per == "minute" else self.unit
        check_bound(name, self.most)
        for name, pattern in (("actor", self.actor), ("model", self.model)):
            if not pattern:
                raise ConfigurationError(f"{name}='' fits nothing: give a name, a pattern or '*'")

    @property
    def kind(self) -> tuple[object, ...]:
        """What is bounded: of several bounds of one kind, the first that fits an actor is theirs."""
        return self.unit, self.per, self.model, self.shared

    def fits(self, actor: str, model: str) -> bool:
        """True when a call of this actor to this model counts."""
        return fnmatchcase(actor, self.actor) and fnmatchcase(model, self.model)

    def whose(self, actor: str) -> str:
        """Whose sum it is, for people."""
        who = "all together" if self.shared else repr(actor) if actor else "calls of nobody's name"
        return who if self.model == "*" else f"{who}, with models {self.model!r},"


@dataclass(frozen=True, slots=True)
class Held:
    """A bound that holds for a call, and the key of its sum."""

    bound: Bound
    key: tuple[int, str]


class Bounds:
    """Finds the bounds of a call."""

    def __init__(self, bounds: Sequence[Bound]) -> None:
        self.all = tuple(bounds)
        # An actor asks few models, each of them often.
        self.on = lru_cache(maxsize=1024)(self._on)

    def _on(self, actor: str, model: str) -> tuple[Held, ...]:
        found: dict[object, Held] = {}
        for index, bound in enumerate(self.all):
            if bound.fits(actor, model):
                key = (index, "" if bound.shared else actor)
                found.setdefault(bound.kind, Held(bound, key))
        return tuple(found.values())
