import subprocess
import sys
from datetime import UTC, datetime

import pytest
from genai_prices import data_snapshot
from genai_prices.types import Provider
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.canon.messages import Usage
from llmbridge.exchange.pricing import cost_usd

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
THOUSAND = Usage(input_tokens=1000, output_tokens=200)
PRICED = data_snapshot.get_snapshot().providers

counts = st.none() | st.integers(-5, 10**9)


def test_cached_tokens_are_paid_at_their_own_price():
    usage = Usage(
        input_tokens=100, cache_read_tokens=800, cache_write_tokens=100, output_tokens=200
    )

    cost = cost_usd("anthropic", "claude-sonnet-4-5", usage, NOON)

    assert cost == pytest.approx((100 * 3 + 800 * 0.3 + 100 * 3.75 + 200 * 15) / 1e6)


def test_reasoning_is_paid_once():
    usage = Usage(input_tokens=1000, output_tokens=200, reasoning_tokens=150)

    assert cost_usd("openai", "gpt-5-mini", usage, NOON) == cost_usd(
        "openai", "gpt-5-mini", THOUSAND, NOON
    )


def test_cache_writes_for_an_hour_cost_more():
    raw = {"cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1000}}
    usage = Usage(input_tokens=0, cache_write_tokens=1000, output_tokens=0, raw=raw)

    assert cost_usd("anthropic", "claude-sonnet-4-5", usage, NOON) == pytest.approx(6e-3)


def test_web_searches_are_paid_for():
    usage = Usage(
        input_tokens=0, output_tokens=0, raw={"server_tool_use": {"web_search_requests": 2}}
    )

    assert cost_usd("anthropic", "claude-sonnet-4-5", usage, NOON) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("dated", "plain"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-5-mini-2025-08-07", "gpt-5-mini"),
    ],
)
def test_dated_models_cost_what_plain_ones_do(dated, plain):
    assert cost_usd("openai", dated, THOUSAND, NOON) == cost_usd("openai", plain, THOUSAND, NOON)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-sonnet-4-5-20250929"),
        ("azure", "gpt-4o-2024-08-06"),
        ("cerebras", "gpt-oss-120b"),
        ("deepseek", "deepseek-chat"),
        ("groq", "llama-3.3-70b-versatile"),
        ("huggingface", "meta-llama/Llama-3.3-70B-Instruct:together"),
        ("mistral", "mistral-small-2506"),
        ("moonshot", "kimi-k2-0905-preview"),
        ("openai", "text-embedding-3-small"),
        ("openrouter", "anthropic/claude-sonnet-4.5"),
        ("perplexity", "sonar"),
        ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("xai", "grok-4-0709"),
        ("zai", "glm-4.6"),
    ],
)
def test_the_table_knows_our_providers_names(provider, model):
    assert (cost_usd(provider, model, THOUSAND, NOON) or 0) > 0


def test_the_price_is_that_of_the_day():
    before = cost_usd("openai", "o3", THOUSAND, datetime(2025, 6, 1, tzinfo=UTC))

    assert before != cost_usd("openai", "o3", THOUSAND, NOON)


def test_without_a_day_it_is_todays():
    assert cost_usd("openai", "gpt-4o-mini", THOUSAND, None) is not None


@pytest.mark.parametrize(
    ("provider", "model", "usage"),
    [
        ("ollama", "llama3.2", THOUSAND),
        ("my-openai", "gpt-4o", THOUSAND),
        ("openai", "no-such-model", THOUSAND),
        ("openai", None, THOUSAND),
        ("openai", "", THOUSAND),
        ("", "gpt-4o", THOUSAND),
        ("huggingface", "meta-llama/Llama-3.3-70B-Instruct", THOUSAND),
        ("openai", "gpt-4o", None),
        ("openai", "gpt-4o", Usage(output_tokens=5)),
        ("openai", "gpt-4o", Usage(input_tokens=-1, output_tokens=5)),
        ("cerebras", "qwen-3-coder-480b", THOUSAND),
    ],
    ids=str,
)
def test_what_has_no_price_costs_nothing_known(provider, model, usage):
    assert cost_usd(provider, model, usage, NOON) is None


def test_a_free_model_costs_nothing():
    assert cost_usd("openrouter", "qwen/qwen3-coder:free", THOUSAND, NOON) == 0.0


@given(counts, counts, counts, counts, counts)
def test_odd_numbers_raise_nothing(fresh, read, write, output, reasoning):
    usage = Usage(fresh, read, write, output, reasoning)

    cost = cost_usd("anthropic", "claude-sonnet-4-5", usage, NOON)

    assert cost is None or cost >= 0


@pytest.mark.parametrize(
    "raw", [{"cache_creation": 5}, {"server_tool_use": {"web_search_requests": "2"}}]
)
def test_odd_raw_usage_is_passed_over(raw):
    usage = Usage(input_tokens=1000, output_tokens=200, raw=raw)

    assert cost_usd("anthropic", "claude-sonnet-4-5", usage, NOON) == cost_usd(
        "anthropic", "claude-sonnet-4-5", THOUSAND, NOON
    )


@pytest.mark.parametrize("provider", PRICED, ids=lambda provider: provider.id)
def test_no_model_of_the_table_raises_or_warns(provider: Provider):
    everything = Usage(1000, 100, 50, 200, 10)

    costs = [cost_usd(provider.id, model.id, everything, NOON) for model in provider.models]

    assert all(cost is None or cost >= 0 for cost in costs)


def test_importing_it_loads_no_price_table():
    code = "import sys, llmbridge.exchange.pricing; sys.exit('genai_prices' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
