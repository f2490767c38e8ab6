"""Which of several keys is asked with, which one rests, and what the client hears when none is left."""

import json
from collections.abc import Mapping

import anyio
import pytest

from llmbridge.bridge import Bridge
from llmbridge.errors import Unreachable
from llmbridge.exchange.call import Call, Headers, Reply, Request, once
from llmbridge.exchange.keys import KeyPool
from llmbridge.providers import DIALECTS, PROVIDERS, Provider
from llmbridge.upstreams.lines import fail
from llmbridge.upstreams.script import Script

ONE, TWO, THREE = "sk-proj-one-AAAAAAAAAA1111", "sk-proj-two-BBBBBBBBBB2222", "sk-three"
FULL = 429, {"retry-after": "20"}


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Upstream:
    """Answers by the key that comes: a status, a status with fields, or 200."""

    def __init__(self, **answers: int | tuple[int, dict[str, str]]) -> None:
        self.asked: list[str] = []
        self.replies: list[Reply] = []
        self.answers: Mapping[str, int | tuple[int, dict[str, str]]] = answers
        self.replayed = False
        self.hold: anyio.Event | None = None

    async def __call__(self, call: Call) -> Reply:
        name = {ONE: "one", TWO: "two", THREE: "three"}[call.provider.key or ""]
        self.asked.append(name)
        answer = self.answers.get(name, 200)
        if self.hold is not None:
            await self.hold.wait()
        status, fields = (answer, {}) if isinstance(answer, int) else answer
        reply = Reply(status, Headers(fields), once(name.encode()), replayed=self.replayed)
        self.replies.append(reply)
        return reply


class Asking:
    """A pool before an upstream, and what it gives."""

    def __init__(self, upstream: Upstream, *keys: str) -> None:
        self.clock = Clock()
        self.upstream = upstream
        self._pool = KeyPool(monotonic=self.clock)
        row = Provider("openai", "https://api.openai.com/v1", keys=keys).configured({})
        self._call = Call(
            "i", Request("POST", "http://x/"), row, DIALECTS["openai.chat"], "/chat/completions"
        )

    async def __call__(self) -> int:
        return (await self.reply()).status

    async def reply(self) -> Reply:
        return await self._pool(self._call, self.upstream)


@pytest.mark.parametrize("status", [401, 429])
@pytest.mark.feature("gateway", 34)
async def test_the_next_key_is_asked_at_once_where_one_is_no_good(status: int) -> None:
    ask = Asking(Upstream(one=status), ONE, TWO)

    assert [await ask(), await ask()] == [200, 200]
    assert ask.upstream.asked == ["one", "two", "two"]


@pytest.mark.parametrize("status", [200, 400, 404, 500, 503, 529])
async def test_another_key_would_not_help_against_other_answers(status: int) -> None:
    ask = Asking(Upstream(one=status), ONE, TWO)

    assert (await ask(), ask.upstream.asked) == (status, ["one"])


async def test_a_key_rests_as_long_as_the_provider_says() -> None:
    ask = Asking(Upstream(one=FULL), ONE, TWO)

    await ask()
    ask.clock.now_s += 19.9
    await ask()
    ask.clock.now_s += 0.1
    await ask()

    assert ask.upstream.asked == ["one", "two", "two", "one", "two"]


async def test_a_key_rests_twice_as_long_each_time_that_the_provider_does_not_say() -> None:
    ask = Asking(Upstream(one=401), ONE, TWO)

    for rest_s in (60, 120, 240, 480, 960, 1920, 3600, 3600):
        ask.upstream.asked.clear()
        await ask()
        ask.clock.now_s += rest_s - 0.1
        await ask()
        ask.clock.now_s += 0.1
        assert ask.upstream.asked == ["one", "two", "two"]


async def test_calls_at_once_make_a_key_rest_no_longer_than_one() -> None:
    ask, at_once = Asking(Upstream(one=401), ONE, TWO), anyio.Event()
    ask.upstream.hold = at_once
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        at_once.set()
    ask.upstream.asked.clear()

    ask.clock.now_s += 60
    await ask()

    assert ask.upstream.asked == ["one", "two"]


async def test_a_call_that_was_under_way_before_does_not_end_a_rest() -> None:
    ask, late = Asking(Upstream(one=200), ONE, TWO), anyio.Event()
    ask.upstream.hold = late
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        ask.upstream.answers, ask.upstream.hold = {"one": FULL}, None
        await ask()
        late.set()
    ask.upstream.asked.clear()

    await ask()

    assert ask.upstream.asked == ["two"]


async def test_a_key_that_was_taken_again_begins_anew() -> None:
    ask = Asking(Upstream(one=401), ONE, TWO)
    await ask()
    ask.clock.now_s += 60
    ask.upstream.answers = {}
    await ask()
    ask.upstream.answers = {"one": 401}
    await ask()
    ask.clock.now_s += 60
    ask.upstream.asked.clear()

    await ask()

    assert ask.upstream.asked == ["one", "two"]


async def test_no_rest_is_longer_than_an_hour() -> None:
    ask = Asking(Upstream(one=(429, {"retry-after": "86400"})), ONE, TWO)
    await ask()
    ask.clock.now_s += 3600
    ask.upstream.asked.clear()

    await ask()

    assert ask.upstream.asked[0] == "one"


