"""What is on record where bodies are not: all that is counted, and nothing that was said."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from llmbridge import Bridge, Cassette, Script, calls, reply
from llmbridge.canon.messages import AssistantMessage, ToolCall, Usage
from llmbridge.exchange.bodiless import bodiless
from llmbridge.exchange.call import Headers
from llmbridge.exchange.entry import event_count
from llmbridge.exchange.record import BODY, Record
from llmbridge.frames.metrics import MeteredStore
from llmbridge.upstreams.lines import fail
from tests.samples import EXPECTED, record

USAGE = Usage(7, 2, None, 5, 1, 14)
SECRETS = ("Lisbon", "Sunny", "umbrella", "Porto", "indeed")


def counted(message: AssistantMessage | None) -> Any:
    """What is no content."""
    if message is None:
        return None
    return (
        message.model,
        message.response_id,
        message.usage,
        message.stop_reason,
        message.stop,
        message.error_type,
        [(call.id, call.name, call.server) for call in message.tool_calls],
    )


def words(message: AssistantMessage | None) -> list[object]:
    blocks = message.content if message else ()
    texts = [block.text.replace(f"<redacted:{BODY}>", "") for block in blocks]
    arguments = [block.arguments for block in blocks if isinstance(block, ToolCall)]
    return [word for word in (*texts, *arguments) if word not in ("", "{}", {})]


FIXTURES = [(dialect, name) for dialect in EXPECTED for name in EXPECTED[dialect]]


@pytest.mark.parametrize(("dialect", "name"), FIXTURES, ids=str)
def test_what_is_counted_stays_and_what_was_said_goes(dialect: str, name: str) -> None:
    whole = record(dialect, name)

    kept = bodiless(whole)

    assert counted(kept.message) == counted(whole.message)
    assert words(kept.message) == []
    assert event_count(kept) == event_count(whole)


def test_events_keep_their_times() -> None:
    hello = b'data: {"choices": [{"index": 0, "delta": {"content": "Sunny"}}]}\n\n'
    chunks = ((0.5, hello[:20]), (1.5, hello[20:] + hello), (2.5, b"data: [DONE]\n\n"))
    whole = record("openai.chat", "text.sse", chunks=chunks)

    kept = bodiless(whole)

    blank = b'data: {"choices":[{"index":0,"delta":{"content":""}}]}\n\n'
    assert kept.chunks == ((1.5, blank), (1.5, blank), (2.5, b"data: [DONE]\n\n"))
    assert (kept.request, kept.redacted) == (None, (BODY,))


@pytest.mark.parametrize(
    "body",
    [
        b"Sunny",
        b"<html>Sunny</html>",
        b'"Sunny"',
        b'["Sunny"]',
        b'{"Sunny": "Sunny"',
        b'{"embedding": [0.25]}',
        b'{"input": {"Sunny": 1}, "arguments": {"Sunny": {"id": "Sunny"}}}',
        b'{"error": "Sunny"}',
        b'{"data": [{"id": "Sunny"}]}',
        b'{"output": ["Sunny", ["Sunny"], {"text": "Sunny", "score": 0.25}]}',
        b'data: Sunny\n\ndata: {"text": "Sunny"}\n\n: Sunny\n\nevent: x\ndata: {"delta": "Sunny"}',
        b"\xff\xfe Sunny",
        b"[" * 100_000,
    ],
)
def test_what_is_not_known_goes(body: bytes) -> None:
    whole = Record("i", "p", "opaque", None, 200, Headers(), ((0.1, body),))

    kept = bodiless(whole).body

    assert b"Sunny" not in kept
    assert b"0.25" not in kept
    assert len(kept) < 150


def test_an_error_that_is_a_text_is_still_an_error() -> None:
    whole = Record("i", "p", "openai.chat", None, 400, Headers(), ((0.1, b'{"error": "Sunny"}'),))

    assert bodiless(whole).body == b'{"error":"<redacted:body>"}'


def test_an_error_keeps_its_type_and_code() -> None:
    body = b'{"error": {"type": "a", "code": "b", "message": "Sunny", "param": "Sunny"}}'
    whole = Record("i", "p", "openai.chat", None, 400, Headers(), ((0.1, body),))

    assert json.loads(bodiless(whole).body) == {
        "error": {"type": "a", "code": "b", "message": "", "param": ""}
    }


# Through a bridge


def weather(city: str) -> str:
    """The weather in a city."""
    if city == "Porto":
        raise ValueError("no umbrella in Porto")
    return "Sunny indeed"


def talk(**options: Any) -> Bridge:
    script = Script(
        reply(calls("weather", city="Lisbon"), calls("weather", city="Porto"), usage=USAGE),
        reply("Sunny in Lisbon", usage=USAGE),
        fail(400, message="no umbrella"),
    )
    bridge = Bridge(script, record_bodies=False, tools=[weather], environ={}, **options)
    with bridge.openai(max_retries=0) as client:
        question: Any = [{"role": "user", "content": "Is it sunny in Lisbon? umbrella?"}]
        asking = client.chat.completions
        said = asking.create(model="gpt-5-mini", messages=question)
        assert said.choices[0].message.content == "Sunny in Lisbon"
        with pytest.raises(Exception, match="no umbrella"):
            asking.create(model="gpt-5-mini", messages=question)
    bridge.flush()
    return bridge


def check_frames(bridge: Bridge) -> None:
    """The numbers, and that nothing was kept beside them."""
    frames = bridge.frames
    rows = frames.interceptions()
    assert rows[["rounds", "status", "input_tokens", "output_tokens"]].fillna(
        0
    ).values.tolist() == [
        [2, 200, 14, 10],
        [1, 400, 0, 0],
    ]
    assert rows["bodies"].tolist() == [False, False]
    assert rows["cost_usd"].iloc[0] > 0
    assert rows["ttft_s"].notna().all()
    tools = frames.tool_calls()
    assert tools[["name", "injected"]].values.tolist() == [["weather", True]] * 2
    assert tools["duration_s"].notna().all()
    assert tools["arguments"].isna().all()
    assert tools["result"].isna().all()
    assert sorted(tools["error"].dropna()) == [f"<redacted:{BODY}>"]
    assert (len(frames.prompts()), len(frames.thoughts())) == (0, 0)
    kept = repr([(r.request and r.request.body, r.chunks) for r in bridge.records])
    kept += repr([(i.request.body, i.tool_runs) for i in bridge.interceptions])
    assert not [word for word in SECRETS if word.lower() in kept.lower()]


def test_memory_holds_no_bodies() -> None:
    with talk() as bridge:
        check_frames(bridge)


def test_a_database_holds_no_bodies(tmp_path: Path) -> None:
    with talk(store=f"sqlite:///{tmp_path / 'usage.db'}") as bridge:
        check_frames(bridge)

    with sqlite3.connect(tmp_path / "usage.db") as database:
        dump = "\n".join(database.iterdump())
    database.close()
    as_hex = [word.encode().hex().upper() for word in SECRETS]
    assert not [word for word in (*SECRETS, *as_hex) if word in dump]


@pytest.mark.xdist_group("postgres")
def test_postgresql_holds_no_bodies(postgres: Any) -> None:
    with talk(store=postgres.url) as bridge:
        check_frames(bridge)


def test_a_cassette_holds_no_bodies(tmp_path: Path) -> None:
    path = tmp_path / "session.yaml"
    talk(store=path).close()

    text = path.read_text()
    assert not [word for word in SECRETS if word in text]
    kept = list(Cassette.load(path))
    assert [(each.status, each.redacted) for each in kept] == [
        (200, (BODY,)),
        (200, (BODY,)),
        (400, (BODY,)),
    ]
    assert [each.message.usage for each in kept[:2] if each.message] == [USAGE, USAGE]


def test_a_store_that_counts_counts_the_same() -> None:
    store = MeteredStore()
    with talk(store=store):
        text = store.render_metrics().decode()

    assert 'name="weather",provider="openai",server="' in text
    assert 'type="input"} 14.0' in text


def test_the_client_gets_it_all() -> None:
    with Bridge(Script("Sunny"), record_bodies=False, environ={}) as bridge:
        with bridge.anthropic() as client:
            message = client.messages.create(
                model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
            )

        assert message.content[0].type == "text"
        assert message.content[0].text == "Sunny"
        assert bridge.records[0].model == "m"
