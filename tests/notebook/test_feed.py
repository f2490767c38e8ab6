"""What a feed makes of the calls of a bridge while they are under way, and that it leaves them alone."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from llmbridge import Bridge, Context, Model, Script, calls, fail
from llmbridge.canon.messages import AssistantMessage, Text, ToolCall, UserMessage
from llmbridge.exchange.call import Call, Headers, Reply, Request
from llmbridge.exchange.watching import Exchange, Watchers
from llmbridge.notebook import feed as feeds
from llmbridge.notebook.feed import Feed
from llmbridge.notebook.trace import Trace
from llmbridge.providers import DIALECTS
from tests.notebook.front import text_of

MODEL = Model("openai", "gpt-5-mini")
QUESTION = Context(messages=(UserMessage((Text("What time\nis it?"),)),))
KEY = "sk-proj-FAKEfakeFAKE0002"


class Viewer:
    """Notes what it is shown; `closed` ends that."""

    def __init__(self) -> None:
        self.closed = False
        self.broken = False
        self.shown: list[dict[str, int]] = []
        self.enough = threading.Event()

    def flush(self, traces: dict[str, Trace], now_s: float) -> bool:
        if self.broken:
            raise OSError("the front end is gone")
        self.shown.append({trace.id: len(trace.rows) for trace in traces.values()})
        if traces and not any(trace.live for trace in traces.values()):
            self.enough.set()
        return True


class Pieces:
    """An upstream that says these pieces, and waits for leave before each."""

    spends_keys = False

    def __init__(self, *pieces: bytes, status: int = 200) -> None:
        self.pieces = pieces
        self.status = status
        self.leave = anyio.Semaphore(0)

    async def __call__(self, call: Call) -> Reply:
        headers = Headers({"content-type": "text/event-stream", "set-cookie": "session=FAKE0005"})
        return Reply(self.status, headers, self.chunks())

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await self.leave.acquire()
            yield piece


def delta(text: str) -> bytes:
    said = {"choices": [{"index": 0, "delta": {"content": text}}]}
    return f"data: {json.dumps(said)}\n\n".encode()


END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def feed_of(bridge: Bridge) -> Feed:
    """The feed of a bridge, without a thread: the test ticks."""
    return Feed(bridge._watchers, *bridge._shown)


@pytest.fixture
def watched() -> Iterator[Any]:
    """A bridge before an upstream, with a feed that hears of its calls."""
    made: list[Bridge] = []

    def make(upstream: Any, **options: Any) -> tuple[Bridge, Feed]:
        bridge = Bridge(upstream, environ={"OPENAI_API_KEY": KEY}, **options)
        made.append(bridge)
        feed = feed_of(bridge)
        bridge._watchers.add(feed._see)
        return bridge, feed

    yield make
    for bridge in made:
        bridge.close()


async def test_each_event_is_there_as_soon_as_it_is_whole(watched: Any) -> None:
    upstream = Pieces(delta("Hel"), delta("lo")[:20], delta("lo")[20:], END)
    bridge, feed = watched(upstream)
    stream = await bridge.stream(MODEL, QUESTION)
    seen: list[tuple[str, int]] = []

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.result)
        for _ in upstream.pieces:
            upstream.leave.release()
            await anyio.wait_all_tasks_blocked()
            feed.read()
            trace = next(iter(feed.traces.values()))
            seen.append((text_of(trace), len(trace.rows)))

    assert seen == [("Hel", 1), ("Hel", 1), ("Hello", 2), ("Hello", 4)]
    assert feed.read()
    assert trace.facts["status"] == "done"
    assert trace.facts["prompt"] == "What time is it?"
    assert [row[3] for row in trace.rows][-1] == "[DONE]"


async def test_the_rows_fold_to_the_message_that_was_recorded(watched: Any) -> None:
    said = AssistantMessage((Text("One"), ToolCall("c1", "clock", {"zone": "UTC"})))
    bridge, feed = watched(Script(said, tps=10_000))

    await (await bridge.stream(MODEL, QUESTION)).result()
    feed.read()

    (trace,) = feed.traces.values()
    (record,) = bridge.records
    assert record.message is not None
    assert [block.text for block in trace.blocks] == [b.text for b in record.message.content]
    assert [block.about["kind"] for block in trace.blocks] == ["text", "tool"]
    assert trace.facts["usage"] == {"input": 4, "output": 2, "total": 6}
    assert trace.facts["cost"] > 0


async def test_what_is_shown_holds_no_secret(watched: Any) -> None:
    echo = delta(f"your key is {KEY}")
    bridge, feed = watched(Pieces(echo[:40], echo[40:], END))
    upstream = bridge.upstream
    for _ in upstream.pieces:
        upstream.leave.release()

    asked = Context(messages=(UserMessage((Text(f"Is {KEY} right?"),)),))
    await (await bridge.stream(MODEL, asked)).result()
    feed.read()

    (trace,) = feed.traces.values()
    told = json.dumps(trace.whole())
    assert "your key is" in told
    assert [secret for secret in (KEY, "FAKE0005") if secret in told] == []


async def test_a_document_with_blank_lines_is_kept_whole(watched: Any) -> None:
    page = b"<html>\n\n<p>Bad gateway</p>\r\n\r\n</html>"
    bridge, feed = watched(Pieces(page[:9], page[9:], status=502))
    for _ in "12":
        bridge.upstream.leave.release()

    await (await bridge.stream(MODEL, QUESTION)).result()
    feed.read()

    (trace,) = feed.traces.values()
    assert trace.answered is not None
    assert (trace.answered["status"], trace.answered["body"]) == (502, page.decode())


async def test_a_try_that_failed_is_a_round_and_not_the_end(watched: Any) -> None:
    bridge, feed = watched(Script(fail(529), "It is noon."), retries=1)

    await (await bridge.stream(MODEL, QUESTION)).result()
    feed.read()

    (trace,) = feed.traces.values()
    known = {name: trace.facts.get(name) for name in ("status", "http", "rounds", "error")}
    assert known == {"status": "done", "http": 200, "rounds": 2, "error": None}
    assert text_of(trace) == "It is noon."


async def test_rounds_of_tools_are_one_interception(watched: Any) -> None:
    def clock() -> str:
        """The time."""
        return "noon"

    bridge, feed = watched(Script(calls("clock"), "It is noon."), tools=[clock])

    await (await bridge.stream(MODEL, QUESTION)).result()
    feed.read()

    (trace,) = feed.traces.values()
    assert trace.facts["rounds"] == 2
    assert [block.about["kind"] for block in trace.blocks] == ["tool", "text"]
    assert text_of(trace).endswith("It is noon.")


async def test_who_comes_late_sees_what_came_before(watched: Any) -> None:
    upstream = Pieces(delta("Hel"), delta("lo"), END)
    bridge = Bridge(upstream, environ={})
    upstream.leave.release()
    stream = await bridge.stream(MODEL, QUESTION)
    await anext(stream)
    viewer = Viewer()

    feed = feed_of(bridge)
    feed.show(viewer)
    for _ in upstream.pieces:
        upstream.leave.release()
    await stream.result()
    assert await anyio.to_thread.run_sync(viewer.enough.wait, 10)
    feed.close()

    assert [text_of(trace) for trace in feed.traces.values()] == ["Hello"]


def test_a_call_that_begins_while_the_feed_does_is_shown_once(monkeypatch: Any) -> None:
    bridge = Bridge(Script("One"), environ={})
    asked = Request("POST", "http://x/")
    call = Call("i1", asked, bridge.providers[0], DIALECTS["openai.chat"], "/")
    exchange = Exchange(call, datetime.now(UTC))
    add = Watchers.add

    def begin(self: Watchers, see: Any) -> None:
        add(self, see)
        self.began(exchange)

    monkeypatch.setattr(Watchers, "add", begin)
    feed = feed_of(bridge)

    feed.show(Viewer())
    feed.close()

    (trace,) = feed.traces.values()
    assert trace.facts.get("rounds", 1) == 1


async def test_what_the_store_has_at_hand_is_shown_too() -> None:
    bridge = Bridge(Script("One", "Two"), environ={})
    await (await bridge.stream(MODEL, QUESTION)).result()
    viewer = Viewer()

    feed = feed_of(bridge)
    feed.show(viewer)
    assert await anyio.to_thread.run_sync(viewer.enough.wait, 10)
    feed.close()

    (trace,) = feed.traces.values()
    assert (text_of(trace), trace.facts["status"]) == ("One", "done")


async def test_what_happened_before_comes_before_what_was_seen(watched: Any) -> None:
    bridge, feed = watched(Script("One", "Two", "Three"))
    bridge._watchers.remove(feed._see)
    await (await bridge.stream(MODEL, QUESTION)).result()
    bridge._watchers.add(feed._see)
    await (await bridge.stream(MODEL, QUESTION)).result()
    feed.read()
    bridge._watchers.remove(feed._see)
    await (await bridge.stream(MODEL, QUESTION)).result()

    feed.remember()

    assert [text_of(trace) for trace in feed.traces.values()] == ["One", "Two", "Three"]


async def test_a_call_that_fails_before_its_answer_ends_in_the_feed(watched: Any) -> None:
    async def away(call: Call) -> Reply:
        raise OSError("nobody there")

    bridge, feed = watched(away)

    await (await bridge.stream(MODEL, QUESTION)).result()

    assert feed.read()
    (trace,) = feed.traces.values()
    assert trace.facts["status"] == "error"
    assert "the bridge failed" in trace.facts["error"]


async def test_a_stopped_call_is_shown_as_stopped(watched: Any) -> None:
    bridge, feed = watched(Pieces(delta("Hel")))
    bridge.upstream.leave.release()
    stream = await bridge.stream(MODEL, QUESTION)
    await anext(stream)

    bridge.stop(bridge.inflight[0])
    await stream.result()
    feed.read()

    (trace,) = feed.traces.values()
    assert (trace.facts["status"], trace.facts["end"]) == ("stopped", "interrupted")
    assert text_of(trace) == "Hel"


def test_a_viewer_that_is_closed_or_broken_ends_the_thread(caplog: Any) -> None:
    bridge = Bridge(Script(*["Hello"] * 9), environ={})
    closed, broken = Viewer(), Viewer()
    feed = feed_of(bridge)
    feed.show(closed)
    feed.show(broken)
    closed.closed = broken.broken = True

    with bridge:
        list(bridge.stream_sync(MODEL, QUESTION))
    thread = feed._thread
    if thread is not None:
        thread.join(timeout=10)

    assert feed._thread is None
    assert (feed._viewers, bridge._watchers._see) == ([], ())


def test_nobody_who_watches_costs_the_call_nothing() -> None:
    bridge = Bridge(Script("Hello"), environ={})

    with bridge:
        list(bridge.stream_sync(MODEL, QUESTION))

    assert (bridge._watchers._see, bridge._watchers.exchanges) == ((), {})
    assert bridge._feed is None


@pytest.mark.parametrize(("limit", "most"), [("MAX_TRACES", 3), ("MAX_BYTES", 9000)])
async def test_old_interceptions_are_let_go_of(
    watched: Any, monkeypatch: Any, limit: str, most: int
) -> None:
    monkeypatch.setattr(feeds, limit, most)
    bridge, feed = watched(Script(*[f"answer {n}" for n in range(9)]))

    for _ in range(9):
        await (await bridge.stream(MODEL, QUESTION)).result()
        feed.read()

    assert [text_of(trace) for trace in feed.traces.values()] == [f"answer {n}" for n in (6, 7, 8)]


async def test_an_answer_that_a_codec_trips_over_does_not_hide_the_others(
    watched: Any, monkeypatch: Any, caplog: Any
) -> None:
    bridge, feed = watched(Script("One", "Two"))
    trip = Trace.take

    def take(self: Trace, *given: Any) -> None:
        if next(iter(feed.traces)) == self.id and len(self.rows) == 2:
            raise KeyError("a block that never began")
        trip(self, *given)

    monkeypatch.setattr(Trace, "take", take)

    for _ in "12":
        await (await bridge.stream(MODEL, QUESTION)).result()
        feed.read()

    assert [(text_of(trace), trace.facts["status"]) for trace in feed.traces.values()] == [
        ("One", "done"),
        ("Two", "done"),
    ]
    assert "cannot be shown further" in caplog.text


def test_the_data_of_events_is_kept_within_bounds() -> None:
    trace = Trace("i1")

    for _ in range(3000):
        trace.take(0.0, None, "d" * 10_000, (), None)

    kept = sum(len(row[3] or "") for row in trace.rows)
    assert kept <= 8 * 1024 * 1024
    assert trace.rows[0][3].endswith("… (6,000 more)")
    assert [row[2] for row in trace.rows[-1:]] == [10_000]
