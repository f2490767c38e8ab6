"""Calls that wait for nothing, answered by a server where they are read."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from llmbridge.errors import BridgeError, RequestError
from llmbridge.exchange.call import Headers, Reply, Request, Whole, once
from llmbridge.frontends.asgi import Limits
from llmbridge.upstreams.ready import Ready
from tests.frontends.fakes import EVENTS, JSON, SSE, RawClient, Unanswered, spaced

Answer = Callable[[], Reply]


def whole(*pieces: bytes, status: int = 200, headers: Headers = JSON) -> Answer:
    """A reply that is there from the start."""
    ready = Ready(status, headers, pieces, None)
    return lambda: ready.at_one_go(Whole(pieces, "completed"))


def uncertain(body: bytes) -> Answer:
    """A reply of which nobody knows how it will end."""
    return lambda: Reply(200, JSON, once(body), at_once=True)


def failing(error: BaseException) -> Answer:
    def fail() -> Reply:
        raise error

    return fail


class AtOnce:
    """Answers each request alike, and notes in which task, and what became of it."""

    def __init__(self, answer: Answer) -> None:
        self.tasks: list[bool] = []
        self.seen: list[bytes] = []
        self.ends: list[str | None] = []
        self._answer = answer

    async def __call__(self, request: Request) -> Reply:
        self.tasks.append(asyncio.current_task() is not None)
        return self._answer().watch(lambda ended: self.ends.append(ended.end), self.seen.append)


def asked(server, count: int, mark: bytes, *fields: str) -> list[bytes]:
    """What one client gets that asks the same again and again, up to `mark` each time."""
    with RawClient(server.port) as client:
        got = []
        for _ in range(count):
            client.ask("/v1/messages", *fields)
            got.append(client.until(mark))
        return [reply.partition(b"\r\n\r\n")[2] for reply in got]


def test_what_is_there_is_written_where_its_request_is_read(serve):
    handle = AtOnce(whole(*EVENTS, headers=SSE))

    got = asked(serve(handle, waits=lambda: False), 3, b"[DONE]\n\n")

    # Who asks is looked at once, and remembered.
    assert handle.tasks == [True, False, False]
    assert got == [b"".join(EVENTS)] * 3
    assert handle.seen == [*EVENTS] * 3
    assert handle.ends == ["completed"] * 3


def test_its_head_is_that_of_any_other(serve):
    headers = Headers(
        [("content-type", "application/json"), ("request-id", "r1"), ("set-cookie", "a")]
    )
    server = serve(AtOnce(whole(b"{}", status=429, headers=headers)), waits=lambda: False)

    with RawClient(server.port) as client:
        heads = []
        for _ in range(2):
            client.ask()
            lines = client.until(b"{}").partition(b"\r\n\r\n")[0].split(b"\r\n")
            heads.append([line for line in lines if not line.startswith(b"date:")])

    assert (
        heads
        == [
            [
                b"HTTP/1.1 429 Too Many Requests",
                b"content-type: application/json",
                b"request-id: r1",
                b"content-length: 2",
            ]
        ]
        * 2
    )


def test_where_something_waits_each_call_has_its_task(serve):
    handle = AtOnce(whole(b"{}"))

    asked(serve(handle, waits=lambda: True), 2, b"{}")

    assert handle.tasks == [True, True]


def test_what_may_still_go_wrong_is_relayed_and_asked_once(serve):
    handle = AtOnce(uncertain(b"{}"))

    got = asked(serve(handle, waits=lambda: False), 3, b"{}")

    assert (got, handle.tasks) == ([b"{}"] * 3, [True, False, False])
    assert (handle.seen, handle.ends) == ([b"{}"] * 3, ["completed"] * 3)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RequestError("no such model"), b"no such model"),
        (ValueError("a bug"), b"the bridge failed"),
    ],
    ids=["refusal", "bug"],
)
def test_a_failure_is_told_as_a_task_tells_it(serve, caplog, error, told):
    server = serve(AtOnce(failing(error)), waits=lambda: False)

    first, second, third = asked(server, 3, b"}")

    assert first == second == third
    assert told in first
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert logged == ([error] * 3 if isinstance(error, ValueError) else [])


def test_a_failure_at_the_very_end_is_told_too(serve, caplog):
    class Full(AtOnce):
        async def __call__(self, request: Request) -> Reply:
            def end(reply: Reply) -> None:
                raise OSError("disk full")

            return self._answer().watch(end)

    got = asked(serve(Full(whole(b"{}")), waits=lambda: False), 2, b"}")

    assert b"the bridge failed" in got[1]
    assert got[0] == got[1]


def test_a_handle_that_waits_after_all_goes_on_in_a_task(serve):
    class Waits(AtOnce):
        async def __call__(self, request: Request) -> Reply:
            reply = await super().__call__(request)
            await asyncio.sleep(0)
            self.tasks.append(asyncio.current_task() is not None)
            return reply

    handle = Waits(whole(b"{}"))

    got = asked(serve(handle, waits=lambda: False), 2, b"{}")

    assert got == [b"{}"] * 2
    assert handle.tasks == [True, True, False, True]
    assert handle.ends == ["completed"] * 2


def test_one_that_waits_after_all_is_given_up_with_its_client(serve):
    handle = Unanswered()
    waits = iter([True, False])
    server = serve(handle, waits=lambda: next(waits))

    for _ in range(2):
        with RawClient(server.port) as client:
            client.ask()
            assert handle.asked.get(timeout=5)
        assert handle.given_up.get(timeout=5) == ("client_gone",)


def test_requests_sent_ahead_are_answered_in_their_order(serve):
    count = iter(range(100))
    server = serve(AtOnce(lambda: whole(b'{"n":%d}' % next(count))()), waits=lambda: False)

    with RawClient(server.port) as client:
        client.ask()
        client.until(b"}")
        for _ in range(5):
            client.ask()
        got = client.until(b'{"n":5}')

    assert [b'{"n":%d}' % number in got for number in range(1, 6)] == [True] * 5
    assert got.count(b"HTTP/1.1 200 OK") == 5


@pytest.mark.parametrize("status", [204, 304])
def test_a_reply_that_may_have_no_body_has_none(serve, status):
    server = serve(AtOnce(whole(b"", status=status)), waits=lambda: False)

    with RawClient(server.port) as client:
        client.ask()
        client.until(b"\r\n\r\n")
        client.ask("/v1/messages")
        head = client.until(b"\r\n\r\n")

    assert b"%d" % status in head
    assert b"content-length" not in head


def test_a_field_that_cannot_be_sent_is_an_error_of_the_upstream_and_the_reply_is_closed(serve):
    handle = AtOnce(whole(b"{}", headers=Headers([("x-request-id", "a\nb")])))

    got = asked(serve(handle, waits=lambda: False), 2, b"}")

    assert all(b"cannot be passed on" in reply for reply in got)
    assert len(handle.ends) == 2


def test_what_is_too_large_is_refused_each_time(serve):
    handle = AtOnce(whole(b"{}"))

    got = asked(serve(handle, waits=lambda: False, limits=Limits(body_bytes=1)), 2, b"}")

    assert (handle.tasks, all(b"too_large" in reply for reply in got)) == ([], True)


def test_a_client_that_wants_to_close_is_let_go(serve):
    server = serve(AtOnce(whole(b"{}")), waits=lambda: False)

    for _ in range(2):
        with RawClient(server.port) as client:
            client.ask("/v1/messages", "connection: close")
            got = client.rest()

        assert b"connection: close\r\n" in got
        assert got.endswith(b"\r\n\r\n{}")


def test_one_that_has_left_costs_the_others_nothing(serve):
    server = serve(AtOnce(whole(b"{}")), waits=lambda: False)

    with RawClient(server.port) as client, RawClient(server.port) as other:
        client.ask()
        client.until(b"{}")
        client.ask()
        client.socket.close()
        other.ask()
        assert other.until(b"{}").endswith(b"{}")


def test_an_error_of_the_bridge_that_is_a_whole_reply_keeps_its_end(serve):
    def refusal() -> Reply:
        reply = Reply(400, JSON, once(b"{}"), at_once=True)
        reply.error, reply.settled = BridgeError("no"), "bridge_limit"
        return reply

    handle = AtOnce(refusal)

    asked(serve(handle, waits=lambda: False), 2, b"{}")

    assert handle.ends == ["bridge_limit"] * 2


def test_what_was_begun_is_relayed_also_where_there_is_no_more_room(serve, portal):
    blocked, sent = threading.Event(), threading.Event()

    def block() -> bool:
        blocked.set()
        return sent.wait(5)

    handle = AtOnce(lambda: Reply(200, SSE, spaced(), at_once=True))
    server = serve(handle, waits=lambda: False, limits=Limits(in_flight=1))

    with RawClient(server.port) as client, RawClient(server.port) as other:
        for each in (client, other):
            each.ask()
            each.until(b"[DONE]\n\n")
        # What comes while the loop is held up is read in one turn, and begun in the next.
        holding = portal.start_task_soon(block)
        assert blocked.wait(5)
        client.ask()
        other.ask()
        sent.set()
        assert holding.result()
        got = [each.until(b"[DONE]\n\n") for each in (client, other)]

    assert [reply.partition(b"\r\n")[0] for reply in got] == [b"HTTP/1.1 200 OK"] * 2
    assert handle.tasks == [True, False, False, False]
    assert handle.ends == ["completed"] * 4


def test_what_is_no_exception_of_a_program_answers_the_client_too(serve, caplog):
    class Outcome(BaseException):
        """As pytest's own are."""

    server = serve(AtOnce(failing(Outcome("no"))), waits=lambda: False)

    # The second is asked with a head that is known, on a connection of its own: the first is closed.
    heads = []
    for _ in range(2):
        with RawClient(server.port) as client:
            client.ask()
            heads.append(client.rest().partition(b"\r\n")[0])

    assert heads == [b"HTTP/1.1 500 Internal Server Error"] * 2


def test_where_nobody_can_say_whether_a_call_waits_the_client_is_told_too(serve, caplog):
    told = iter([True])
    server = serve(AtOnce(whole(b"{}")), waits=lambda: next(told))

    got = asked(server, 3, b"}")

    assert [b"the bridge failed" in reply for reply in got] == [False, True, True]
