"""Calls that are ended from outside while they are under way."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from llmbridge import Bridge, Context, Model, Script
from llmbridge.errors import Stopped
from llmbridge.exchange.call import Call, Headers, Reply, Request
from llmbridge.exchange.stopping import Stops

FIRST = b'data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'


class Endless:
    """An upstream that says one thing and then nothing more; `closed` tells when it is let go of."""

    spends_keys = False

    def __init__(self, *, head: bool = True) -> None:
        self.head = head
        self.asked = anyio.Event()
        self.closed = anyio.Event()

    async def __call__(self, call: Call) -> Reply:
        self.asked.set()
        if not self.head:
            try:
                await anyio.sleep_forever()
            finally:
                self.closed.set()
        return Reply(200, Headers({"content-type": "text/event-stream"}), self.chunks())

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            yield FIRST
            await anyio.sleep_forever()
        finally:
            self.closed.set()


MODEL, QUESTION = Model("openai", "gpt-5-mini"), Context()


async def test_a_stopped_stream_lets_go_of_its_upstream_and_keeps_what_came() -> None:
    upstream = Endless()
    bridge = Bridge(upstream, environ={})
    stream = await bridge.stream(MODEL, QUESTION)
    while (await anext(stream)).partial.text != "Hel":
        pass

    stopped = bridge.stop(bridge.inflight[0])
    message = await stream.result()

    assert (stopped, upstream.closed.is_set()) == (True, True)
    assert (message.text, message.error) == ("Hel", "the call was stopped here")
    assert [(each.end, each.status) for each in bridge.interceptions] == [("interrupted", 200)]
    assert [(each.end, each.body) for each in bridge.records] == [("interrupted", FIRST)]
    assert bridge.inflight == ()


async def test_what_is_kept_of_a_stopped_stream_says_that_it_was_stopped(tmp_path: Path) -> None:
    bridge = Bridge(Endless(), environ={}, store=f"sqlite:///{tmp_path}/calls.db")
    stream = await bridge.stream(MODEL, QUESTION)
    await anext(stream)

    bridge.stop(bridge.inflight[0])
    await stream.result()
    bridge.flush()
    (record,) = bridge.records
    bridge.close()

    assert record.message is not None
    assert record.message.stop_reason == "aborted"
    assert (record.message.error_type, record.message.error) == (
        "stopped",
        "the call was stopped here",
    )
    assert record.message.text == "Hel"


async def test_a_call_is_stopped_before_its_answer_and_not_tried_again() -> None:
    upstream = Endless(head=False)
    bridge = Bridge(upstream, environ={}, retries=3)

    async with bridge.async_openai(max_retries=2) as client, anyio.create_task_group() as tasks:

        async def ask() -> None:
            with pytest.raises(Exception, match="the call was stopped here") as failed:
                await client.chat.completions.create(model="m", messages=[])
            assert failed.value.status_code == 499  # type: ignore[attr-defined]

        tasks.start_soon(ask)
        await upstream.asked.wait()
        bridge.stop(bridge.inflight[0])

    assert upstream.closed.is_set()
    assert [each.end for each in bridge.interceptions] == ["interrupted"]


def test_a_sync_client_is_stopped_from_another_thread() -> None:
    with Bridge(Script("one two three", tps=0.01), environ={}) as bridge:
        events = bridge.stream_sync(MODEL, QUESTION)
        next(events)

        assert bridge.stop(bridge.inflight[0].id)
        assert [event.type for event in events][-1] == "error"


def clock() -> str:
    """Tell the time."""
    return "noon"


def asking(model: str) -> Request:
    """A stream of Claude's dialect, or of Chat Completions."""
    path = "messages" if model.startswith("claude") else "chat/completions"
    said = [{"role": "user", "content": "Hi"}]
    body: Any = {"model": model, "max_tokens": 9, "stream": True, "messages": said}
    labelled = Headers({"content-type": "application/json"})
    return Request("POST", f"http://localhost/v1/{path}", labelled, json.dumps(body).encode())


