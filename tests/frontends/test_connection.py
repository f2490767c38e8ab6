import asyncio
import gc
import weakref
from functools import partial
from typing import Any

import pytest
from uvicorn import Config

from llmbridge.frontends.connection import STARTS, Connection, Connections

REQUEST = b"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 2\r\n\r\n{}"


class Wire(asyncio.Transport):
    """A transport that leads nowhere; once closed it takes nothing, as uvloop's."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.sent: list[bytes] = []

    def write(self, data: Any) -> None:
        if self.closed:
            raise RuntimeError("the handler is closed")
        self.sent.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def pause_reading(self) -> None:
        """There is nothing to read."""

    def resume_reading(self) -> None:
        """Nor now."""


class App:
    """Notes what it is asked; `answer` is what it answers at once."""

    def __init__(self, *, waits: bool = False) -> None:
        self.asked: list[str] = []
        self._waits = waits

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append("in a task")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def answer(self, scope: Any, write: Any) -> bool:
        if self._waits:
            return False
        self.asked.append("at once")
        return bool(write(200, (), b"{}"))


def connected(app: Any) -> tuple[Connection, Wire]:
    """A connection of a server of this app, and where its bytes go."""
    config = Config(app, interface="asgi3", ws="none", log_config=None, proxy_headers=False)
    config.load()
    connection, wire = Connection(config, Connections(), {}), Wire()
    connection.connection_made(wire)
    return connection, wire


async def test_calls_that_come_together_begin_few_a_turn_and_what_else_there_is_to_do_goes_between():
    loop, open_ones, begun = asyncio.get_running_loop(), Connections(), list[int]()
    for number in range(2 * STARTS + 1):
        open_ones.start(partial(begun.append, number), loop)

    counts: list[int] = []
    for _ in range(3):
        loop.call_soon(lambda: counts.append(len(begun)))
        await asyncio.sleep(0)

    assert counts == [STARTS, 2 * STARTS, 2 * STARTS + 1]
    assert begun == [*range(2 * STARTS + 1)]


async def test_a_call_that_begins_the_next_one_begins_few_a_turn_too():
    loop, open_ones, begun = asyncio.get_running_loop(), Connections(), list[int]()

    def begin():
        begun.append(len(begun))
        if len(begun) < 40:
            open_ones.start(begin, loop)

    open_ones.start(begin, loop)
    counts = list[int]()
    for _ in range(6):
        await asyncio.sleep(0)
        counts.append(len(begun))

    assert counts == [1, 2, 3, 4, 5, 6]


async def test_what_was_sent_ahead_is_not_asked_any_more_when_its_client_has_left():
    app = App()
    connection, wire = connected(app)
    connection.data_received(REQUEST * 3)
    await asyncio.sleep(0)
    asked_before = [*app.asked]

    wire.close()
    connection.connection_lost(None)
    for _ in range(3):
        await asyncio.sleep(0)

    assert (asked_before, app.asked) == (["at once"], ["at once"])
    assert len(wire.sent) == 1


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "in a task"])
@pytest.mark.parametrize("count", [0, 1, 3])
async def test_of_a_connection_that_is_lost_nothing_is_left_to_the_garbage_collector(waits, count):
    gc.disable()
    try:
        connection, wire = connected(App(waits=waits))
        connection.data_received(REQUEST * count + REQUEST[:20])
        for _ in range(3):
            await asyncio.sleep(0)
        wire.close()
        connection.connection_lost(None)
        left = weakref.ref(connection)
        del connection
        for _ in range(3):
            await asyncio.sleep(0)

        assert left() is None
    finally:
        gc.enable()


async def test_who_is_answered_is_missed_also_where_more_was_sent_ahead():
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            told.append(message["type"])
        told.append(message["type"])

    connection, wire = connected(app)
    connection.data_received(REQUEST * 3)
    for _ in range(3):
        await asyncio.sleep(0)

    wire.close()
    connection.connection_lost(None)
    for _ in range(3):
        await asyncio.sleep(0)

    assert told == ["http.request", "http.disconnect"]
