"""The inspector's script in a bare page: what it folds, shows and sends, without a notebook round it."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmbridge.canon.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Fail,
    Finish,
    Snapshot,
    Start,
)
from llmbridge.canon.messages import Text
from llmbridge.canon.partial_json import parse_partial
from llmbridge.exchange.record import Record
from llmbridge.notebook.outbox import Outbox
from llmbridge.notebook.trace import Trace
from llmbridge.notebook.widgets import play
from tests.browser.bare import Bare
from tests.browser.chromium import Watched
from tests.notebook.test_outbox import begun, grow
from tests.notebook.test_reprs import texts
from tests.samples import EXPECTED, at_border, record, request
from tests.shared import SHARED

pytestmark = pytest.mark.xdist_group("browser")

Make = Callable[..., Bare]

DIALECTS = ("anthropic.messages", "openai.chat", "openai.responses")
PLAIN = """value => {
  const {Num} = inspector;
  const plain = value => value instanceof Map ? ['object', [...value].map(([k, v]) => [k, plain(v)])]
    : Array.isArray(value) ? ['array', value.map(plain)]
    : value instanceof Num ? ['number', value.text] : ['value', value];
  return value.map(text => {
    const parsed = inspector.parsePartial(text);
    return parsed === undefined ? null : plain(parsed);
  }).map(each => JSON.stringify(each));
}"""


@pytest.fixture
def bare(watched: Watched) -> Make:
    """A page with an inspector of these records, or one that is to be fed."""

    def make(*records: Record, **state: Any) -> Bare:
        player = play(records) if records else None
        if player is not None:
            state = {"keyframe": player.keyframe, "recording": player.recording, "mode": "play"}
        page = Bare(watched, **state)
        page.view()
        return page

    return make


def plain(value: object) -> list[Any]:
    if isinstance(value, dict):
        return ["object", [[key, plain(held)] for key, held in value.items()]]
    if isinstance(value, list):
        return ["array", [plain(held) for held in value]]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ["number", value]
    return ["value", value]


def same(told: Any, expected: Any) -> bool:
    """Equal, numbers by their value: the page keeps them as they were written."""
    if told is None or expected is None or told[0] != expected[0]:
        return told is expected
    kind, held = told
    if kind == "number":
        return bool(json.loads(held) == expected[1])
    if kind == "array":
        return len(held) == len(expected[1]) and all(map(same, held, expected[1]))
    if kind == "object":
        pairs = zip(held, expected[1], strict=False)
        return len(held) == len(expected[1]) and all(
            a[0] == b[0] and same(a[1], b[1]) for a, b in pairs
        )
    return bool(held == expected[1])


def parsed(text: str) -> Any:
    try:
        return plain(parse_partial(text))
    except ValueError:
        return None


def prefixes() -> list[str]:
    documents = [
        '{"city": "Lis\\u0062on \\ud83d\\ude00 \\n", "n": [1, -2.5e+3, true, null, {"": {}}], "n": 7}',
        '  [0.10, "\\"", [], {"__proto__": {"2": 1, "1": 2}}, false] ',
        '{"a": "x',
        "123456789012345678901234567890",
    ]
    wrong = [
        "[1,]",
        "{,}",
        "[01]",
        "tru}",
        '{"a" 1}',
        '["\\x"]',
        "nul",
        "[1] 2",
        '"\n"',
        "NaN",
        "-",
    ]
    deep = ["[" * 200 + "1", "[" * 201 + "1", "1" * 4300, "1" * 4301, '"\\ud800x"', '"\ud83d']
    cut = [text[:size] for text in documents for size in range(len(text) + 1)]
    return [*cut, *wrong, *deep]


def vectors() -> list[str]:
    if SHARED is None:
        return []
    cases = json.loads((SHARED / "conformance/partial_json/vectors.json").read_text())["cases"]
    found: list[str] = []
    for case in cases:
        data = case.get("b64")
        if data is not None:
            try:
                found.append(base64.b64decode(data).decode())
            except ValueError:
                continue
    return found


def test_a_cut_document_has_the_same_value_in_the_page_as_in_python(bare: Make) -> None:
    every = [*prefixes(), *vectors()]

    told = map(json.loads, bare().page.evaluate(PLAIN, every))

    both = zip(every, told, strict=True)
    assert [(text, value) for text, value in both if not same(value, parsed(text))] == []


def moments(one: Record) -> list[list[str]]:
    """The texts of all blocks after each event."""
    snapshot = Snapshot()
    found: list[list[str]] = []
    for _, sse, deltas in one.steps():
        for delta in deltas:
            snapshot.apply(delta)
        if sse is not None or deltas:
            found.append([block.text for block in snapshot.message.content])
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_event_of_every_stream_shows_the_message_as_it_stood_then(
    bare: Make, dialect: str
) -> None:
    every = [record(dialect, name, id=name) for name in EXPECTED[dialect]]

    shown = bare(*every).page.evaluate("""() => Object.fromEntries(
      JSON.parse(state.recording).map(({id, rows}) => {
        const trace = new inspector.Trace(id);
        trace.rebuild(rows);
        return [id, rows.map((_, place) =>
          trace.at(place + 1).blocks.map(({block, end}) => block.text.slice(0, end)))];
      }))""")

    assert shown == {one.interception_id: moments(one) for one in every}


def test_scrubbing_shows_the_moment_with_the_block_in_view_and_asks_nobody(bare: Make) -> None:
    trace = begun()
    for number in range(1, 30):
        for word in range(40):
            grow(trace, number, BlockDelta(number - 1, f"block{number} word{word}\n"))
        grow(trace, number, BlockEnd(number - 1), BlockStart(number, Text()))
    grow(trace, 31, Finish("stop"))
    trace.know(status="done")
    page = bare()
    Outbox(page, recording_chars=10_000_000).begin({"i1": trace})

    page.go(500)

    assert page.known["shown"] == "500"
    texts = [text for _, text in page.blocks]
    assert sum(text.count("\n") for text in texts) == 500 - 1 - len(texts) + 1
    inside = page.page.evaluate("""() => {
      const panel = document.querySelector('[data-part=panel-message]').getBoundingClientRect();
      const fresh = [...document.querySelectorAll('mark')].filter(each => each.textContent);
      const box = fresh[0].getBoundingClientRect();
      return [fresh.length, fresh[0].textContent, box.top >= panel.top && box.bottom <= panel.bottom + 1];
    }""")
    assert inside == [1, texts[-1].splitlines(keepends=True)[-1], True]
    assert page.sent == []


@pytest.mark.parametrize("word", ["word", "a much longer piece of text than most "])
def test_scrubbing_5000_events_takes_less_than_a_frame(bare: Make, word: str) -> None:
    trace = begun()
    for place in range(5000):
        grow(trace, place / 500, BlockDelta(0, f"{word}{place} " + "\n" * (place % 20 == 0)))
    trace.know(status="done")
    page = bare()
    Outbox(page, recording_chars=10_000_000).begin({"i1": trace})

    spent = page.page.evaluate("""async () => {
      const slider = document.querySelector('[data-part=slider]');
      const spent = [];
      for (let place = 1; place <= 60; place += 1) {
        let begun;
        requestAnimationFrame(() => { begun = performance.now(); });
        slider.value = String((place * 3571) % 5001);
        slider.dispatchEvent(new Event('input'));
        await new Promise(requestAnimationFrame);
        document.body.offsetHeight;
        spent.push(performance.now() - begun);
      }
      return spent.sort((a, b) => a - b);
    }""")

    # Painting and layout, in the median: other tests may hold the processor.
    assert spent[len(spent) // 2] < 16
    assert page.sent == []


def test_two_views_and_a_view_that_comes_late_reach_the_same_text(
    bare: Make, watched: Watched
) -> None:
    trace, traces = begun(), dict[str, Trace]()
    traces["i1"] = trace
    first = bare()
    outbox = Outbox(first)
    for tick in range(20):
        grow(trace, tick, BlockDelta(0, f"word{tick} "))
        outbox.flush(traces, tick)
    first.view()
    late = Bare(watched)
    Outbox(late).begin(traces)
    late.view()

    text = " ".join(f"word{tick}" for tick in range(20)) + " "
    assert first.blocks == [["text", text], ["text", text]]
    assert late.blocks == [["text", text]]


def test_a_gap_waits_for_the_keyframe_and_asks_nobody_in_vain(bare: Make) -> None:
    trace = begun()
    traces = {"i1": trace}
    page = bare()
    grow(trace, 1, BlockDelta(0, "one "))
    page.post(batch(trace, 0, 1))
    grow(trace, 2, BlockDelta(0, "two "))
    grow(trace, 3, BlockDelta(0, "three "))
    page.post(batch(trace, 3, 4))
    before = page.blocks

    Outbox(page).begin(traces)
    grow(trace, 4, BlockDelta(0, "four "))
    page.post(batch(trace, 4, 5))

    assert before == [["text", ""]]
    assert page.blocks == [["text", "one two three four "]]


def test_who_scrubs_before_the_keyframe_gets_there_when_the_kernel_has_answered(bare: Make) -> None:
    trace = begun()
    for place in range(3000):
        grow(trace, place, BlockDelta(0, f"word{place} "))
    page, traces = bare(), {"i1": trace}
    outbox = Outbox(page)
    outbox.begin(traces)

    page.go(3)
    before = page.known["shown"]
    outbox.want(page.sent[0]["id"])
    outbox.flush(traces, 1.0)

    assert (before, page.known["shown"]) == ("3001", "3")
    assert page.blocks == [["text", "word0 word1 "]]


def batch(trace: Trace, start: int, end: int) -> dict[str, Any]:
    told = [[trace.id, start, trace.rows[start:end], {**trace.summary(), "n": end}, {}]]
    return {"k": "events", "j": json.dumps(told), "control": ""}


# What a page must not have made of a text: something that runs, loads or leads elsewhere.
MARKUP = """() => [...document.querySelectorAll('.llmb *')]
  .filter(each => /^(script|img|iframe|object|embed|form|link|base|a)$/.test(each.localName)
    || [...each.attributes].some(({name}) => name.startsWith('on')))
  .map(each => each.outerHTML)"""


def hostile_record(hostile: str) -> Record:
    """An answer that says it wherever one can be said something."""
    function = {"name": hostile, "arguments": json.dumps({hostile: [hostile]})}
    said = {"model": hostile, "choices": [{"delta": {"content": hostile, "reasoning": hostile}}]}
    tool = {"tool_calls": [{"index": 0, "id": hostile, "function": function}]}
    events = [
        said,
        {"choices": [{"delta": tool}]},
        {"error": {"message": hostile, "type": hostile}},
    ]
    return record(
        "openai.chat",
        "text.sse",
        id=hostile,
        model=hostile,
        chunks=tuple((0.1, f"data: {json.dumps(each)}\n\n".encode()) for each in events),
        request=request(
            {"messages": [{"role": "user", "content": hostile}], hostile: 1}, f"/{hostile}"
        ),
    )


def test_hostile_text_is_text_wherever_it_stands(bare: Make) -> None:
    every = list(dict.fromkeys(texts()))
    page = bare(*map(hostile_record, every))

    for place, hostile in enumerate(every):
        page.page.locator("[role=option]").nth(place).click()
        for tab in ("events", "request", "response", "usage", "message"):
            page.tab(tab)
            assert page.page.evaluate(MARKUP) == []
            if tab in ("request", "message"):
                assert page.page.inner_text(f"[data-part=panel-{tab}]").count(hostile) >= 2
        assert [kind for kind, _ in page.blocks] == ["thinking", "text", "tool", "error"]
        assert page.page.inner_text("[data-part=title]") == hostile


def test_the_response_is_a_tree_of_what_came_so_far(bare: Make) -> None:
    page = bare(record("anthropic.messages", "thinking_tool_call.sse"))
    page.tab("response")
    page.go(13)

    said = page.page.inner_text("[data-part=panel-response]")

    assert "HTTP 200" in said
    assert 'city: ""' in said
    assert 'type: "tool"' in said


def test_a_refusal_by_the_provider_is_shown_with_its_body(bare: Make) -> None:
    name = next(
        name
        for name in EXPECTED["anthropic.messages"]
        if name.endswith(".json") and "error" in name
    )
    page = bare(record("anthropic.messages", name))

    (ending,) = page.blocks
    page.tab("response")

    assert ending[0] == "error"
    assert 'type: "error"' in page.page.inner_text("[data-part=panel-response]")


def test_only_images_that_are_in_the_request_itself_are_shown(bare: Make) -> None:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    parts = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": pixel}},
        {"type": "image_url", "image_url": {"url": "http://evil.invalid/pixel.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,PHN2Zy8+"}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}},
        {"type": "image", "source": {"media_type": "text/html", "data": "PGI+"}},
    ]
    page = bare(
        record("openai.chat", "text.sse", request=request({"messages": [{"content": parts}]}))
    )
    page.tab("request")
    for _ in range(6):
        page.page.evaluate("""async () => {
          document.querySelectorAll('details').forEach(each => { each.open = true; });
          await painted();
        }""")

    shown = page.page.evaluate("() => [...document.images].map(each => each.src.slice(0, 22))")
    assert shown == ["data:image/png;base64,"] * 2


def test_a_long_list_in_a_request_is_shown_in_parts(bare: Make) -> None:
    page = bare(record("openai.chat", "text.sse", request=request({"input": list(range(1000))})))
    page.tab("request")

    count = "() => document.querySelectorAll('[data-part=panel-request] .leaf').length"
    first = page.page.wait_for_function(f"() => ({count})() || false").json_value()
    page.page.click("text=800 more")
    page.page.wait_for_function(f"() => ({count})() === 400")

    assert first == 200


def test_stop_tells_the_kernel(bare: Make) -> None:
    page = bare()
    Outbox(page).begin({"i1": begun()})

    page.page.click("[data-part=stop]")
    page.page.evaluate("() => painted()")

    assert page.sent[-1] == {"k": "stop", "id": "i1"}
    assert page.page.locator("[data-part=stop]").text_content() == "Stopping…"


def test_the_keyboard_reaches_everything(bare: Make) -> None:
    page = bare(
        *(record("anthropic.messages", "thinking_tool_call.sse", id=f"i{n}") for n in range(3))
    )
    keys = page.page.keyboard

    page.page.focus("[data-part=list]")
    keys.press("ArrowDown")
    page.page.evaluate("() => painted()")
    assert page.known["selected"] == "i1"
    page.page.focus("[data-part=play]")
    keys.press("ArrowLeft")
    keys.press("ArrowLeft")
    page.page.evaluate("() => painted()")
    assert int(page.known["shown"]) == int(page.known["events"]) - 2
    page.page.focus("[data-part=tab-message]")
    keys.press("ArrowRight")
    page.page.evaluate("() => painted()")
    focused = page.page.evaluate(
        "() => [document.activeElement.dataset.part, document.activeElement.ariaSelected]"
    )
    assert focused == ["tab-events", "true"]
    unnamed = page.page.evaluate("""() => [...document.querySelectorAll('.llmb button, .llmb input, .llmb select')]
      .filter(each => !each.ariaLabel && !each.textContent).map(each => each.outerHTML)""")
    assert unnamed == []


def test_the_filter_looks_at_model_prompt_and_state(bare: Make) -> None:
    asked = request({"messages": [{"role": "user", "content": "How far is the Moon?"}]})
    page = bare(
        record("openai.chat", "text.sse", id="i1", request=asked),
        record("anthropic.messages", "text.sse", id="i2"),
    )

    found = []
    for words in ("moon", "claude done", "nothing", ""):
        page.page.fill("[data-part=filter]", words)
        page.page.evaluate("() => painted()")
        found.append(
            page.page.evaluate(
                "() => [...document.querySelectorAll('[role=option]')].map(each => each.dataset.id)"
            )
        )

    assert found == [["i1"], ["i2"], [], ["i1", "i2"]]


def test_a_command_to_copy_has_the_key_as_a_variable(bare: Make) -> None:
    page = bare(
        record("openai.chat", "text.sse", request=request({"it's": 1}, "/v1/chat/completions"))
    )

    told = page.page.evaluate(
        "() => inspector.curl(JSON.parse(state.recording)[0].request, JSON.parse(state.recording)[0].auth)"
    )

    assert told.splitlines() == [
        "curl -N -X POST 'https://api.example.com/v1/chat/completions' \\",
        '  -H "Authorization: Bearer $OPENAI_API_KEY" \\',
        """  --data-raw '{"it'\\''s": 1}'""",
    ]


