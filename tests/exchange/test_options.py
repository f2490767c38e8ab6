"""llmbridge.exchange.options: what a bridge is given is of the kind it must be, or told clearly."""

from typing import Any

import pytest

from llmbridge import Bridge, Script
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.budgets import Budget
from llmbridge.stores.opening import open_store


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"budgets": [{"usd": 1}]},
            "budgets[0] is of type dict: give a list, budgets=[Budget(...)]",
        ),
        (
            {"budgets": Budget(usd=1)},
            "budgets is of type Budget: give a list, budgets=[Budget(...)]",
        ),
        (
            {"rate_limits": "6"},
            "rate_limits is of type str: give a list, rate_limits=[RateLimit(...)]",
        ),
        (
            {"people": {"alice": "a-secret-of-alice"}},
            "people is of type dict: give a list, people=[Person(...)]",
        ),
        (
            {"breaker": {"failures": 3}},
            "breaker={'failures': 3}: give CircuitBreaker(...), or None",
        ),
    ],
    ids=str,
)
def test_an_option_of_another_kind_is_told(options: Any, told: str):
    with pytest.raises(ConfigurationError) as refused:
        Bridge(Script("Hi."), **options)

    assert str(refused.value) == told


def test_what_is_no_store_is_told():
    store: Any = 5

    with pytest.raises(ConfigurationError, match=r"store=5: give a path that ends in \.yaml"):
        open_store(store)
