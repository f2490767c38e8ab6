"""What a notebook shows of a value when a cell ends with it."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from IPython.lib.pretty import pretty as ipython_pretty

from llmbridge import Bridge, Cassette, Script
from llmbridge.canon.events import Snapshot, unfold
from llmbridge.canon.markup import WRAPPED
from llmbridge.canon.messages import AssistantMessage, Block, Text, Thinking, ToolCall, Usage
from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.record import Interception, Record
from llmbridge.frontends.server import Server
from tests.canon.test_markup import Seen
from tests.samples import NOON, record
from tests.shared import SHARED

TAGS = {"div", "p", "strong", "em", "small", "pre", "table", "thead", "tbody", "tr", "th", "td"}
STYLE = {("style", WRAPPED), ("scope", "col")}
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>',
    "</pre></td></table><iframe src='javascript:alert(1)'>",
    "&lt;b&gt; &amp;",
    "<!-- not a comment -->",
)


def texts() -> list[str]:
    if SHARED is None:
        return list(HOSTILE)
    vectors = json.loads((SHARED / "conformance/security/basic.json").read_bytes())
    given = [each if isinstance(each, str) else each["text"] for each in vectors["xss_texts"]]
    return [*HOSTILE, *given]


def message(hostile: str) -> AssistantMessage:
    content: tuple[Block, ...] = (
        Text(hostile),
        Text(hostile, refusal=True),
        Thinking(hostile),
        ToolCall("c1", hostile, {hostile: [hostile]}),
    )
    return AssistantMessage(content, hostile, error_type=hostile, error=hostile)


def interception(hostile: str) -> Interception:
    asked = Request("POST", f"https://api.example.com/{hostile}")
    return Interception(
        hostile, NOON, asked, actor=hostile, provider=hostile, model=hostile, error=hostile
    )


def exchange(hostile: str) -> Record:
    asked = Request("POST", f"https://api.example.com/{hostile}")
    return Record(
        hostile,
        hostile,
        "openai.chat",
        asked,
        500,
        Headers(),
        ((0.1, hostile.encode()),),
        model=hostile,
        error=hostile,
    )


def last_event(hostile: str) -> Any:
    snapshot = Snapshot()
    return [snapshot.apply(delta) for delta in unfold(message(hostile))][-1]


def bridge(hostile: str) -> Bridge:
    made = Bridge(Script(hostile), environ={})
    made.store.end(interception(hostile))
    return made


SHOWN: list[Callable[[str], Any]] = [
    message,
    interception,
    exchange,
    last_event,
    bridge,
    lambda hostile: Cassette(None, [exchange(hostile)]),
]


def pretty(value: Any) -> str:
    told: str = ipython_pretty(value)
    return told


def html(value: Any) -> str:
    told: str = value._repr_html_()
    return told


@pytest.mark.parametrize("hostile", texts())
@pytest.mark.parametrize("make", SHOWN)
def test_hostile_text_is_only_text(make: Callable[[str], Any], hostile: str) -> None:
    seen = Seen(html(make(hostile)))

    attributes = {pair for _, pairs in seen.tags for pair in pairs}
    assert ({tag for tag, _ in seen.tags} - TAGS, attributes - STYLE) == (set(), set())
    # Inside a repr or JSON it may be spelled with escapes.
    spelled = (hostile, repr(hostile)[1:-1], json.dumps(hostile, ensure_ascii=False)[1:-1])
    assert any(spelling in seen.text for spelling in spelled)


def test_a_message_shows_its_blocks_and_tokens() -> None:
    whole = AssistantMessage(
        (Thinking("hm"), ToolCall("c1", "clock", {"zone": "UTC"}), Text("Noon.")),
        "claude-sonnet-5",
        stop_reason="stop",
        usage=Usage(input_tokens=12, output_tokens=3),
    )

    words = Seen(html(whole)).text.split()

    assert " ".join(words) == (
        'Assistant claude-sonnet-5thinking hmtool call clock { "zone": "UTC" } Noon.'
        "stop_reason: stop · input_tokens: 12 · output_tokens: 3"
    )


def test_tool_arguments_that_have_only_begun_are_shown_as_they_came() -> None:
    begun = AssistantMessage((ToolCall("c1", "clock", {}, '{"zo'),))

    assert '{"zo' in Seen(html(begun)).text


def test_an_event_shows_the_message_at_that_moment() -> None:
    snapshot = Snapshot()
    events = [
        snapshot.apply(delta) for delta in unfold(AssistantMessage((Text("First"), Text("Second"))))
    ]

    seen = Seen(html(events[2])).text

    assert ("First" in seen, "Second" in seen) == (True, False)


def test_an_answer_that_is_not_of_its_dialect_is_shown_as_it_came() -> None:
    broken = Record("i1", "openai", "openai.chat", None, 200, Headers(), ((0.1, b"\xff<b>"),))

    seen = Seen(html(broken)).text

    assert ("request not kept" in seen, "\N{REPLACEMENT CHARACTER}<b>" in seen) == (True, True)


def test_a_record_shows_its_message() -> None:
    kept = record("anthropic.messages", "text.sse")
    assert kept.message is not None

    assert kept.message.text in Seen(html(kept)).text


def test_neither_bridge_nor_server_show_a_key_or_token() -> None:
    key = "sk-ant-api03-FAKEfakeFAKE0001"
    with Bridge(environ={"ANTHROPIC_API_KEY": key}) as bridge, bridge.serve() as server:
        assert server.token

        shown = html(bridge) + html(server) + repr(bridge) + repr(server)

    assert (key in shown, server.token in shown) == (False, False)


def test_a_bridge_shows_its_address_and_its_newest_interceptions_first() -> None:
    with Bridge(Script("Hello"), environ={}) as bridge, bridge.serve() as server:
        for number in range(7):
            asked = Request("POST", "https://api.example.com/")
            bridge.store.end(
                Interception(f"i{number}", NOON.replace(hour=number), asked, model=f"m{number}")
            )

        seen = Seen(html(bridge)).text

    assert server.url in seen
    assert [f"m{number}" in seen for number in range(7)] == [False, False] + [True] * 5
    assert seen.index("m6") < seen.index("m2")


def test_a_store_that_must_be_searched_is_not_read_to_be_shown() -> None:
    class Large(Cassette):
        at_once = False

        def interceptions(self, **filters: object) -> list[Interception]:
            raise AssertionError

    with Bridge(Script("Hello"), store=Large(), environ={}) as bridge:
        assert "Bridge" in html(bridge)


@pytest.mark.parametrize(
    "value", [Server, Bridge, Cassette, Record, Interception, AssistantMessage]
)
def test_what_a_cell_may_end_with_has_html(value: type) -> None:
    assert callable(getattr(value, "_repr_html_", None))


@pytest.mark.parametrize("hostile", texts())
@pytest.mark.parametrize("make", SHOWN)
def test_plain_text_is_one_short_line(make: Callable[[str], Any], hostile: str) -> None:
    line = pretty(make(hostile))

    assert (len(line.splitlines()), len(line) < 250) == (1, True)


@pytest.mark.parametrize("hostile", ["\n" * 500, "\x00\u2028\U0001f600" * 500, "it's" * 500])
@pytest.mark.parametrize("make", [message, last_event])
def test_whatever_a_model_says_its_line_is_short(make: Callable[[str], Any], hostile: str) -> None:
    line = pretty(make(hostile))

    assert (len(line.splitlines()), len(line) < 125) == (1, True)


def test_a_message_is_told_in_a_line() -> None:
    whole = AssistantMessage(
        (Thinking("hm"), ToolCall("c1", "clock", {"zone": "UTC"}), Text("Noon, it is. " * 9)),
        "claude-sonnet-5",
        stop_reason="stop",
        usage=Usage(input_tokens=12, output_tokens=1300),
    )

    assert pretty(whole) == (
        "AssistantMessage('claude-sonnet-5', stop, 1 tool call, 1,300 tokens:"
        " 'Noon, it is. Noon, it is. Noon, it is. Noon, …')"
    )


def test_an_event_is_told_in_a_line() -> None:
    snapshot = Snapshot()
    events = [snapshot.apply(delta) for delta in unfold(AssistantMessage((Text("First"),)))]

    assert [pretty(event) for event in events[:3]] == [
        "Event(start)",
        "Event(text_start)",
        "Event(text_delta 'First')",
    ]


def test_a_server_shows_what_leads_sdks_to_it() -> None:
    with Bridge(Script("Hello"), environ={}) as bridge, bridge.serve() as server:
        shown = Seen(html(server)).text

    assert f"ANTHROPIC_BASE_URL={server.url}/anthropic\n" in shown


def test_a_message_of_many_long_blocks_stays_small() -> None:
    many = AssistantMessage(tuple(Text("<" * 100_000) for _ in range(500)))

    assert len(html(many)) < 40_000


def test_a_key_that_a_client_sent_is_never_shown() -> None:
    path = "google/v1beta/models/gemini-3:generateContent?key=AIzaFAKE0006"
    with Bridge(Script("hi"), environ={}) as bridge:
        with httpx2.Client(transport=bridge.transport()) as client:
            client.post(
                f"http://localhost/{path}",
                json={"contents": [], "api_key": "sk-FAKE0007"},
                headers={"authorization": "Bearer sk-proj-FAKEfakeFAKE0002"},
            )

        shown = [html(value) for value in (bridge, *bridge.interceptions, *bridge.records)]

    assert (len(shown), "FAKE" in "".join(shown)) == (3, False)