def test_a_replay_runs_to_the_end_by_itself(bare: Make) -> None:
    chunks = at_border("openai.chat", "text.sse", *(0.3 * n for n in range(100)))
    page = bare(record("openai.chat", "text.sse", chunks=chunks))
    page.page.select_option("[data-part=speed]", "4")

    page.page.click("[data-part=play]")
    page.page.wait_for_function(
        "() => { const d = document.querySelector('.llmb').dataset; return Number(d.shown) < Number(d.events); }"
    )
    page.page.wait_for_function(
        "() => { const d = document.querySelector('.llmb').dataset; return d.shown === d.events; }"
    )

    assert page.page.get_attribute("[data-part=play]", "aria-label") == "Play"


def test_a_fast_stream_is_followed_until_the_person_scrolls_up(bare: Make) -> None:
    trace, page = begun(), bare()
    page.page.set_viewport_size({"width": 700, "height": 800})
    outbox, traces = Outbox(page), {"i1": trace}
    below = """() => {
      const panel = document.querySelector('[data-part=panel-message]');
      return panel.scrollHeight - panel.scrollTop - panel.clientHeight;
    }"""

    def stream(seconds: int) -> float:
        for _ in range(seconds):
            for _ in range(500):
                grow(
                    trace,
                    1.0,
                    BlockDelta(0, f"word{len(trace.rows)} " + "\n" * (not len(trace.rows) % 9)),
                )
            outbox.flush(traces, float(len(trace.rows)))
        return float(page.page.evaluate(f"async () => {{ await painted(); return ({below})(); }}"))

    followed = stream(8)
    page.page.hover("[data-part=panel-message]")
    page.page.mouse.wheel(0, -900)
    page.page.wait_for_function(f"() => ({below})() > 500")
    left = stream(2)
    page.page.mouse.wheel(0, 1_000_000)
    page.page.wait_for_function(f"() => ({below})() < 24")
    again = stream(2)

    assert followed < 24
    assert left > 500
    assert again < 24


