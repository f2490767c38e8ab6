import pytest

from llmbridge.errors import End
from llmbridge.exchange.call import Headers, Reply, Whole
from llmbridge.upstreams.ready import Ready

PIECES = (b"a", b"b", b"c")


class Seen:
    """What a recorder would see of a reply."""

    def __init__(self, reply: Reply) -> None:
        self.pieces: list[bytes] = []
        self.ends: list[str | None] = []
        reply.watch(lambda ended: self.ends.append(ended.end), self.pieces.append)


def whole(status: int = 200, end: End | None = None) -> Reply:
    ready = Ready(status, Headers(), PIECES, None)
    return ready.at_one_go(Whole(PIECES, end))


@pytest.mark.parametrize(
    ("status", "settled", "end"),
    [
        (200, None, "completed"),
        (200, "upstream_error", "upstream_error"),
        (429, None, "upstream_error"),
    ],
)
async def test_what_is_taken_is_seen_and_ends_as_what_is_read(status, settled, end):
    taken, read = whole(status, settled), whole(status, settled)
    told, other = Seen(taken), Seen(read)

    body = taken.take()
    pieces = [piece async for piece in read]

    assert body == b"".join(pieces)
    assert (told.pieces, told.ends) == (other.pieces, other.ends) == ([*PIECES], [end])


async def test_it_is_taken_once():
    reply = whole()
    seen = Seen(reply)

    assert (reply.take(), reply.take()) == (b"abc", None)
    assert [piece async for piece in reply] == []
    await reply.aclose()
    assert (seen.pieces, seen.ends) == ([*PIECES], ["completed"])


async def test_what_somebody_has_begun_to_read_is_not_taken():
    reply = whole()
    seen = Seen(reply)

    first = await anext(reply)

    assert (first, reply.take()) == (b"a", None)
    assert [piece async for piece in reply] == [b"b", b"c"]
    assert (seen.pieces, seen.ends) == ([*PIECES], ["completed"])


async def test_what_was_closed_is_not_taken():
    reply = whole()
    seen = Seen(reply)

    await reply.aclose("client_gone")

    assert reply.take() is None
    assert (seen.pieces, seen.ends) == ([], ["client_gone"])


async def test_what_goes_through_something_is_not_taken_past_it():
    async def upper(reply: Reply):
        async for piece in reply:
            yield piece.upper()

    reply = whole().through(upper)

    assert reply.take() is None
    assert b"".join([piece async for piece in reply]) == b"ABC"


async def test_the_others_hear_of_the_end_where_one_that_hears_of_it_fails():
    def full(ended: Reply) -> None:
        raise OSError("disk full")

    reply = whole().watch(full)
    seen = Seen(reply)

    with pytest.raises(OSError, match="disk full"):
        reply.take()
    assert seen.ends == ["completed"]
