"""When a provider is asked again, how long that waits, and what is on record."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from llmbridge.bridge import Bridge
from llmbridge.errors import ConfigurationError, StreamTruncated, Unreachable, UpstreamError
from llmbridge.exchange import faults
from llmbridge.exchange.call import Call, Headers, Reply, Request, once
from llmbridge.exchange.retries import Retries
from llmbridge.providers import DIALECTS, PROVIDERS
from llmbridge.upstreams.lines import fail
from llmbridge.upstreams.replay import Replay
from llmbridge.upstreams.script import Script
from tests.upstreams.provider import DONE, Provider, heard, request, says, text

NOW = datetime(2026, 11, 21, 8, 0, 0, tzinfo=UTC)
CALL = Call("i", Request("POST", "http://x/"), PROVIDERS[1], DIALECTS["openai.chat"], "/")

Answer = tuple[int, dict[str, str]] | UpstreamError


class Upstream:
    """Gives these answers in order."""

    def __init__(self, *answers: Answer, replayed: bool = False) -> None:
        self.replies: list[Reply] = []
        self._answers = list(answers)
        self._replayed = replayed

    async def __call__(self, call: Call) -> Reply:
        answer = self._answers.pop(0)
        if isinstance(answer, UpstreamError):
            raise answer
        status, fields = answer
        reply = Reply(status, Headers(fields), once(b"{}"), replayed=self._replayed)
        self.replies.append(reply)
        return reply


class Sleep:
    """Waits for nothing, and says how long that would have been."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, delay_s: float) -> None:
        self.slept.append(delay_s)


async def tried(upstream: Upstream, times: int = 2) -> tuple[int, list[float]]:
    """The status that the client gets, and the waits before."""
    sleep = Sleep()
    retries = Retries(times, sleep=sleep, clock=lambda: NOW, jitter=lambda: 0.0)
    reply = await retries(CALL, upstream)
    return reply.status, sleep.slept


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
@pytest.mark.feature("gateway", 30)
async def test_what_may_pass_is_asked_again_each_time_later(status: int) -> None:
    upstream = Upstream((status, {}), (status, {}), (200, {}))

    assert await tried(upstream) == (200, [0.5, 1.0])


@pytest.mark.parametrize("status", [200, 400, 401, 404, 413, 422])
async def test_what_will_not_change_is_not_asked_again(status: int) -> None:
    assert await tried(Upstream((status, {}))) == (status, [])


async def test_the_last_answer_is_the_clients() -> None:
    upstream = Upstream((503, {}), (503, {}), (429, {"retry-after": "9"}))

    assert await tried(upstream) == (429, [0.5, 1.0])


async def test_the_wait_has_a_longest_and_some_chance() -> None:
    sleep = Sleep()
    upstream = Upstream(*[(500, {})] * 7)

    await Retries(6, sleep=sleep, jitter=lambda: 1.0)(CALL, upstream)

    assert sleep.slept == [0.375, 0.75, 1.5, 3.0, 6.0, 6.0]