def test_the_timeline_follows_the_theme(bare: Make) -> None:
    page = bare(record("anthropic.messages", "thinking_tool_call.sse")).page
    draw = "() => document.querySelector('.llmb canvas').toDataURL()"
    light = page.evaluate(draw)

    page.evaluate("async () => { document.body.dataset.jpThemeLight = 'false'; await painted(); }")

    assert page.evaluate(draw) != light


def test_a_view_out_of_sight_says_so(bare: Make) -> None:
    page = bare(record("openai.chat", "text.sse"))
    said: list[bool] = page.page.evaluate("""async () => {
      const said = [];
      model.send = ({k, v}) => k === 'visible' && said.push(v);
      const llmb = document.querySelector('.llmb');
      for (const display of ['none', '']) {
        llmb.style.display = display;
        while (said.length < (display ? 1 : 2)) await painted();
      }
      return said;
    }""")

    assert said == [False, True]


@pytest.mark.parametrize("width", [400, 700, 1600])
def test_nothing_is_wider_than_the_page(bare: Make, width: int) -> None:
    page = bare(
        record(
            "anthropic.messages",
            "thinking_tool_call.sse",
            model="a-model-with-a-very-long-name-" * 4,
        )
    )
    page.page.set_viewport_size({"width": width, "height": 900})
    page.page.evaluate("() => painted()")

    assert page.page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
    small = page.page.evaluate("""() => [...document.querySelectorAll('.llmb button, .llmb select')]
      .filter(each => each.offsetHeight && each.offsetHeight < 24).map(each => each.outerHTML)""")
    assert small == []


