from collections.abc import AsyncIterator
from contextlib import aclosing

import anyio
import pytest

from llmbridge.errors import StreamTruncated
from llmbridge.exchange.call import Call, Headers, Reply, Request
from llmbridge.exchange.framing import frame
from llmbridge.providers import DIALECTS, PROVIDERS
from tests.conformance.test_dialects import FIXTURES

SSE = Headers((("content-type", "text/event-stream"),))
CHAT = DIALECTS["openai.chat"]
DONE = b"data: [DONE]\n\n"
TEXT = b'data: {"choices":[{"delta":{"content":"[DONE]"}}]}\n\n'
STOP = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'


class Upstream:
    """Sends these pieces, then closes, breaks or holds; tells whether it was closed."""

    def __init__(self, *pieces: bytes, then: str = "close", replayed: bool = False) -> None:
        self.pieces = pieces
        self.then = then
        self.replayed = replayed
        self.closed = False
        self.reply: Reply | None = None

    async def __call__(self, call: Call) -> Reply:
        self.reply = Reply(200, SSE, self.chunks(), replayed=self.replayed)
        return self.reply

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces:
                yield piece
            if self.then == "hold":
                await anyio.sleep_forever()
            if self.then == "break":
                raise StreamTruncated("the connection broke")
        finally:
            self.closed = True


def call(dialect: str = "openai.chat") -> Call:
    return Call("i", Request("POST", "http://x/"), PROVIDERS[1], DIALECTS[dialect], "/")


async def taken(upstream: Upstream, dialect: str = "openai.chat") -> tuple[list[bytes], Reply]:
    reply = await frame(call(dialect), upstream)
    async with aclosing(reply):
        return [chunk async for chunk in reply], reply


async def test_a_whole_stream_passes_in_its_own_pieces() -> None:
    pieces, reply = await taken(Upstream(TEXT[:9], TEXT[9:] + STOP, DONE))

    assert (pieces, reply.end) == ([TEXT[:9], TEXT[9:] + STOP, DONE], "completed")


async def test_nothing_passes_after_the_terminal_event() -> None:
    pieces, reply = await taken(Upstream(TEXT, DONE + TEXT, TEXT))

    assert (pieces, reply.end) == ([TEXT, DONE], "completed")


async def test_a_stream_held_open_after_its_end_is_ended() -> None:
    upstream = Upstream(TEXT, DONE, then="hold")

    pieces, reply = await taken(upstream)

    assert (pieces, reply.end, upstream.closed) == ([TEXT, DONE], "completed", True)


async def test_a_break_after_the_terminal_event_harms_nobody() -> None:
    pieces, reply = await taken(Upstream(TEXT, DONE, then="break"))

    assert (pieces, reply.end) == ([TEXT, DONE], "completed")


async def test_a_done_mark_out_of_place_still_passes() -> None:
    last = b'data: {"type":"response.completed","response":{}}\n\n'

    pieces, reply = await taken(Upstream(last, DONE), "openai.responses")

    assert (pieces, reply.end) == ([last, DONE], "completed")


async def test_a_stream_that_stops_after_its_finish_reason_is_whole() -> None:
    pieces, reply = await taken(Upstream(TEXT, STOP))

    assert (pieces, reply.end) == ([TEXT, STOP], "completed")


async def test_a_stream_that_stops_before_its_last_event_is_an_error() -> None:
    reply = await frame(call(), Upstream(TEXT))

    with pytest.raises(StreamTruncated):
        [chunk async for chunk in reply]

    assert (reply.end, reply.farewell(StreamTruncated("cut"))) == (
        "truncated",
        b'data: {"error":{"message":"cut","type":"server_error","param":null,"code":null}}\n\n',
    )