@pytest.mark.parametrize(("one", "two", "said"), [("20", "7", "7"), ("7", "20", "7")])
async def test_the_last_answer_is_the_clients_with_the_time_of_the_first_key_to_be_ready(
    one: str, two: str, said: str
) -> None:
    limits = {"one": (429, {"retry-after": one}), "two": (429, {"retry-after": two})}
    ask = Asking(Upstream(**limits), ONE, TWO)

    reply = await ask.reply()

    assert (reply.headers["retry-after"], [chunk async for chunk in reply]) == (said, [b"two"])


async def test_an_answer_that_is_not_given_is_read_to_its_end() -> None:
    ask = Asking(Upstream(one=429), ONE, TWO)

    await ask()

    assert [reply.end for reply in ask.upstream.replies] == ["upstream_error", None]


async def test_while_all_keys_rest_the_provider_is_left_alone() -> None:
    ask = Asking(Upstream(one=FULL, two=(429, {"retry-after": "40"})), ONE, TWO)
    await ask()
    ask.clock.now_s += 5
    ask.upstream.asked.clear()

    reply = await ask.reply()

    assert ask.upstream.asked == []
    assert (reply.status, reply.headers["retry-after"]) == (429, "15")
    assert json.loads(b"".join([chunk async for chunk in reply]))["error"] == {
        "message": "all 2 keys of 'openai' rest, since the provider reached its rate limit:"
        " the next one is tried in 15 s",
        "type": "rate_limit_error",
        "param": None,
        "code": None,
    }


async def test_keys_that_are_all_refused_are_told_as_such() -> None:
    ask = Asking(Upstream(one=401, two=401), ONE, TWO)

    assert [await ask(), await ask()] == [401, 401]
    assert ask.upstream.asked == ["one", "two"]


async def test_a_limit_that_passes_is_told_before_keys_that_are_refused() -> None:
    ask = Asking(Upstream(one=FULL, two=401), ONE, TWO)

    replies = [await ask.reply() for _ in range(2)]

    told = [(reply.status, reply.headers["retry-after"]) for reply in replies]
    assert told == [(429, "20")] * 2


async def test_what_is_forbidden_to_every_key_is_no_keys_fault() -> None:
    ask = Asking(Upstream(one=403, two=403), ONE, TWO)

    assert [await ask(), await ask()] == [403, 403]
    assert ask.upstream.asked == ["one", "two", "one", "two"]


async def test_what_is_forbidden_to_one_key_alone_lays_it_aside() -> None:
    ask = Asking(Upstream(one=403), ONE, TWO, THREE)

    assert [await ask(), await ask()] == [200, 200]
    assert ask.upstream.asked == ["one", "two", "two"]


async def test_a_recording_is_the_answer_whatever_it_says() -> None:
    ask = Asking(Upstream(one=429), ONE, TWO)
    ask.upstream.replayed = True

    assert [await ask(), await ask()] == [429, 429]
    assert ask.upstream.asked == ["one", "one"]


async def test_a_provider_with_one_key_is_asked_whatever_it_says() -> None:
    ask = Asking(Upstream(one=429), ONE)

    assert [await ask(), await ask()] == [429, 429]


async def test_a_provider_that_cannot_be_reached_is_no_keys_fault() -> None:
    pool, asked = KeyPool(), 0

    async def away(call: Call) -> Reply:
        nonlocal asked
        asked += 1
        raise Unreachable("no route")

    row = Provider("x", "http://x", keys=(ONE, TWO)).configured({})
    call = Call("i", Request("POST", "http://x/"), row, DIALECTS["openai.chat"], "/")
    with pytest.raises(Unreachable):
        await pool(call, away)

    assert asked == 1


# Where keys come from


def test_a_variable_may_hold_several_keys() -> None:
    row = PROVIDERS[1].configured({"OPENAI_API_KEY": f" {ONE}, {TWO},,{ONE} "})

    assert (row.key, row.keys) == (ONE, (ONE, TWO))


def test_the_rows_own_keys_come_before_the_environments() -> None:
    row = Provider("x", "http://x", key=ONE, keys=(TWO,), key_env=("X_KEY",))

    assert row.configured({"X_KEY": THREE}).keys == (ONE, TWO)


def test_a_row_shows_how_many_keys_it_has_and_none_of_them() -> None:
    row = Provider("x", "http://x", keys=(ONE, TWO)).configured({})

    assert repr(row) == "Provider('x', 'http://x', 2 keys)"


# Through a bridge


def test_a_client_does_not_notice_that_a_key_was_laid_aside() -> None:
    script = Script(fail(429, retry_after=60), "Hello")
    environ = {"OPENAI_API_KEY": f"{ONE},{TWO}"}

    with Bridge(script, environ=environ) as bridge, bridge.openai(max_retries=0) as client:
        said = client.chat.completions.create(model="m", messages=[])

        assert said.choices[0].message.content == "Hello"
        assert [record.status for record in bridge.records] == [429, 200]
        assert len(bridge.interceptions) == 1


def test_a_retry_waits_until_the_first_key_is_ready_again() -> None:
    script = Script(fail(429, retry_after=0), fail(429, retry_after=60), "Hello")
    environ = {"OPENAI_API_KEY": f"{ONE},{TWO}"}

    with (
        Bridge(script, environ=environ, retries=1) as bridge,
        bridge.openai(max_retries=0) as client,
    ):
        said = client.chat.completions.create(model="m", messages=[])

        assert said.choices[0].message.content == "Hello"
