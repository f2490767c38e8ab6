import asyncio

import pytest

from llmbridge.errors import StreamTruncated, UpstreamTimeout
from llmbridge.upstreams.answer import Outgoing, Times, Unanswered
from llmbridge.upstreams.pool import Pools
from tests.upstreams.faulty import (
    JSON,
    LAST,
    Peer,
    Provider,
    chunk,
    chunked_head,
    hangs_up,
    holds,
    says,
    whole,
)

TIMES = Times(connect_s=1, idle_s=1, total_s=5)
KEPT = says(whole(b"{}", [*JSON, ("set-cookie", "a=1"), ("X-Two", "1"), ("x-two", "2")]), keep=True)


async def read_all(pools: Pools, url: str, *, fresh: bool = False) -> bytes:
    answer = await pools.send(Outgoing("POST", url, [("x", "1")], b"{}"), fresh=fresh)
    body = b""
    while piece := await answer.read():
        body += piece
    await answer.aclose()
    return body


async def test_an_answer_has_its_status_and_its_fields_as_they_came() -> None:
    async with Provider(KEPT) as provider:
        pools = Pools(TIMES)
        answer = await pools.send(Outgoing("POST", provider.url, [], b"{}"))
        await answer.aclose()
        await pools.aclose()

    assert answer.status == 200
    assert answer.headers.pairs[1:4] == (("set-cookie", "a=1"), ("X-Two", "1"), ("x-two", "2"))


async def test_nothing_but_the_fields_given_is_sent() -> None:
    async with Provider(KEPT) as provider:
        pools = Pools(TIMES)
        await read_all(pools, provider.url)
        await read_all(pools, provider.url)
        await pools.aclose()

    sent = [("host", f"127.0.0.1:{provider.port}"), ("x", "1"), ("content-length", "2")]
    assert [asked.fields for asked in provider.asked] == [sent, sent]
    assert provider.connections == 1


async def test_a_fresh_connection_is_asked_for_and_not_kept() -> None:
    async with Provider(KEPT) as provider:
        pools = Pools(TIMES)
        for fresh in (False, True, True, False):
            await read_all(pools, provider.url, fresh=fresh)
        await pools.aclose()

    assert provider.connections == 3


async def test_a_connection_closed_before_the_head_is_told_apart() -> None:
    async with Provider(hangs_up) as provider:
        pools = Pools(TIMES)
        with pytest.raises(Unanswered, match="closed the connection without an answer"):
            await pools.send(Outgoing("POST", f"{provider.url}/a?key=secret", [], b"{}"))
        await pools.aclose()


async def test_messages_leave_out_the_query() -> None:
    async with Provider(holds()) as provider:
        pools = Pools(Times(connect_s=1, idle_s=0.02, total_s=5))
        with pytest.raises(UpstreamTimeout) as caught:
            await pools.send(Outgoing("POST", f"{provider.url}/a?key=secret", [], b"{}"))
        await pools.aclose()

    assert caught.value.message == (
        f"{provider.url}/a sent nothing for 0.02 s: allow more with Live(idle_s=...)"
    )


async def test_a_read_may_be_cancelled_and_tried_again() -> None:
    go_on = asyncio.Event()

    async def hesitates(peer: Peer) -> None:
        await peer.send(chunked_head())
        await go_on.wait()
        await peer.send(chunk(b"hello"), LAST)

    async with Provider(hesitates) as provider:
        pools = Pools(TIMES)
        answer = await pools.send(Outgoing("POST", provider.url, [], b""))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await answer.read()
        go_on.set()
        body = await answer.read()
        await answer.aclose()
        await pools.aclose()

    assert (answer.resumable, body) == (True, b"hello")


async def test_what_came_before_a_break_is_read_first() -> None:
    async with Provider(says(chunked_head(), chunk(b"one"), chunk(b"two"))) as provider:
        pools = Pools(TIMES)
        answer = await pools.send(Outgoing("POST", provider.url, [], b""))
        await provider.emptied()
        for _turn_of_the_loop in range(20):
            await asyncio.sleep(0)
        came = await answer.read()
        with pytest.raises(StreamTruncated, match="broke before the end of the answer"):
            await answer.read()
        await answer.aclose()
        await pools.aclose()

    assert came == b"onetwo"


async def test_whoever_waits_is_woken_by_a_chunk_that_is_none() -> None:
    async with Provider(says(chunked_head(), chunk(b"one"), b"garbage\r\n")) as provider:
        pools = Pools(TIMES)
        answer = await pools.send(Outgoing("POST", provider.url, [], b""))
        came = await answer.read()
        with pytest.raises(StreamTruncated):
            await answer.read()
        await answer.aclose()
        await pools.aclose()

    assert came == b"one"
