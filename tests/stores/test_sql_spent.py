from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import pytest

from llmbridge import Bridge, Budget, Interception, Record, Script
from llmbridge.errors import BudgetSpent
from llmbridge.exchange.budgets import FRESH_S, Budgets
from llmbridge.exchange.call import Caller, Headers, Request
from llmbridge.exchange.recorder import utc_now
from llmbridge.exchange.spending import Spent, spent_since
from llmbridge.stores.followed import FollowedStore
from llmbridge.stores.opening import open_store
from tests.stores.conftest import Where

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HI: dict[str, Any] = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]}


def asked(method: str = "POST") -> Request:
    return Request(method, "http://localhost/v1/chat/completions", Headers(), b"{}", Caller())


def answered(id: str, at: datetime, **more: Any) -> Record:
    body = (
        b'{"id":"c","model":"gpt-4o-mini-2024-07-18","choices":[],"usage":{"prompt_tokens":1000000,'
        b'"completion_tokens":0,"total_tokens":1000000}}'
    )
    chunks = ((0.1, body),)
    known: dict[str, Any] = {"request": asked(), "dialect": "openai.chat", "model": "sent"} | more
    return Record(
        id, "openai", status=200, headers=Headers(), chunks=chunks, started_at=at, **known
    )


async def keep(
    store: Any, id: str, at: datetime, *records: Record, over: bool = True, **more: Any
) -> None:
    known: dict[str, Any] = {"request": asked(), "actor": "alice", "model": "gpt-4o-mini"} | more
    call = Interception(id, at, **known)
    await store.begin(call)
    for record in records or [answered(id, at)]:
        store.add(record)
    if over:
        store.end(replace(call, end="completed"))


def spent(actor: str, day: int, millions: int) -> Spent:
    usd = pytest.approx(0.15 * millions)
    return Spent(actor, "gpt-4o-mini", date(2026, 11, day), millions * 1_000_000, usd)  # type: ignore[arg-type]


async def test_what_was_taken_is_summed_by_actor_model_and_day(database: Where) -> None:
    store = open_store(database.url)
    for number, day in enumerate((18, 19, 19, 20)):
        await keep(store, str(number), NOON.replace(day=day))
    await keep(store, "two rounds", NOON, *[answered("two rounds", NOON)] * 2, actor="bob")
    await keep(store, "nobody", NOON, actor=None)
    await keep(store, "recorded", NOON, answered("recorded", NOON, replayed=True), replayed=True)
    for method in ("GET", "POST"):
        opaque: dict[str, Any] = {"request": asked(method), "dialect": "opaque"}
        await keep(store, method, NOON, answered(method, NOON, **opaque), actor="dan", **opaque)
    await keep(store, "under way", NOON, over=False, actor="carol")

    found = sorted(
        spent_since(store, NOON.replace(day=19)), key=lambda each: (each.actor, each.day)
    )

    assert found == [
        spent("", 20, 1),
        spent("alice", 19, 2),
        spent("alice", 20, 1),
        spent("bob", 20, 2),
        spent("carol", 20, 1),
        spent("dan", 20, 1),
    ]
    store.close()


async def test_a_bridge_beside_another_counts_what_that_one_took(database: Where) -> None:
    passed_s = [0.0]
    store = open_store(database.url)
    read = partial(spent_since, store)
    budgets = Budgets([Budget(tokens=1)], read, utc_now, FRESH_S, lambda: passed_s[0])
    with Bridge(Script("two"), store=database.url, environ={}) as other, other.actor("alice"):
        other.openai().chat.completions.create(**HI)
    await budgets.admit("alice", "gpt-5-mini")
    passed_s[0] = FRESH_S

    with pytest.raises(BudgetSpent, match="'alice' took"):
        await budgets.admit("alice", "gpt-5-mini")
    store.close()


def test_a_store_around_a_shared_one_is_shared(database: Where) -> None:
    inner = open_store(database.url)
    store = FollowedStore(inner, lambda *_: None)

    assert (store.shared, list(spent_since(store, NOON))) == (True, [])
    store.close()
