from datetime import UTC, datetime, timedelta, timezone

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.exchange.columns import COUNT, TEXT, TIME, Column
from llmbridge.frames.table import as_frame

ANYTHING = st.none() | st.text(st.characters()) | st.integers() | st.floats() | st.booleans()


def test_a_missing_count_leaves_the_others_exact():
    frame = as_frame([Column("n", COUNT, "")], [(2**62 + 1,), (None,)])

    assert frame["n"].tolist() == [2**62 + 1, pd.NA]


def test_times_of_any_zone_become_utc():
    east = datetime(2026, 11, 20, 14, tzinfo=timezone(timedelta(hours=2)))

    frame = as_frame([Column("t", TIME, "")], [(east,), (None,)])

    assert frame["t"].tolist() == [pd.Timestamp(datetime(2026, 11, 20, 12, tzinfo=UTC)), pd.NaT]


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    frame = as_frame([Column("s", TEXT, "")], [("\ud83d",), ("\U0001f680 \u6771",)])

    assert frame["s"].tolist() == ["\ufffd", "\U0001f680 \u6771"]


@given(st.lists(st.tuples(ANYTHING, ANYTHING)))
def test_odd_values_never_break_a_column(rows):
    frame = as_frame([Column("s", TEXT, ""), Column("n", COUNT, "")], rows)

    assert frame.dtypes.astype(str).to_dict() == {"s": TEXT, "n": COUNT}
