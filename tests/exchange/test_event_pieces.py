from collections.abc import AsyncIterator, Sequence

import pytest

from llmbridge.errors import StreamTruncated
from llmbridge.exchange.call import Headers, Reply
from llmbridge.exchange.event_pieces import events, is_event, with_half_the_data

SSE = Headers((("content-type", "text/event-stream"),))
JSON = Headers((("content-type", "application/json"),))
STREAMS = {
    "LF": [b": ping\n\n", b"event: a\ndata: 1\n\n", b"data: 2\n\n"],
    "CRLF": [b": ping\r\n\r\n", b"event: a\r\ndata: 1\r\n\r\n", b"data: 2\r\n\r\n"],
    "CR": [b": ping\r\r", b"event: a\rdata: 1\r\r", b"data: 2\r\r"],
    "mixed": [b"data: 1\n\n", b"data: 2\r\n\n", b"data: 3\n\r\n"],
    "unterminated": [b"data: 1\n\n", b"data: 2"],
}


async def cut(
    chunks: Sequence[bytes], headers: Headers = SSE, *, broken: bool = False
) -> list[bytes]:
    async def pieces() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk
        if broken:
            raise StreamTruncated("the connection broke")

    return [piece async for piece in told(events(Reply(200, headers, pieces())))]


async def told(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for piece in pieces:
            yield piece
    except StreamTruncated as error:
        yield error.message.encode()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("wanted", STREAMS.values(), ids=STREAMS.keys())
async def test_a_stream_is_cut_after_each_event_wherever_its_chunks_end(
    wanted: list[bytes], size: int
) -> None:
    body = b"".join(wanted)

    assert await cut([body[at : at + size] for at in range(0, len(body), size)]) == wanted


async def test_an_answer_that_is_no_stream_is_one_piece() -> None:
    assert await cut([b'{"a":\n\n', b"1}"], JSON) == [b'{"a":\n\n1}']


async def test_what_came_before_a_break_is_handed_out() -> None:
    wanted = [b"data: 1\n\n", b"data: 2", b"the connection broke"]

    assert await cut([b"data: 1\n\ndata: 2"], broken=True) == wanted


@pytest.mark.parametrize(
    ("piece", "found"), [(b"data: 1\n\n", True), (b": ping\n\n", True), (b'{"data":1}', False)]
)
def test_a_piece_tells_whether_it_is_of_a_stream(piece: bytes, found: bool) -> None:
    assert is_event(piece) is found


@pytest.mark.parametrize(
    ("event", "half"),
    [
        (b'data: {"a":1}\n\n', b'data: {"a\n\n'),
        (b"event: x\r\ndata: 123456\r\n\r\n", b"event: x\r\ndata: 12\r\n\r\n"),
    ],
)
def test_an_event_loses_half_its_data_and_stays_an_event(event: bytes, half: bytes) -> None:
    assert with_half_the_data(event) == half