def test_a_round_that_failed_does_not_color_the_next(bare: Make) -> None:
    trace = Trace("i1")
    trace.begin_round()
    grow(trace, 0.1, Fail("overloaded_error", "Overloaded"))
    trace.begin_round()
    grow(trace, 0.2, Start("m"), BlockStart(0, Text()), BlockDelta(0, "It is noon."))
    grow(trace, 0.3, BlockEnd(0), Finish("stop"))
    trace.know(status="done")
    page = bare()
    Outbox(page).begin({"i1": trace})

    shown = {}
    for count in (1, 2, 3):
        page.go(count)
        shown[count] = page.blocks

    assert shown == {
        1: [["error", "Overloaded"]],
        2: [["text", "It is noon."]],
        3: [["text", "It is noon."]],
    }


def test_a_file_is_stepped_through_without_a_kernel(watched: Watched, tmp_path: Path) -> None:
    path = tmp_path / "stream.html"
    kept = record("anthropic.messages", "thinking_tool_call.sse", id="i1")
    play([kept, record("openai.chat", "text.sse", id="i2")]).to_html(path)
    page = watched.page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))

    page.goto(path.as_uri())
    page.wait_for_selector(".llmb [data-block]")
    page.locator("[data-part=slider]").fill("13")
    page.wait_for_function("() => document.querySelector('.llmb').dataset.shown === '13'")

    assert page.inner_text("[data-part=panel-message]").count("get_weather") == 1
    assert said == []


