import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from llmbridge.cli.log import LoggedStore, json_line, log_line
from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.record import Interception, Record
from llmbridge.stores.memory import MemoryStore

STARTED = datetime(2026, 11, 20, 8, 30, 1, tzinfo=UTC)
REQUEST = Request("POST", "http://127.0.0.1:1/v1/chat/completions?key=hush", Headers(), b"{}")
ASKED = Interception("one", STARTED, REQUEST, provider="openai", model="gpt-4o-mini")
ENDED = replace(ASKED, ended_at=STARTED + timedelta(seconds=1.25), status=200, end="completed")
ANSWER = (
    b'{"id":"c","object":"chat.completion","model":"gpt-4o-mini","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"Hi"}}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":5}}}'
)
RECORD = Record("one", "openai", "openai.chat", REQUEST, 200, Headers(), ((0.5, ANSWER),), STARTED)


def test_a_line_tells_who_asked_whom_how_it_ended_and_what_it_took() -> None:
    assert log_line(ENDED, [RECORD, RECORD]) == (
        "2026-11-20T08:30:01Z POST /v1/chat/completions openai gpt-4o-mini 200 completed 18+8tok 1.250s"
    )


def test_a_line_stays_one_line_whatever_the_client_sent() -> None:
    hostile = replace(ENDED, model="m\n2026 forged\x1b[2J", error="first\r\nsecond", status=400)

    line = log_line(hostile, [])

    assert "m 2026 forged�[2J 400 completed - 1.250s: first second" in line


def test_an_object_is_the_row_of_the_frames() -> None:
    line = json.loads(json_line(ENDED, [RECORD]))

    assert line.pop("time") > "2026"
    assert line == {
        "level": "info",
        "message": "interception",
        "interception_id": "one",
        "started_at": "2026-11-20T08:30:01.000000Z",
        "ended_at": "2026-11-20T08:30:02.250000Z",
        "duration_s": 1.25,
        "ttft_s": 0.5,
        "frontend": "direct",
        "provider": "openai",
        "dialect": "openai.chat",
        "model": "gpt-4o-mini",
        "streaming": False,
        "rounds": 1,
        "status": 200,
        "end": "completed",
        "stop_reason": "stop",
        "input_tokens": 4,
        "cache_read_tokens": 5,
        "output_tokens": 4,
        "total_tokens": 13,
        "cost_usd": line["cost_usd"],
        "events": 0,
        "bytes": len(ANSWER),
        "replayed": False,
        "stop": "stop",
        "asked_model": "gpt-4o-mini",
        "providers": '["openai"]',
        "dialects": '["openai.chat"]',
        "models": '["gpt-4o-mini"]',
        "bodies": True,
    }


def test_an_object_stays_one_line_whatever_the_client_sent() -> None:
    hostile = replace(ENDED, model="m\n{}\u2028\x1b[2J", error="\ud800")

    line = json_line(hostile, [])

    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["asked_model"] == hostile.model


async def test_the_store_keeps_everything_and_a_line_is_said_for_each_end() -> None:
    kept = MemoryStore()
    said: list[str] = []
    store = LoggedStore(kept, said.append)

    await store.begin(ASKED)
    store.add(RECORD)
    store.end(ENDED)
    store.close()

    assert said == [log_line(ENDED, [RECORD])]
    assert (list(store), store.records(), store.interceptions()) == ([RECORD], [RECORD], [ENDED])
    assert (list(kept), kept.interceptions()) == ([RECORD], [ENDED])


@pytest.fixture
def jammed() -> Iterator[Event]:
    """Lets whoever waits go on when the test is over."""
    event = Event()
    yield event
    event.set()


async def test_a_reader_that_takes_no_lines_holds_up_nothing(jammed: Event) -> None:
    def say(_: str) -> None:
        jammed.wait()

    store = LoggedStore(MemoryStore(), say)

    for number in range(2000):
        await store.begin(replace(ASKED, id=str(number)))
        store.end(replace(ENDED, id=str(number)))

    assert len(store.interceptions()) == 2000


async def test_decoding_for_the_log_leaves_the_kept_record_as_it_is() -> None:
    store = LoggedStore(MemoryStore(), lambda _: None)

    await store.begin(ASKED)
    store.add(RECORD)
    store.end(ENDED)
    store.close()

    assert "message" not in vars(RECORD)
