"""llmbridge.exchange.toolbox."""

from typing import Any

import pytest

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.toolbox import ToolLimits


@pytest.mark.parametrize(
    "limits",
    [{"rounds": 0}, {"tool_timeout_s": 0}, {"result_chars": -1}, {"memory_bytes": -1}],
)
def test_limits_that_nothing_could_keep_to_are_refused(limits: dict[str, Any]):
    [(name, value)] = limits.items()

    with pytest.raises(ConfigurationError, match=f"{name}={value}"):
        ToolLimits(**limits)