@pytest.mark.parametrize("width", [400, 700, 1000, 1300])
def test_the_slider_keeps_its_width_while_it_is_dragged(bare: Make, width: int) -> None:
    page = bare(record("anthropic.messages", "thinking_tool_call.sse"))
    page.page.set_viewport_size({"width": width, "height": 900})
    page.page.evaluate("() => painted()")
    box = """() => {
      const {x, width} = document.querySelector('[data-part=slider]').getBoundingClientRect();
      return [x, width].join();
    }"""
    boxes = {page.page.evaluate(box)}

    for count in (13, 3, 0):
        page.go(count)
        boxes.add(page.page.evaluate(box))

    assert len(boxes) == 1
    assert page.page.is_visible("[data-part=follow]")


@pytest.mark.parametrize(
    "place",
    [
        "slider",
        "timeline",
        "list",
        "tab-events",
        "panel-message",
        "back",
        "play",
        "follow",
        "title",
    ],
)
def test_keys_step_wherever_somebody_has_clicked(bare: Make, place: str) -> None:
    page = bare(
        *(record("anthropic.messages", "thinking_tool_call.sse", id=f"i{n}") for n in range(2))
    )
    # As a notebook does: it scrolls, or goes to another cell, by what reaches it.
    page.page.evaluate("""() => {
      window.escaped = [];
      document.addEventListener('keydown', event => escaped.push(event.key));
      document.addEventListener('keydown', event => event.preventDefault(), true);
    }""")
    page.go(5)
    keys = page.page.keyboard

    def press(*names: str) -> int:
        for name in names:
            keys.press(name)
            page.page.evaluate("() => painted()")
        return int(page.known["shown"])

    page.page.click(f"[data-part={place}]", position={"x": 8, "y": 8})
    page.page.evaluate("() => painted()")
    if place == "play":
        page.page.click("[data-part=play]")

    assert press("Home") == 0
    if not place.startswith("tab"):
        assert press("ArrowRight", "ArrowRight", "ArrowLeft") == 1
    assert press("End") == int(page.known["events"])
    assert page.page.evaluate("() => escaped") == []


