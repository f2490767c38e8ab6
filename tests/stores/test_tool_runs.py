"""What the bridge's own tools did, in each store."""

from typing import Any

import pytest

from tests.exchange.test_tool_runner import KEPT, rows, run_all


@pytest.mark.feature("aibridge", 11)
@pytest.mark.feature("gateway", 16, 41)
def test_every_run_is_a_row_with_its_outcome_and_its_own_duration(store: Any):
    with run_all(store) as bridge:
        found = bridge.frames.tool_calls()
        lasted_s = dict(zip(found["tool_call_id"], found["duration_s"].tolist(), strict=True))

        assert rows(bridge.store) == KEPT
        assert all(0 <= seconds < 5 for seconds in lasted_s.values())
        assert lasted_s["d"] >= 0.19  # loops round to milliseconds
        [interception] = bridge.interceptions
        assert [run.round for run in interception.tool_runs] == [0] * 6
