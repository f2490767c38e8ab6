"""What crosses from the bridge's loop to a client in another thread."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from llmbridge.errors import StreamTruncated
from llmbridge.exchange.call import Headers, Reply, Request
from llmbridge.frontends.pieces import AHEAD_BYTES, PiecesHere, PiecesThere

REQUEST = Request("POST", "http://localhost/v1/messages")


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


class Upstream:
    """Gives these pieces and remembers which; `cut` breaks off after them."""

    def __init__(self, *pieces: bytes, at_once: bool, cut: bool = False) -> None:
        self.given: list[bytes] = []
        self._pieces, self._at_once, self._cut = pieces, at_once, cut

    async def __call__(self, request: Request) -> Reply:
        return Reply(200, Headers(), self._chunks(), at_once=self._at_once)

    async def _chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.given.append(piece)
            yield piece
        if self._cut:
            raise StreamTruncated("cut")


@pytest.mark.parametrize(("at_once", "given"), [(True, [b"a", b"b"]), (False, [])])
def test_what_is_there_at_once_comes_with_the_head(
    portal: BlockingPortal, at_once: bool, given: list[bytes]
) -> None:
    upstream = Upstream(b"a", b"b", at_once=at_once)
    pieces = PiecesThere(portal, None)

    pieces.open(upstream, REQUEST)

    assert upstream.given == given
    pieces.close()


@pytest.mark.parametrize("at_once", [True, False])
def test_pieces_are_read_one_by_one(portal: BlockingPortal, at_once: bool) -> None:
    pieces = PiecesThere(portal, None)
    pieces.open(Upstream(b"a", b"b", at_once=at_once), REQUEST)

    assert [pieces.read() for _ in range(4)] == [b"a", b"b", None, None]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_break_comes_after_the_pieces_before_it(portal: BlockingPortal, at_once: bool) -> None:
    pieces = PiecesThere(portal, None)
    pieces.open(Upstream(b"a", at_once=at_once, cut=True), REQUEST)
    first = pieces.read()

    with pytest.raises(StreamTruncated):
        pieces.read()

    assert first == b"a"


def test_no_more_is_fetched_than_a_client_may_need_soon(portal: BlockingPortal) -> None:
    half = bytes(AHEAD_BYTES // 2)
    upstream = Upstream(half, half, half, at_once=True)
    pieces = PiecesThere(portal, None)

    pieces.open(upstream, REQUEST)
    fetched = len(upstream.given)
    rest = [pieces.read() for _ in range(4)]

    assert (fetched, rest) == (2, [half, half, half, None])


async def through(prompt: bool) -> Reply:
    async def same(source: Reply) -> AsyncIterator[bytes]:
        async for chunk in source:
            yield chunk

    reply = await Upstream(at_once=True)(REQUEST)
    return reply.through(same, prompt=prompt)


@pytest.mark.parametrize("prompt", [True, False])
async def test_a_transform_that_may_wait_is_waited_for(prompt: bool) -> None:
    assert (await through(prompt)).at_once is prompt


def test_pieces_are_read_without_a_loop_where_nothing_is_waited_for() -> None:
    pieces = PiecesHere()
    pieces.open(Upstream(b"a", b"b", at_once=True), REQUEST)

    assert [pieces.read() for _ in range(4)] == [b"a", b"b", None, None]


def test_a_break_is_told_without_a_loop_too() -> None:
    pieces = PiecesHere()
    pieces.open(Upstream(b"a", at_once=True, cut=True), REQUEST)
    first = pieces.read()

    with pytest.raises(StreamTruncated):
        pieces.read()

    assert first == b"a"


def test_a_reply_that_is_left_early_is_closed_without_a_loop() -> None:
    pieces = PiecesHere()
    reply = pieces.open(Upstream(b"a", b"b", at_once=True), REQUEST)

    pieces.close()

    assert reply.end == "client_gone"


def test_what_waits_without_a_loop_is_an_error_and_no_hang() -> None:
    async def waits(request: Request) -> Reply:
        await asyncio.sleep(0)
        raise AssertionError("not reached")

    with pytest.raises(RuntimeError, match="at once"):
        PiecesHere().open(waits, REQUEST)