CHANGED = pytest.mark.parametrize(
    ("model", "changed"),
    [
        ("gpt-5-mini", Bridge),
        ("gpt-5-mini", partial(Bridge, tools=[clock])),
        ("claude-sonnet-5", partial(Bridge, routes={"claude-*": "openai/gpt-5-mini"})),
    ],
    ids=["relayed", "with tools", "translated"],
)


@CHANGED
@pytest.mark.parametrize("end", ["client_gone", "bridge_shutdown", "interrupted"])
async def test_why_a_stream_ended_is_on_record_however_it_was_changed(
    model: str, changed: Callable[..., Bridge], end: str
) -> None:
    bridge = changed(Endless(), environ={})
    reply = await bridge.handle(asking(model))
    came = asyncio.Event()

    async def read() -> None:
        with suppress(Stopped):
            async for _ in reply:
                came.set()

    task = asyncio.ensure_future(read())
    await came.wait()
    if end == "interrupted":
        bridge.stop(bridge.inflight[0])
    else:
        task.cancel(end)
    await asyncio.wait([task])
    await reply.aclose()

    assert (bridge.interceptions[0].end, bridge.records[0].end) == (end, end)


@CHANGED
def test_a_client_of_the_server_hears_that_it_was_stopped(
    model: str, changed: Callable[..., Bridge]
) -> None:
    asked = asking(model)
    with changed(Endless(), environ={}) as bridge, bridge.serve() as server:
        url, fields = f"{server.url}{asked.path}", dict(asked.headers)
        with httpx2.stream("POST", url, content=asked.body, headers=fields) as reply:
            chunks = reply.iter_bytes()
            while b"Hel" not in next(chunks):
                pass
            bridge.stop(bridge.inflight[0])
            rest = b"".join(chunks)

    assert rest.count(b"the call was stopped here") == 1
    assert rest.endswith(b"\n\n")


@CHANGED
async def test_nothing_more_is_said_where_the_stream_had_its_end(
    model: str, changed: Callable[..., Bridge]
) -> None:
    async with changed(Script("Hello"), environ={}) as bridge:
        reply = await bridge.handle(asking(model))
        async for _ in reply:
            pass

        assert reply.farewell(Stopped("too late")) == b""


@CHANGED
async def test_a_stream_that_is_closed_while_nobody_waits_for_it_has_the_reason_too(
    model: str, changed: Callable[..., Bridge]
) -> None:
    bridge = changed(Endless(), environ={})
    reply = await bridge.handle(asking(model))
    await anext(reply)

    await reply.aclose("bridge_shutdown")

    kept = bridge.interceptions[0].end, bridge.records[0].end
    assert kept == ("bridge_shutdown", "bridge_shutdown")


@pytest.mark.parametrize("end", ["client_gone", "bridge_shutdown", "interrupted"])
async def test_why_an_answer_was_not_read_on_for_its_tools_is_on_record(end: str) -> None:
    upstream = Endless()
    bridge = Bridge(upstream, environ={}, tools=[clock])
    asked = asking("gpt-5-mini")
    asked = replace(asked, body=asked.body.replace(b"true", b"false"))

    async def ask() -> None:
        async with aclosing(await bridge.handle(asked)):
            pass

    task = asyncio.ensure_future(ask())
    await upstream.asked.wait()
    if end == "interrupted":
        bridge.stop(bridge.inflight[0])
    else:
        task.cancel(end)
    await asyncio.wait([task])

    assert (bridge.interceptions[0].end, bridge.records[0].end) == (end, end)


async def test_who_cancels_the_task_itself_is_not_told_of_a_stop() -> None:
    stops = Stops()
    upstream = Endless()
    bridge = Bridge(upstream, interceptors=[stops], environ={})
    stream = await bridge.stream(MODEL, QUESTION)

    with anyio.move_on_after(0.05) as limit:
        await stream.result()

    assert limit.cancelled_caught
    assert upstream.closed.is_set()
    await stream.aclose()
    assert [each.end for each in bridge.interceptions] == ["client_gone"]


async def test_what_is_over_cannot_be_stopped() -> None:
    bridge = Bridge(Script("Hello"), environ={})
    stream = await bridge.stream(MODEL, QUESTION)
    id = bridge.inflight[0].id
    await stream.result()
    await asyncio.sleep(0)

    assert bridge.stop(id) is False
