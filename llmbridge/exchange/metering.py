"""Ask before a call whether it may be made, and tell afterwards what it took."""

from collections.abc import Awaitable, Iterable, Sequence
from functools import partial
from typing import Protocol

from llmbridge.exchange.budgets import FRESH_S, Budget, Budgets
from llmbridge.exchange.call import Call, Handler, Reply
from llmbridge.exchange.options import all_of
from llmbridge.exchange.rate_limits import RateLimit, RateLimits
from llmbridge.exchange.record import Record, Store
from llmbridge.exchange.recorder import Keeps
from llmbridge.exchange.spending import Spent, spent_in, spent_since
from llmbridge.wire.opaque import COUNT_TOKENS, OPENAI_MODELS

_FREE = (COUNT_TOKENS.name, OPENAI_MODELS.name)


class Rule(Protocol):
    """Bounds what calls may take."""

    async def admit(self, actor: str, model: str) -> None:
        """Let a call pass, or raise the error that says why not."""
        ...

    def count(self, spent: Spent) -> None:
        """Take note of what an exchange took. Never waits."""
        ...


class Meter:
    """An interceptor that asks each rule before a call, and the store of a recorder that tells them what it took.

    Recordings take nothing; neither do lists of models and counts of tokens, which are never refused.
    """

    def __init__(self, store: Keeps, rules: Sequence[Rule]) -> None:
        self._store = store
        self._rules = tuple(rules)
        self._models: dict[str, str] = {}

    @property
    def bounds(self) -> bool:
        """True where there is a rule."""
        return bool(self._rules)

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        """Forward the call if each rule admits it."""
        if not self._rules or call.dialect.name in _FREE or call.request.method != "POST":
            return forward(call)
        return self._admitted(call, forward)

    async def _admitted(self, call: Call, forward: Handler) -> Reply:
        for rule in self._rules:
            await rule.admit(call.request.caller.actor or "", call.model)
        # An interceptor may ask another model; what it takes is of the one that was asked for.
        self._models[call.id] = call.model
        try:
            reply = await forward(call)
        except BaseException:
            self._models.pop(call.id, None)
            raise

        def forget(_: Reply) -> None:
            self._models.pop(call.id, None)

        return reply.watch(forget)

    def add(self, record: Record) -> None:
        """Keep the record, and tell the rules."""
        self._store.add(record)
        if not self._rules or record.replayed:
            return
        actor = record.request.caller.actor if record.request else None
        model = self._models.get(record.interception_id, record.model or "")
        spent = spent_in(record, actor or "", model)
        if spent is not None:
            for rule in self._rules:
                rule.count(spent)


def rules_of(
    budgets: Iterable[Budget], rate_limits: Iterable[RateLimit], store: Store
) -> tuple[Rule, ...]:
    """The rules that bound something. Budgets go on from what the store has.

    A store that is `shared` has what other bridges write to it, too.
    """
    fresh_s = FRESH_S if getattr(store, "shared", False) else None
    spending = Budgets(
        all_of("budgets", budgets, Budget), partial(spent_since, store), fresh_s=fresh_s
    )
    limits = RateLimits(all_of("rate_limits", rate_limits, RateLimit))
    return tuple(rule for rule in (spending, limits) if rule)
