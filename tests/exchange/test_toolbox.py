"""llmbridge.exchange.toolbox."""

from typing import Any

import pytest

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.toolbox import ToolLimits


@pytest.mark.parametrize(
    "limits",
    [
        {"rounds": 0},
        {"rounds": "3"},
        {"rounds": 2.5},
        {"tool_timeout_s": 0},
        {"tool_timeout_s": "5"},
        {"tool_timeout_s": float("nan")},
        {"result_chars": -1},
        {"result_chars": None},
        {"memory_bytes": -1},
    ],
)
def test_limits_that_nothing_could_keep_to_are_refused(limits: dict[str, Any]):
    [(name, value)] = limits.items()

    with pytest.raises(ConfigurationError, match=f"{name}={value!r}: give "):
        ToolLimits(**limits)
