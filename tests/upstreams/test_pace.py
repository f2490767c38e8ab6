import json
from dataclasses import replace
from typing import Any

import pytest

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.call import Headers
from llmbridge.exchange.record import Record
from llmbridge.upstreams.pace import Pace

CHUNKS = ((0.2, b"a"), (0.3, b"b"), (0.7, b"c"))
TIMED = Record("i", "openai", "openai.chat", None, 200, Headers(), CHUNKS, head_s=0.1)
UNTIMED = replace(
    TIMED, chunks=tuple((0.0, chunk) for _, chunk in CHUNKS), head_s=None, timed=False
)


@pytest.mark.parametrize(
    ("pace", "record", "due"),
    [
        (Pace(), TIMED, None),
        (Pace(1), TIMED, (0.1, (0.2, 0.3, 0.7))),
        (Pace(2), TIMED, (0.05, (0.1, 0.15, 0.35))),
        (Pace(1), replace(TIMED, head_s=None), (0.2, (0.2, 0.3, 0.7))),
        (Pace(1), replace(TIMED, head_s=0.0), (0.0, (0.2, 0.3, 0.7))),
        (Pace(1), replace(TIMED, chunks=()), (0.1, ())),
        (Pace(1), UNTIMED, None),
        (Pace(ttft=0.5), UNTIMED, (0.5, (0.5, 0.5, 0.5))),
        (Pace(tps=4), UNTIMED, (0.0, (0.0, 0.25, 0.5))),
        (Pace(ttft=1, tps=2), UNTIMED, (1, (1, 1.5, 2.0))),
        (Pace(ttft=1, tps=2), TIMED, None),
        (Pace(ttft=1), replace(UNTIMED, chunks=()), (1, ())),
    ],
    ids=[
        "instant",
        "as recorded",
        "twice as fast",
        "no head",
        "an early head",
        "no body",
        "no times",
        "ttft",
        "tps",
        "both",
        "for files without times",
        "ttft without a body",
    ],
)
def test_the_pace_says_when_each_piece_is_due(pace: Pace, record: Record, due: Any) -> None:
    assert pace.due(record) == due


def test_jitter_varies_by_its_seed_alone() -> None:
    runs = [Pace(ttft=1, tps=2, jitter=seed).due(UNTIMED) for seed in (7, 7, 8)]

    assert (runs[0] == runs[1], runs[0] == runs[2]) == (True, False)


def test_jitter_keeps_waits_within_half_of_themselves() -> None:
    due = Pace(tps=10, jitter=1).due(replace(UNTIMED, chunks=((0.0, b"a"),) * 500))

    assert due is not None
    waits = [after - before for before, after in zip(due[1], due[1][1:], strict=False)]
    assert 0.05 - 1e-9 <= min(waits) < 0.06 < 0.14 < max(waits) <= 0.15 + 1e-9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"speed": -1}, "speed=-1"),
        ({"speed": float("nan")}, "speed=nan"),
        ({"speed": "fast"}, "speed='fast'"),
        ({"ttft": -1}, "ttft=-1"),
        ({"tps": 0}, "tps=0"),
        ({"tps": "many"}, "tps='many'"),
        ({"jitter": 1}, "jitter=1 varies ttft and tps"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_pace_that_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Pace(**options)
