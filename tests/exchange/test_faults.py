import json
import math
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio
import pytest

from llmbridge.bridge import Bridge
from llmbridge.errors import BridgeError, ConfigurationError
from llmbridge.exchange import faults
from llmbridge.exchange.call import Call, Headers, Reply, Request
from llmbridge.exchange.injection import Fault
from llmbridge.exchange.record import Record
from llmbridge.upstreams.replay import Replay
from llmbridge.upstreams.script import Script

CHAT = "/v1/chat/completions"
SSE = Headers((("content-type", "text/event-stream"),))


def event(**delta: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"


ONE, TWO, THREE = event(content="é"), event(content="two"), event(content="three")
STOP = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = (ONE, TWO, THREE, STOP, DONE)
BODY = b'{"id":"1","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'


class Upstream:
    """Answers every call alike, and tells how often it was asked and how its replies ended."""

    def __init__(self, *pieces: bytes, then: Callable[[], Any] | None = None) -> None:
        self.pieces = pieces
        self.then = then
        self.replies: list[Reply] = []

    async def __call__(self, call: Call) -> Reply:
        fields = SSE if call.streaming else Headers({"content-type": "application/json"})
        self.replies.append(Reply(200, fields, self.chunks(call)))
        return self.replies[-1]

    async def chunks(self, call: Call) -> AsyncIterator[bytes]:
        for piece in self.pieces or (STREAM if call.streaming else (BODY,)):
            yield piece
        if self.then:
            await self.then()


class Heard:
    """What a client got."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.status = 0
        self.pieces: list[bytes] = []
        self.broke = False

    @property
    def told(self) -> tuple[str | None, str | None]:
        """How the last interception ended, and what was injected."""
        last = self.bridge.interceptions[-1]
        return last.end, last.fault


def request(*, streaming: bool = True, model: str = "m") -> Request:
    body = {"model": model, "stream": streaming, "messages": []}
    return Request("POST", f"http://bridge{CHAT}", Headers(), json.dumps(body).encode())


async def hear(bridge: Bridge, *, streaming: bool = True, model: str = "m") -> Heard:
    heard = Heard(bridge)
    reply = await bridge.handle(request(streaming=streaming, model=model))
    heard.status = reply.status
    try:
        async for piece in reply:
            heard.pieces.append(piece)
    except BridgeError:
        heard.broke = True
    return heard


def faulty(*injected: Fault, upstream: Any = None) -> Bridge:
    return Bridge(upstream or Upstream(), faults=injected, environ={})


CASES: dict[str, tuple[Fault, Sequence[bytes], bool, str, str | None]] = {
    "events": (
        faults.disconnect(after_events=2),
        (ONE, TWO),
        True,
        "truncated",
        "disconnect(after_events=2)",
    ),
    "at once": (faults.disconnect(), (), True, "truncated", "disconnect()"),
    "after no event": (
        faults.disconnect(after_events=0),
        (),
        True,
        "truncated",
        "disconnect(after_events=0)",
    ),
    "bytes": (
        faults.disconnect(after_bytes=len(ONE) + 5),
        (ONE, TWO[:5]),
        True,
        "truncated",
        f"disconnect(after_bytes={len(ONE) + 5})",
    ),
    "no time": (
        faults.disconnect(after_ms=0),
        (),
        True,
        "truncated",
        "disconnect(after_ms=0)",
    ),
    "closed": (
        faults.disconnect(after_events=1, how="eof"),
        (ONE,),
        False,
        "truncated",
        "disconnect(after_events=1, how='eof')",
    ),
    "more events than there are": (
        faults.disconnect(after_events=9),
        STREAM,
        False,
        "completed",
        None,
    ),
    "truncate": (
        faults.truncate(event=1),
        (ONE, TWO[: len(TWO) // 2]),
        False,
        "truncated",
        "truncate(event=1)",
    ),
    "no terminal": (
        faults.no_terminal(),
        (ONE, TWO, THREE),
        False,
        "truncated",
        "no_terminal()",
    ),
    "malformed": (
        faults.malformed(event=1),
        (ONE, b'data: {"choices": [{"delta"\n\n', THREE, STOP, DONE),
        False,
        "completed",
        "malformed(event=1)",
    ),
    "duplicate": (
        faults.duplicate(event=1),
        (ONE, TWO, TWO, THREE, STOP, DONE),
        False,
        "completed",
        "duplicate(event=1)",
    ),
    "crlf": (
        faults.crlf(),
        tuple(each.replace(b"\n", b"\r\n") for each in STREAM),
        False,
        "completed",
        "crlf()",
    ),
    "split event": (
        faults.split_event(),
        tuple(half for each in STREAM for half in (each[: len(each) // 2], each[len(each) // 2 :])),
        False,
        "completed",
        "split_event()",
    ),
    "merge events": (
        faults.merge_events(2),
        (ONE + TWO, THREE + STOP, DONE),
        False,
        "completed",
        "merge_events(2)",
    ),
}


@pytest.mark.parametrize(
    ("fault", "pieces", "broke", "end", "text"), CASES.values(), ids=CASES.keys()
)
async def test_a_stream_goes_wrong_as_told(
    fault: Fault, pieces: Sequence[bytes], broke: bool, end: str, text: str | None
) -> None:
    heard = await hear(faulty(fault))

    assert (heard.status, tuple(heard.pieces), heard.broke) == (200, tuple(pieces), broke)
    assert heard.told == (end, text)


@pytest.mark.parametrize("fault", [each[0] for each in CASES.values()], ids=CASES.keys())
async def test_the_record_holds_what_the_client_got(fault: Fault) -> None:
    heard = await hear(faulty(fault))

    (record,) = heard.bridge.records
    assert [chunk for _, chunk in record.chunks] == heard.pieces
    assert record.end == heard.told[0]


BLOCKS: dict[str, tuple[Fault, bytes, bool, str]] = {
    "reset": (faults.disconnect(after_bytes=9), BODY[:9], True, "truncated"),
    "closed": (faults.disconnect(after_bytes=9, how="eof"), BODY[:9], False, "truncated"),
    "truncate": (faults.truncate(), BODY[: len(BODY) // 2], False, "truncated"),
    "malformed": (faults.malformed(), BODY[: len(BODY) // 2], False, "truncated"),
    "duplicate": (faults.duplicate(), BODY, False, "completed"),
    "crlf": (faults.crlf(), BODY, False, "completed"),
    "no terminal": (faults.no_terminal(), BODY, False, "completed"),
    "error event": (
        faults.error_event("api_error", message="No.", after_events=0),
        b'{"error":{"message":"No.","type":"server_error","param":null,"code":null}}',
        False,
        "upstream_error",
    ),
}


@pytest.mark.parametrize(("fault", "body", "broke", "end"), BLOCKS.values(), ids=BLOCKS.keys())
async def test_a_whole_answer_goes_wrong_as_told(
    fault: Fault, body: bytes, broke: bool, end: str
) -> None:
    heard = await hear(faulty(fault), streaming=False)

    assert (b"".join(heard.pieces), heard.broke, heard.told[0]) == (body, broke, end)


@pytest.mark.parametrize(
    "fault", [faults.duplicate(), faults.crlf(), faults.no_terminal()], ids=str
)
async def test_what_cannot_happen_to_a_whole_answer_is_not_told(fault: Fault) -> None:
    assert (await hear(faulty(fault), streaming=False)).told == ("completed", None)


async def test_characters_are_cut_in_two() -> None:
    text = "é und 🙂".encode()
    bridge = faulty(faults.split_utf8(), upstream=Upstream(b"data: " + text + b"\n\n", DONE))

    heard = await hear(bridge)

    assert heard.pieces == [b"data: \xc3", b"\xa9 und \xf0", b"\x9f\x99\x82\n\n", DONE]


@pytest.mark.parametrize("path", ["/v1/messages", CHAT, "/v1/responses"])
async def test_an_error_event_ends_a_stream_in_the_clients_dialect(path: str) -> None:
    bridge = faulty(faults.error_event(message="Busy."), upstream=Script("Hello"))
    body = {"model": "m", "stream": True, "messages": [], "input": "hi", "max_tokens": 9}
    reply = await bridge.handle(
        Request("POST", f"http://bridge{path}", Headers(), json.dumps(body).encode())
    )

    async for _ in reply:
        pass

    message = bridge.records[0].message
    assert message is not None
    assert (message.error, message.error_type) == ("Busy.", "overloaded_error")
    assert (reply.status, reply.end) == (200, "upstream_error")


async def test_an_error_event_comes_after_so_many_events() -> None:
    heard = await hear(faulty(faults.error_event(after_events=2)))

    assert (heard.pieces[:2], len(heard.pieces)) == ([ONE, TWO], 3)


async def test_a_status_spares_the_upstream() -> None:
    upstream = Upstream()

    heard = await hear(faulty(faults.status(529, retry_after=0.5), upstream=upstream))

    assert (heard.status, upstream.replies, heard.told) == (
        529,
        [],
        ("upstream_error", "status(529, retry_after=0.5)"),
    )


async def test_a_fault_ends_after_so_many_times() -> None:
    bridge = faulty(faults.status(429, times=2))

    assert [(await hear(bridge)).status for _ in range(4)] == [429, 429, 200, 200]


async def test_a_fault_that_answers_spares_the_call_the_next() -> None:
    bridge = faulty(faults.status(429, times=1), faults.disconnect(times=1))

    heard = [await hear(bridge) for _ in range(3)]

    assert [(each.status, each.broke) for each in heard] == [
        (429, False),
        (200, True),
        (200, False),
    ]


async def test_several_faults_hit_one_call() -> None:
    heard = await hear(faulty(faults.crlf(), faults.disconnect(after_events=1)))

    assert heard.pieces == [ONE.replace(b"\n", b"\r\n")]
    assert heard.told == ("truncated", "crlf(); disconnect(after_events=1)")


@pytest.mark.parametrize(
    "when", ["gpt-*", lambda call: call.model == "gpt-5"], ids=["glob", "function"]
)
async def test_a_fault_hits_the_calls_it_is_meant_for(when: Any) -> None:
    bridge = faulty(faults.status(500, when=when))

    assert [(await hear(bridge, model=model)).status for model in ("gpt-5", "claude")] == [500, 200]


async def test_calls_that_are_not_meant_do_not_count() -> None:
    bridge = faulty(faults.status(500, when="gpt-*", times=1))

    statuses = [(await hear(bridge, model=model)).status for model in ("claude", "gpt-5", "gpt-5")]

    assert statuses == [200, 500, 200]


async def test_chance_hits_the_same_calls_every_time() -> None:
    async def statuses(seed: int) -> list[int]:
        bridge = faulty(faults.status(500, probability=0.5, seed=seed))
        return [(await hear(bridge)).status for _ in range(20)]

    one, again, other = await statuses(1), await statuses(1), await statuses(2)

    assert (one == again, one == other, set(one)) == (True, False, {200, 500})


async def test_a_scope_adds_faults_for_as_long_as_it_lasts() -> None:
    bridge = faulty()

    before = (await hear(bridge)).status
    with bridge.faults(faults.status(503)):
        inside = (await hear(bridge)).status
    after = (await hear(bridge)).status

    assert (before, inside, after) == (200, 503, 200)


async def test_a_scope_comes_before_the_bridges_own() -> None:
    bridge = faulty(faults.status(500))

    with bridge.faults(faults.status(429, times=1)):
        statuses = [(await hear(bridge)).status for _ in range(2)]

    assert statuses == [429, 500]


async def test_a_fault_may_be_used_again_elsewhere() -> None:
    once = faults.status(500, times=1)

    assert [(await hear(faulty(once))).status for _ in range(2)] == [500, 500]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept for, in no time."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("llmbridge.exchange.faults.anyio.sleep", sleep)
    return waited


async def test_latency_comes_before_the_upstream_is_asked(waits: list[float]) -> None:
    order: list[object] = []

    async def upstream(call: Call) -> Reply:
        order.append(list(waits))
        return await Upstream()(call)

    heard = await hear(faulty(faults.latency(2), upstream=upstream))

    assert (order, heard.told) == ([[2]], ("completed", "latency(2)"))


async def test_slow_headers_come_after_it(waits: list[float]) -> None:
    order: list[object] = []

    async def upstream(call: Call) -> Reply:
        order.append(list(waits))
        return await Upstream()(call)

    heard = await hear(faulty(faults.slow_headers(2), upstream=upstream))

    assert (order, waits, heard.told) == ([[]], [2], ("completed", "slow_headers(2)"))


@pytest.mark.parametrize("after", [0, 2])
async def test_a_stream_stalls_after_so_many_events(after: int, waits: list[float]) -> None:
    bridge = faulty(faults.stall(after_events=after, for_s=5))
    reply = await bridge.handle(request())

    waited = [len(waits) async for _ in reply]

    assert waited == [int(place >= after) for place in range(len(STREAM))]
    assert bridge.interceptions[0].fault == f"stall(after_events={after}, for_s=5)"


async def test_a_client_that_leaves_a_stalled_stream_is_told_of(
    waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Upstream()
    bridge = faulty(faults.stall(after_events=1), upstream=upstream)

    async def leave(seconds: float) -> None:
        raise anyio.get_cancelled_exc_class()

    monkeypatch.setattr("llmbridge.exchange.faults.anyio.sleep", leave)
    reply = await bridge.handle(request())
    first = await anext(reply)
    with pytest.raises(anyio.get_cancelled_exc_class()):
        await anext(reply)
    await reply.aclose()

    assert (first, upstream.replies[0].end) == (ONE, "client_gone")
    assert [(each.end, each.fault) for each in bridge.interceptions] == [
        ("client_gone", f"stall(after_events=1, for_s={math.inf})")
    ]


async def test_a_client_that_leaves_before_slow_headers_frees_the_upstream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream = Upstream()
    bridge = faulty(faults.slow_headers(9), upstream=upstream)

    async def leave(seconds: float) -> None:
        raise anyio.get_cancelled_exc_class()

    monkeypatch.setattr("llmbridge.exchange.faults.anyio.sleep", leave)
    with pytest.raises(anyio.get_cancelled_exc_class()):
        await bridge.handle(request())

    assert upstream.replies[0].end == "client_gone"


async def test_time_cuts_a_stream_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.001, 0.002, 0.003])
    monkeypatch.setattr("llmbridge.exchange.faults.monotonic", lambda: next(clock, 9.0))
    upstream = Upstream(ONE, TWO, then=anyio.sleep_forever)

    heard = await hear(faulty(faults.disconnect(after_ms=3), upstream=upstream))

    assert (heard.pieces, heard.broke, upstream.replies[0].end) == ([ONE, TWO], True, "client_gone")


async def test_time_interrupts_a_wait() -> None:
    upstream = Upstream(ONE, then=anyio.sleep_forever)

    heard = await hear(faulty(faults.disconnect(after_ms=1), upstream=upstream))

    assert (heard.broke, heard.told) == (True, ("truncated", "disconnect(after_ms=1)"))


async def test_a_stream_that_ends_in_time_is_whole() -> None:
    heard = await hear(faulty(faults.disconnect(after_ms=1e6)))

    assert (tuple(heard.pieces), heard.told) == (STREAM, ("completed", None))


async def test_a_cut_lets_go_of_the_upstream() -> None:
    upstream = Upstream()

    await hear(faulty(faults.truncate(), upstream=upstream))

    assert upstream.replies[0].end == "client_gone"


async def test_faults_are_injected_into_replays() -> None:
    chunks = tuple((0.1, each) for each in STREAM)
    record = Record("i", "openai", "openai.chat", request(), 200, SSE, chunks)
    bridge = faulty(
        faults.status(429, times=1),
        faults.disconnect(after_events=1, times=1),
        upstream=Replay([record], strict=False),
    )

    heard = [await hear(bridge) for _ in range(3)]

    assert [(each.status, tuple(each.pieces), each.broke) for each in heard[1:]] == [
        (200, (ONE,), True),
        (200, STREAM, False),
    ]
    assert [each.fault for each in bridge.interceptions] == [
        "status(429)",
        "disconnect(after_events=1)",
        None,
    ]


async def test_the_frame_of_interceptions_tells_what_was_injected() -> None:
    bridge = faulty(faults.status(429, times=1))
    for _ in range(2):
        await hear(bridge)

    assert [*bridge.frames.interceptions()["fault"].fillna("")] == ["status(429)", ""]


NUMBER: Any = 42


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: faults.status(200), "status 200 is no error"),
        (lambda: faults.status(429, times=0), "times=0, give 1 or more"),
        (lambda: faults.status(429, probability=2), "probability=2, give 0 to 1"),
        (lambda: faults.latency(-1), "latency: -1 cannot be"),
        (lambda: faults.disconnect(after_events=-1), "disconnect: -1 cannot be"),
        (
            lambda: faults.disconnect(after_events=1, after_ms=1),
            "after_events and after_ms are two",
        ),
        (lambda: faults.disconnect(how=NUMBER), "how=42, give 'reset' or 'eof'"),
        (lambda: faults.error_event("nonsense"), "no error 'nonsense'"),
        (lambda: faults.merge_events(1), "count=1, give 2 or more"),
        (lambda: Bridge(Script(), faults=[NUMBER], environ={}), "42 is no fault: give one of"),
        (lambda: Bridge(Script(), faults=NUMBER, environ={}), "faults is of type int: give a list"),
        (lambda: Bridge(Script(), environ={}).faults(NUMBER).__enter__(), "42 is no fault"),
    ],
)
def test_what_cannot_be_injected_is_refused(make: Callable[[], object], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        make()