@pytest.mark.parametrize("size", [1, 30, 1000])
async def test_a_farewell_goes_on_counting_the_events(size: int) -> None:
    event = b'data: {"type":"response.x","sequence_number":%d,"delta":"some words"}\n\n'
    body = b"".join(event % number for number in range(3)) + b": ping\n\n"
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    reply = await frame(call("openai.responses"), Upstream(*pieces, then="break"))

    with pytest.raises(StreamTruncated):
        [chunk async for chunk in reply]

    assert b'"sequence_number":3,' in reply.farewell(StreamTruncated("cut"))


async def test_inside_an_event_there_is_no_farewell() -> None:
    reply = await frame(call(), Upstream(TEXT, STOP[:20]))

    with pytest.raises(StreamTruncated):
        [chunk async for chunk in reply]

    assert reply.farewell(StreamTruncated("cut")) == b""


async def test_a_recording_that_stops_early_is_given_as_it_is_and_called_truncated() -> None:
    pieces, reply = await taken(Upstream(TEXT, replayed=True))

    assert (pieces, reply.end, reply.farewell(StreamTruncated("cut"))) == ([TEXT], "truncated", b"")


async def test_an_error_event_ends_as_an_error_of_the_upstream() -> None:
    error = b'event: error\ndata: {"error":{"message":"too busy"}}\n\n'

    pieces, reply = await taken(Upstream(TEXT, error))

    assert (pieces, reply.end) == ([TEXT, error], "upstream_error")


async def test_a_client_that_leaves_after_the_last_event_has_missed_nothing() -> None:
    upstream = Upstream(TEXT, DONE, then="hold")
    reply = await frame(call(), upstream)
    async for chunk in reply:
        if chunk == DONE:
            break

    await reply.aclose("client_gone")

    assert (reply.end, upstream.closed) == ("completed", True)


async def test_a_client_that_leaves_early_closes_the_upstream() -> None:
    upstream = Upstream(TEXT, DONE)
    reply = await frame(call(), upstream)
    await anext(reply)

    await reply.aclose("client_gone")

    assert (reply.end, upstream.closed, upstream.reply and upstream.reply.end) == (
        "client_gone",
        True,
        "client_gone",
    )


async def test_an_unterminated_last_event_is_the_last_event() -> None:
    pieces, reply = await taken(Upstream(TEXT, b"data: [DONE]"))

    assert (pieces, reply.end) == ([TEXT, b"data: [DONE]"], "completed")


async def test_a_stream_of_no_dialect_may_stop_anywhere() -> None:
    _, reply = await taken(Upstream(b'data: {"choices":[]}\n\n'), "openai.completions")

    assert reply.end == "completed"


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        pytest.param(dialect, path.read_bytes(), id=f"{dialect}/{path.name}")
        for dialect in ("anthropic.messages", "openai.chat", "openai.responses")
        for path in sorted((FIXTURES / dialect).glob("*.sse"))
    ],
)
async def test_every_fixture_passes_whole_byte_by_byte(dialect: str, body: bytes) -> None:
    pieces = [body[place : place + 1] for place in range(len(body))]

    got, _ = await taken(Upstream(*pieces, replayed=True), dialect)

    assert b"".join(got) == body


async def test_an_end_that_the_source_settled_is_shown_as_it_is() -> None:
    upstream = Upstream(TEXT)
    told = StreamTruncated("cut on purpose")

    async def cut(call: Call) -> Reply:
        reply = await upstream(call)
        reply.settled, reply.error = "truncated", told
        return reply

    reply = await frame(call(), cut)
    pieces = [chunk async for chunk in reply]

    assert (pieces, reply.end, reply.error) == ([TEXT], "truncated", told)


async def test_no_farewell_follows_an_end_that_the_source_settled() -> None:
    upstream = Upstream(TEXT, then="break")

    reply = await frame(call(), upstream)
    before = [await anext(reply), reply.farewell(StreamTruncated("x"))]
    assert upstream.reply is not None
    upstream.reply.settled = "truncated"

    assert (len(before[1]) > 0, reply.farewell(StreamTruncated("x"))) == (True, b"")
    await reply.aclose()
