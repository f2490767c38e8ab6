"""Budgets and rate limits as a bridge applies them."""

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from llmbridge import Bridge, Budget, MemoryStore, RateLimit, Replay, Script, calls
from llmbridge.exchange.budgets import FRESH_S, Budgets
from llmbridge.exchange.metering import rules_of
from llmbridge.exchange.rewrite import swap_models
from llmbridge.stores.followed import FollowedStore
from llmbridge.stores.opening import open_store

HI: dict[str, Any] = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]}
CENT = Budget(usd=0.000_001)


def ask(bridge: Bridge, actor: str = "alice", **options: Any) -> Any:
    with bridge.actor(actor):
        return bridge.openai().chat.completions.create(**{**HI, **options})


def test_a_refused_call_says_why_is_on_record_and_never_reaches_the_provider() -> None:
    script = Script("one", "two")
    with Bridge(script, budgets=[CENT], environ={}) as bridge:
        ask(bridge)
        with pytest.raises(openai.RateLimitError) as caught:
            ask(bridge)
        ask(bridge, "bob")
        refused = bridge.interceptions[1]

    headers = caught.value.response.headers
    assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")
    assert "'alice' took $0.000002 of $0.000001 a day; there is more at " in caught.value.message
    assert (headers["x-should-retry"], 0 < int(headers["retry-after"]) <= 86_400) == ("false", True)
    assert (refused.status, refused.end, refused.error_type) == (429, "bridge_limit", "quota")
    assert (refused.actor, len(bridge.interceptions), len(script.asked)) == ("alice", 3, 2)


def test_anthropics_clients_are_refused_in_their_own_shape_and_do_not_try_again() -> None:
    budget = Budget(tokens=1, model="claude-*")
    with Bridge(Script("one"), budgets=[budget], environ={}) as bridge:
        client = bridge.anthropic()
        asked: Any = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": HI["messages"]}
        client.messages.create(**asked)
        with pytest.raises(anthropic.RateLimitError) as caught:
            client.messages.create(**asked, stream=True)

        assert caught.value.body["error"]["type"] == "rate_limit_error"  # type: ignore[index]
        assert len(bridge.interceptions) == 2


def test_lists_of_models_are_never_refused() -> None:
    with Bridge(Script("one"), budgets=[CENT], environ={}) as bridge:
        ask(bridge)
        with httpx2.Client(transport=bridge.transport()) as client:
            listed = client.get("http://localhost/v1/models")

        assert (listed.status_code, bridge.interceptions[1].end) != (429, "bridge_limit")


def test_a_rate_limit_says_when_to_ask_again() -> None:
    with Bridge(
        Script("one"), rate_limits=[RateLimit(requests_per_minute=1)], environ={}
    ) as bridge:
        ask(bridge)
        with httpx2.Client(transport=bridge.transport()) as client:
            refused = client.post(
                "http://localhost/v1/chat/completions",
                json=HI,
                headers={"x-llmbridge-actor": "alice"},
            )

    # A bucket fills by the real clock here.
    wait_s = int(refused.headers["retry-after"])
    assert (refused.status_code, 40 < wait_s <= 60) == (429, True)
    assert "x-should-retry" not in refused.headers
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert "'alice' may have 1 requests a minute" in refused.json()["error"]["message"]


def test_a_budget_goes_on_where_it_was_before_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    with Bridge(Script("one"), store=url, environ={}) as bridge:
        ask(bridge)

    with Bridge(Script("two"), store=url, budgets=[CENT], environ={}) as bridge:
        with pytest.raises(openai.RateLimitError):
            ask(bridge)
        ask(bridge, "bob")


def test_each_round_counts_for_the_model_that_was_asked_for() -> None:
    def clock() -> str:
        """What time it is."""
        return "noon"

    budget = Budget(tokens=1, model="gpt-5-mini")
    with Bridge(
        Script(calls("clock"), "x", "y"), tools=[clock], budgets=[budget], environ={}
    ) as bridge:
        bridge.rewrite(swap_models({"gpt-*": "o3"}))
        ask(bridge)
        with pytest.raises(openai.RateLimitError, match="tokens of 1 token ") as caught:
            ask(bridge)
        used = bridge.frames.token_usage()["total_tokens"].sum()

    assert f"took {used} tokens" in caught.value.message


def test_recordings_cost_nothing() -> None:
    with Bridge(Script("one"), environ={}) as bridge:
        ask(bridge)
        recorded = bridge.records

    with Bridge(Replay(recorded, strict=False), budgets=[CENT], environ={}) as bridge:
        answers = [ask(bridge) for _ in range(3)]

    assert len(answers) == 3


async def test_what_is_counted_of_calls_side_by_side_is_what_the_frames_say() -> None:
    words = " ".join(["word"] * 20)
    script = Script(*[words] * 40)
    async with Bridge(
        script, budgets=[Budget(tokens=1_000_000, shared=True)], environ={}
    ) as bridge:
        async with bridge.async_openai() as client, asyncio.TaskGroup() as calls:
            for number in range(40):
                streaming = {"stream": True, "stream_options": {"include_usage": True}}
                calls.create_task(_read(client, **(streaming if number % 2 else {})))
        total = int(bridge.frames.token_usage()["total_tokens"].sum())
        left = Bridge(script, store=bridge.store, budgets=[Budget(tokens=total)], environ={})
        with pytest.raises(openai.RateLimitError, match=f"took {total:,} tokens of {total:,}"):
            left.openai().chat.completions.create(**HI)


def test_only_a_store_that_others_write_to_is_asked_again(tmp_path: Path) -> None:
    shared = open_store(f"sqlite:///{tmp_path / 'usage.db'}")
    found = []
    for store in (MemoryStore(), shared, FollowedStore(shared, lambda *_: None)):
        (rule,) = rules_of([CENT], [], store)
        assert isinstance(rule, Budgets)
        found.append(rule._fresh_s)
        store.close()

    assert found == [None, FRESH_S, FRESH_S]


async def _read(client: openai.AsyncOpenAI, **options: Any) -> None:
    answer: Any = await client.chat.completions.create(**HI, **options)
    if options:
        async for _ in answer:
            pass
