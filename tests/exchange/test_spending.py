import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from llmbridge import Bridge, Headers, Record, Request, Script
from llmbridge.exchange.call import Caller
from llmbridge.exchange.spending import Spent, spent_in, spent_since

NIGHT = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)
ANSWER = {
    "id": "c1",
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"message": {"role": "assistant", "content": "x" * 400}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 100, "total_tokens": 1_000_100},
}
ASKED = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "y" * 40}]}


def record(answer: Any = ANSWER, **more: Any) -> Record:
    request = Request("POST", "https://x/v1", Headers(), json.dumps(ASKED).encode(), Caller())
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    known: dict[str, Any] = {"provider": "openai", "dialect": "openai.chat", "status": 200}
    known |= {"request": request, "headers": Headers(), "chunks": ((0.1, body),)}
    return Record("i1", **(known | {"started_at": NIGHT, "model": "gpt-4o-mini"} | more))


def test_an_exchange_took_what_its_answer_says_on_the_day_it_began() -> None:
    found = spent_in(record(), "alice", "gpt-4o-mini")

    usd = (1_000_000 * 0.15 + 100 * 0.6) / 1e6
    assert found == Spent("alice", "gpt-4o-mini", date(2026, 11, 20), 1_000_100, usd)


def test_what_has_no_known_price_counts_by_its_tokens_alone() -> None:
    found = spent_in(record(provider="my-own"), "alice", "m")

    assert found is not None
    assert (found.tokens, found.usd) == (1_000_100, 0.0)


LOOKED_UP = Request("GET", "https://x/v1/responses/r1", Headers())


@pytest.mark.parametrize(
    "nothing",
    [
        record(request=LOOKED_UP, dialect="opaque"),
        record(b"oops"),
        record({"error": {"message": "no"}}, status=429),
        record({**ANSWER, "usage": None, "choices": []}),
        record(started_at=None),
    ],
    ids=["looked up", "no JSON", "refused", "empty", "no time"],
)
def test_what_took_nothing_is_not_told(nothing: Record) -> None:
    assert spent_in(nothing, "alice", "m") is None


def test_where_nothing_is_said_four_characters_are_a_token() -> None:
    found = spent_in(record({**ANSWER, "usage": None}), "alice", "m")

    assert found is not None
    assert found.tokens == found.guessed_tokens == 10 + 100
    assert found.usd == found.guessed_usd > 0


def test_a_stream_that_was_cut_took_what_came_at_least() -> None:
    start = {
        "type": "message_start",
        "message": {"model": "m", "usage": {"input_tokens": 7, "output_tokens": 1}},
    }
    block = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    delta = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "z" * 80},
    }
    events = (start, block, delta)
    lines = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)

    found = spent_in(
        record(lines.encode(), dialect="anthropic.messages", end="client_gone"), "alice", "m"
    )

    assert found is not None
    assert (found.tokens, found.guessed_tokens) == (7 + 20, 20)


def test_a_record_stays_undecoded() -> None:
    kept = record()

    spent_in(kept, "alice", "m")

    assert "message" not in vars(kept)


def test_a_store_that_cannot_sum_is_read() -> None:
    with Bridge(Script("Hello", "again"), environ={}) as bridge:
        with bridge.actor("alice"):
            bridge.openai().responses.create(model="gpt-5-mini", input="hi")
        bridge.openai().responses.create(model="m", input="hi")

        found = list(spent_since(bridge.store, datetime(2020, 1, 1, tzinfo=UTC)))
        later = list(spent_since(bridge.store, datetime(2999, 1, 1, tzinfo=UTC)))

    assert [(each.actor, each.model, each.usd > 0) for each in found] == [
        ("alice", "gpt-5-mini", True),
        ("", "m", False),
    ]
    assert later == []