def test_a_button_that_can_do_no_more_keeps_the_keys(bare: Make) -> None:
    page = bare(record("anthropic.messages", "thinking_tool_call.sse"))
    page.go(1)
    back = page.page.locator("[data-part=back]")

    for _ in range(2):
        back.click(force=True)
        page.page.evaluate("() => painted()")

    assert back.get_attribute("aria-disabled") == "true"
    assert page.page.evaluate("() => document.activeElement.dataset.part") == "back"
    assert page.known["shown"] == "0"


def test_escape_ends_the_filter_and_what_is_shown_is_in_the_list(bare: Make) -> None:
    page = bare(
        record("openai.chat", "text.sse", id="i1"),
        record("anthropic.messages", "text.sse", id="i2"),
    )
    options = "() => [...document.querySelectorAll('[role=option]')].map(each => each.dataset.id)"

    page.page.fill("[data-part=filter]", "claude")
    page.page.evaluate("() => painted()")
    found = (page.page.evaluate(options), page.known["selected"])
    page.page.keyboard.press("Escape")
    page.page.evaluate("() => painted()")

    assert found == (["i2"], "i2")
    assert page.page.evaluate(options) == ["i1", "i2"]
    assert page.page.input_value("[data-part=filter]") == ""


def test_a_call_that_failed_keeps_its_prompt_in_the_list(bare: Make) -> None:
    trace, page = begun(), bare()
    grow(trace, 0.1, Fail("overloaded_error", "Overloaded"))
    trace.know(status="error", prompt="Tell me a story.", http=529)

    Outbox(page).begin({"i1": trace})

    option = "[role=option]"
    assert page.page.text_content(f"{option} .prompt") == "Tell me a story."
    assert page.page.text_content(f"{option} .when") == "overloaded_error"
    assert page.page.text_content("[data-part=status]") == "error 529 overloaded_error"


@pytest.mark.parametrize("width", [900, 1300])
def test_the_panel_stays_where_it_is_when_a_call_ends(bare: Make, width: int) -> None:
    trace, page = begun(), bare()
    page.page.set_viewport_size({"width": width, "height": 900})
    empty = page.page.evaluate("() => document.querySelector('.llmb').offsetHeight")
    trace.know(provider="a-provider-of-some-name", dialect="anthropic.messages", actor="somebody")
    top = "() => document.querySelector('.panels').getBoundingClientRect().top"
    tops = []

    for status in ("live", "done"):
        trace.know(status=status)
        Outbox(page).begin({"i1": trace})
        tops.append(page.page.evaluate(f"async () => {{ await painted(); return ({top})(); }}"))

    assert tops[0] == tops[1]
    assert empty < 200


def test_an_inspector_says_so_when_its_bridge_is_closed(bare: Make) -> None:
    page = bare().page
    before = page.inner_text("[data-part=empty]")

    page.evaluate("async () => { model.set('mode', 'closed'); await painted(); }")

    assert "No interception yet" in before
    assert "The bridge is closed" in page.inner_text("[data-part=empty]")