@pytest.mark.parametrize(
    ("fields", "wait_s"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "60"}, 60.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Sat, 21 Nov 2026 08:00:20 GMT"}, 20.0),
        ({"retry-after": "Sat, 21 Nov 2026 07:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, 0.5),
        ({"retry-after": "-1"}, 0.5),
        ({"retry-after": "nan"}, 0.5),
        ({"retry-after": "Sat, 21 Nov 2026 08:00:20"}, 0.5),
    ],
)
@pytest.mark.feature("gateway", 30)
async def test_the_provider_says_how_long_to_wait(fields: dict[str, str], wait_s: float) -> None:
    upstream = Upstream((429, fields), (200, {}))

    assert await tried(upstream) == (200, [wait_s])


async def test_a_provider_that_wants_more_than_a_minute_is_left_alone() -> None:
    assert await tried(Upstream((429, {"retry-after": "61"}))) == (429, [])


async def test_the_providers_advice_counts_more_than_the_status() -> None:
    never = Upstream((503, {"x-should-retry": "false"}))
    always = Upstream((400, {"x-should-retry": "true"}), (200, {}))

    assert [await tried(never), await tried(always)] == [(503, []), (200, [0.5])]


async def test_a_provider_that_cannot_be_reached_is_tried_again() -> None:
    upstream = Upstream(Unreachable("no route"), (200, {}))

    assert await tried(upstream) == (200, [0.5])


@pytest.mark.parametrize("error", [Unreachable("no route"), UpstreamError("a web page")])
async def test_an_error_that_stays_is_raised(error: UpstreamError) -> None:
    upstream = Upstream(*[error] * 3)

    with pytest.raises(type(error)) as raised:
        await tried(upstream)

    assert raised.value is error


async def test_a_recording_is_the_answer_whatever_it_says() -> None:
    assert await tried(Upstream((503, {}), replayed=True)) == (503, [])


async def test_an_answer_that_is_not_given_is_read_to_its_end() -> None:
    upstream = Upstream((503, {}), (200, {}))

    await tried(upstream)

    assert [reply.end for reply in upstream.replies] == ["upstream_error", None]


async def test_an_answer_that_breaks_off_unseen_is_no_failure() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"{"
        raise StreamTruncated("the connection broke")

    replies = [Reply(503, Headers(), broken()), Reply(200, Headers(), once(b"{}"))]

    async def upstream(call: Call) -> Reply:
        return replies.pop(0)

    reply = await Retries(1, sleep=Sleep())(CALL, upstream)

    assert reply.status == 200


@pytest.mark.parametrize("times", [-1, 2.5, "2"])
def test_what_is_no_number_of_retries_is_refused(times: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"retries={times!r}: give a whole number"):
        Bridge(retries=times, environ={})


# On record


async def test_each_answer_is_a_record_of_the_one_interception() -> None:
    provider = Provider()
    busy = faults.status(429, retry_after=0, times=2)

    with Bridge(provider, faults=[busy], retries=2, environ={}) as bridge:
        said = await text(bridge, request())
        (interception,) = bridge.interceptions
        records = bridge.records

    assert (said, interception.status, interception.end) == ("live", 200, "completed")
    assert [(each.interception_id, each.status, each.end) for each in records] == [
        (interception.id, 429, "upstream_error"),
        (interception.id, 429, "upstream_error"),
        (interception.id, 200, "completed"),
    ]


async def test_nothing_is_asked_again_unless_that_is_wanted() -> None:
    provider = Provider(503, (says("later"), DONE))

    with Bridge(provider, environ={}) as bridge:
        assert await text(bridge, request()) == "503"

    assert len(provider.asked) == 1


async def test_nothing_is_asked_again_after_the_first_byte() -> None:
    provider = Provider((says("half"),), cut=True)

    with Bridge(provider, retries=2, environ={}) as bridge:
        _, pieces = await heard(bridge, request())

    assert (pieces[0], len(provider.asked)) == (says("half"), 1)


async def test_a_replay_gives_each_recorded_answer() -> None:
    busy = faults.status(503, retry_after=0, times=1)
    with Bridge(Script("Hello"), faults=[busy], retries=1, environ={}) as bridge:
        await heard(bridge, request(messages=[{"role": "user", "content": "Hi"}]))
        records = bridge.records

    with Bridge(Replay(records), retries=1, environ={}) as bridge:
        asked = request(messages=[{"role": "user", "content": "Hi"}])
        statuses = [(await heard(bridge, asked))[0] for _ in range(2)]

    assert statuses == [503, 200]


def test_a_sync_client_waits_for_the_second_answer() -> None:
    script = Script(fail(503, retry_after=0), "Hello")

    with (
        Bridge(script, retries=1, environ={}) as bridge,
        bridge.openai(max_retries=0) as client,
    ):
        said = client.chat.completions.create(model="m", messages=[])

        assert said.choices[0].message.content == "Hello"
        assert [record.status for record in bridge.records] == [503, 200]
