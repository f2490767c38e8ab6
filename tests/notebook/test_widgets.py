"""The inspector as the kernel has it: what it holds, what it answers, and how it looks without JavaScript."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import llmbridge
from llmbridge import Bridge, Cassette, Context, Model, Script
from llmbridge.notebook.static import static_html
from llmbridge.notebook.widgets import Inspector, play
from tests.canon.test_markup import Seen
from tests.notebook.test_reprs import STYLE, TAGS, exchange, texts
from tests.samples import at_border, record, request

DEMO = Path(llmbridge.__file__).parent / "demo"
MODEL, QUESTION = Model("openai", "gpt-5-mini"), Context()
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def inspector() -> Iterator[Any]:
    """A live inspector over a bridge that was asked once."""
    with Bridge(Script("Hello there", "And again"), environ={}) as bridge:
        list(bridge.stream_sync(MODEL, QUESTION))
        shown = bridge.live()
        shown.sent = []
        shown.send = lambda message, buffers=None: shown.sent.append(message)
        yield bridge, shown
        shown.close()


def bundle(inspector: Inspector) -> dict[str, Any]:
    made: dict[str, Any] = inspector._repr_mimebundle_()[0]
    return made


def test_a_player_carries_its_recording_with_it() -> None:
    cassette = Cassette.load(DEMO)

    player = play(cassette)

    whole = json.loads(player.recording)
    assert [each["id"] for each in whole] == [each.interception_id for each in cassette]
    for each, kept in zip(whole, cassette, strict=True):
        said = [step[2] for row in each["rows"] for step in row[4] if step[0] == "d"]
        assert kept.message is not None
        assert "".join(said) == "".join(block.text for block in kept.message.content)


def test_records_and_cassettes_play() -> None:
    cassette = Cassette.load(DEMO)

    assert repr(cassette[0].play()) == "Inspector(1 interceptions, 0 live)"
    assert repr(cassette.play()) == f"Inspector({len(cassette)} interceptions, 0 live)"
    assert cassette.play().mode == "play"


def test_a_player_hands_out_its_cassette_and_its_history() -> None:
    kept = record("openai.chat", "text.sse")
    player = play([kept])
    sent: list[Any] = []
    player.send = lambda message, buffers=None: sent.append(message)

    for asked in (
        {"k": "cassette", "id": "i1"},
        {"k": "want", "id": "i1"},
        {"k": "cassette"},
        None,
    ):
        player._hear(player, asked)

    assert [message["k"] for message in sent] == ["cassette", "history"]
    assert "version: 1" in sent[0]["text"]
    assert json.loads(sent[1]["j"])["n"] == len(json.loads(sent[1]["j"])["rows"])


def test_a_notebook_keeps_text_and_html_beside_the_widget() -> None:
    shown = bundle(play([record("anthropic.messages", "thinking_tool_call.sse")]))

    assert set(shown) == {"text/plain", "text/html", WIDGET}
    assert "get_weather" in shown["text/html"]
    assert len(shown["text/html"]) < 20_000


def test_the_fallback_of_a_live_inspector_shows_how_things_stand(inspector: Any) -> None:
    bridge, shown = inspector
    list(bridge.stream_sync(MODEL, QUESTION))

    bridge._feed.read()

    assert "And again" in bundle(shown)["text/html"]


def test_a_long_list_is_cut_with_a_word_on_what_is_left_out() -> None:
    html = bundle(play([record("openai.chat", "text.sse", id=f"i{n}") for n in range(60)]))
    seen = Seen(html["text/html"])

    assert "35 more" in seen.text
    assert len(html["text/html"]) < 20_000


@pytest.mark.parametrize("hostile", texts())
def test_hostile_text_is_text_without_javascript(hostile: str) -> None:
    said = json.dumps({"choices": [{"delta": {"content": hostile, "reasoning": hostile}}]})
    tool = {"index": 0, "id": hostile, "function": {"name": hostile, "arguments": hostile}}
    call = json.dumps({"model": hostile, "choices": [{"delta": {"tool_calls": [tool]}}]})
    chunks = tuple((0.1, f"data: {each}\n\n".encode()) for each in (said, call))
    one = record("openai.chat", "text.sse", chunks=chunks, model=hostile, error=hostile)

    seen = Seen(bundle(play([one, exchange(hostile)]))["text/html"])

    assert {name for name, _ in seen.tags} <= TAGS
    assert {pair for _, attrs in seen.tags for pair in attrs} <= STYLE
    assert seen.text.count(hostile) >= 4


def test_the_script_and_the_style_ask_nobody_for_anything() -> None:
    script, style = str(Inspector._esm), str(Inspector._css)

    assert re.findall("https?://[^/]+", script + style) == ["http://www.w3.org"] * 2  # SVG's name
    assert re.findall(r"(?i)\w+HTML\b|\beval\b|\bimport\b|Function\(", script) == []
    assert re.findall(r"@import|url\(", style) == []
    assert script.count("fetch(") == 1


def test_every_widget_carries_a_small_script() -> None:
    assert len(str(Inspector._esm)) < 42_000
    assert len(str(Inspector._css)) < 12_000


def test_no_trait_holds_the_way_to_stop_a_call(inspector: Any) -> None:
    bridge, shown = inspector
    list(bridge.stream_sync(MODEL, QUESTION))
    bridge._feed.close()

    state = json.dumps(shown.get_state(), default=str)
    token = bridge._control.url.split("/")[3]
    assert len(token) > 30
    assert token not in state
    assert token in next(message["control"] for message in shown.sent if message["k"] == "events")


def test_a_page_that_is_hidden_is_sent_less(inspector: Any) -> None:
    _, shown = inspector

    shown._hear(shown, {"k": "visible", "v": False})

    assert shown.visible is False


def test_stop_on_the_page_stops_the_call() -> None:
    with Bridge(Script("one two three four", tps=0.01), environ={}) as bridge:
        shown = bridge.live()
        events = bridge.stream_sync(MODEL, QUESTION)
        next(events)

        shown._hear(shown, {"k": "stop", "id": bridge.inflight[0].id})
        list(events)
        shown.close()

        assert [each.end for each in bridge.interceptions] == ["interrupted"]


def test_a_closed_inspector_ends_its_thread() -> None:
    with Bridge(Script("Hello", "Again"), environ={}) as bridge:
        shown = bridge.live()
        thread = bridge._feed._thread  # type: ignore[union-attr]
        shown.close()
        if thread is not None:
            thread.join(timeout=10)

        assert bridge._feed._thread is None  # type: ignore[union-attr]


def test_a_bridge_that_is_closed_still_shows_what_passed() -> None:
    with Bridge(Script("Hello"), environ={}) as bridge:
        list(bridge.stream_sync(MODEL, QUESTION))

    shown = bridge.live()

    assert "Hello" in bundle(shown)["text/html"]
    assert [whole["n"] for whole in json.loads(shown.recording)] == [5]
    assert bridge._control is None


def test_a_bridge_that_is_closed_says_so() -> None:
    with Bridge(Script("Hello"), environ={}) as bridge:
        pass

    shown = bridge.live()

    assert shown.mode == "closed"
    assert "none: the bridge is closed" in bundle(shown)["text/html"]


def test_an_inspector_says_so_when_its_bridge_is_closed() -> None:
    with Bridge(Script("Hello"), environ={}) as bridge:
        shown = bridge.live()
        before = shown.mode

    assert (before, shown.mode) == ("live", "closed")
    assert "none: the bridge is closed" in bundle(shown)["text/html"]


def test_an_inspector_answers_when_its_bridge_is_closed(inspector: Any) -> None:
    bridge, shown = inspector
    bridge.close()
    late = bridge.live()
    late.send = lambda message, buffers=None: shown.sent.append(message)
    (record,) = bridge.records
    shown.sent.clear()

    for each in (shown, late):
        each._hear(each, {"k": "want", "id": record.interception_id})
        each._hear(each, {"k": "cassette", "id": record.interception_id})

    assert [message["k"] for message in shown.sent] == ["history", "cassette"] * 2
    assert "version: 1" in shown.sent[-1]["text"]


def test_a_closed_inspector_is_its_html(inspector: Any) -> None:
    _, shown = inspector
    shown.close()

    assert set(shown._bundle()[0]) == {"text/plain", "text/html"}
    assert "Hello there" in shown._bundle()[0]["text/html"]


async def test_an_answer_that_is_no_stream_is_kept_as_a_document() -> None:
    key = "sk-proj-FAKEfakeFAKE0002"
    async with Bridge(Script(f"not {key}"), environ={"OPENAI_API_KEY": key}) as bridge:
        shown = bridge.live()
        async with bridge.async_openai() as client:
            await client.chat.completions.create(model="m", messages=[])
        bridge._feed.read()  # type: ignore[union-attr]
        (trace,) = bridge._feed.traces.values()  # type: ignore[union-attr]
        (played,) = json.loads(bridge.records[0].play().recording)
        shown.close()

    assert trace.answered is not None
    live, kept = json.loads(trace.answered["body"]), json.loads(played["response"]["body"])
    assert live == kept
    assert live["choices"][0]["message"]["content"] == "not <redacted:openai-key>"


def test_nothing_yet_is_said_so() -> None:
    assert "none yet" in static_html({})


def test_an_unreadable_request_does_not_stop_the_show() -> None:
    one = record("openai.chat", "text.sse", request=request(b'{"messages": 7}'))

    (whole,) = json.loads(play([one]).recording)

    assert "prompt" not in whole
    assert whole["request"]["body"] == '{"messages": 7}'


def test_times_of_events_are_those_of_the_record() -> None:
    chunks = at_border("openai.chat", "text.sse", *(0.5 + n / 10 for n in range(50)))

    (whole,) = json.loads(play([record("openai.chat", "text.sse", chunks=chunks)]).recording)

    assert [row[0] for row in whole["rows"][:3]] == [0.5, 0.6, 0.7]
