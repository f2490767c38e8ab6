"""What a reply cost, by the price table that genai-prices ships. Never our own prices, never the network.

Source: https://github.com/pydantic/genai-prices
"""

from collections.abc import Mapping
from datetime import datetime
from importlib import import_module

from llmbridge.canon.messages import JsonObject, Usage
from llmbridge.wire.loose_json import count

_ELSEWHERE = {"xai": "x-ai", "moonshot": "moonshotai"}
"""Our provider names where the table has another; all others are the same or not in it."""


def cost_usd(
    provider: str, model: str | None, usage: Usage | None, at: datetime | None
) -> float | None:
    """US dollars for `usage` at list price on the day `at` (UTC; None: now).

    None where the table has no price for this provider and model, or the input is not known. Anthropic's one-hour cache
    writes and web searches are read from `usage.raw`; batch, priority and fast tiers are not told apart.
    """
    if not model or usage is None or usage.input_tokens is None:
        return None
    provider, model = _in_table(provider, model)
    try:
        return _price(provider, model, _quantities(usage), at)
    except (LookupError, ValueError):
        # Not in the table, or numbers that cannot be: negative ones, more reasoning than output.
        return None


def load_prices() -> None:
    """Load the table now, so that no call waits for it."""
    import_module("genai_prices")


def _price(
    provider: str, model: str, quantities: Mapping[str, int], at: datetime | None
) -> float | None:
    from genai_prices import Usage as Quantities  # noqa: PLC0415  # 0.2 s, and no one else needs it
    from genai_prices import calc_price  # noqa: PLC0415

    found = calc_price(
        Quantities(**quantities), model, provider_id=provider, genai_request_timestamp=at
    )
    if found.provider.id != provider:
        # It takes any name that holds another's: a user's own "my-openai" has no list price.
        return None
    if found.model_price.input_mtok is None and found.model_price.output_mtok is None:
        return 0.0 if model.endswith(":free") else None
    return float(found.total_price)


def _in_table(provider: str, model: str) -> tuple[str, str]:
    if provider == "huggingface":
        # Its router's models are `maker/model:provider`; without the last part it chooses by itself.
        model, _, served_by = model.partition(":")
        return f"huggingface_{served_by}", model
    return _ELSEWHERE.get(provider, provider), model


def _quantities(usage: Usage) -> dict[str, int]:
    """Our numbers in the table's words, where input includes what the cache took. Zeros spare it a search."""
    read, write = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    return {
        "input_tokens": (usage.input_tokens or 0) + read + write,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "cache_write_1h_tokens": _within(usage.raw, "cache_creation", "ephemeral_1h_input_tokens"),
        "output_tokens": usage.output_tokens or 0,
        "output_reasoning_tokens": usage.reasoning_tokens or 0,
        "web_searches": _within(usage.raw, "server_tool_use", "web_search_requests"),
    }


def _within(raw: JsonObject, outer: str, inner: str) -> int:
    held: JsonObject = raw[outer] if isinstance(raw.get(outer), Mapping) else {}
    return count(held.get(inner)) or 0
