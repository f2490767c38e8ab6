"""When a circuit opens, who is turned away, and how it closes again."""

import asyncio
import json
from collections.abc import Iterator

import httpx2
import pytest

from llmbridge.bridge import Bridge
from llmbridge.errors import CircuitOpen, ConfigurationError, Unreachable, UpstreamTimeout
from llmbridge.exchange.breaker import MOST_CIRCUITS, Circuit, CircuitBreaker
from llmbridge.exchange.call import Call, Headers, Reply, Request, once
from llmbridge.exchange.failure import error_reply
from llmbridge.frames.metrics import MeteredStore
from llmbridge.providers import DIALECTS, PROVIDERS, Provider
from llmbridge.upstreams.lines import fail, repeat
from llmbridge.upstreams.script import Script

OPENAI = PROVIDERS[1]


class Clock:
    """Stands still until it is moved."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Asking:
    """A breaker before an upstream that gives this status, or raises."""

    def __init__(self, **options: float) -> None:
        self.clock = Clock()
        self.breaker = CircuitBreaker(monotonic=self.clock, **options)  # type: ignore[arg-type]  # the numbers fit
        self.answer: int | Exception = 200
        self.asked = 0
        self.replayed = False

    async def __call__(self, model: str = "m", target: str = "/a", row: Provider = OPENAI) -> int:
        call = Call("i", Request("POST", "http://x/"), row, DIALECTS["openai.chat"], target, model)
        try:
            return (await self.breaker(call, self.upstream)).status
        except CircuitOpen:
            return 0

    async def upstream(self, call: Call) -> Reply:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return Reply(self.answer, Headers(), once(b""), replayed=self.replayed)

    async def fail(self, times: int = 5, status: int = 503) -> None:
        self.answer = status
        for _ in range(times):
            await self()

    @property
    def state(self) -> str:
        return next((each.state for each in self.breaker.circuits), "closed")


@pytest.fixture
def ask() -> Asking:
    return Asking()


@pytest.mark.parametrize("status", [429, 503, 504, 529])
@pytest.mark.feature("gateway", 33)
async def test_a_circuit_opens_after_five_failures_in_a_row(ask: Asking, status: int) -> None:
    await ask.fail(4, status)
    before = ask.state
    await ask.fail(1, status)

    assert (before, ask.state) == ("closed", "open")
    assert (await ask(), ask.asked) == (0, 5)


@pytest.mark.parametrize("status", [400, 401, 404, 500, 502])
async def test_other_errors_do_not_count(ask: Asking, status: int) -> None:
    await ask.fail(9, status)

    assert (ask.state, ask.asked) == ("closed", 9)


async def test_one_success_in_between_begins_the_count_anew(ask: Asking) -> None:
    await ask.fail(4)
    ask.answer = 200
    await ask()
    await ask.fail(4)

    assert ask.state == "closed"


async def test_failures_longer_apart_than_the_interval_are_no_row(ask: Asking) -> None:
    await ask.fail(4)
    ask.clock.now_s += 10
    await ask.fail(4)

    assert ask.state == "closed"


async def test_a_row_begins_with_its_first_failure_after_a_circuit_was_closed_again(
    ask: Asking,
) -> None:
    await ask.fail()
    ask.clock.now_s += 30
    ask.answer = 200
    for _ in range(3):
        await ask()
    await ask.fail(1)
    ask.clock.now_s += 8
    ask.answer = 200
    await ask()

    await ask.fail(2)
    ask.clock.now_s += 8
    await ask.fail(3)

    assert ask.state == "open"


async def test_a_provider_that_says_nothing_has_failed(ask: Asking) -> None:
    ask.answer = UpstreamTimeout("silent")
    for _ in range(5):
        with pytest.raises(UpstreamTimeout):
            await ask()

    assert ask.state == "open"


async def test_a_lost_connection_does_not_count(ask: Asking) -> None:
    ask.answer = Unreachable("closed")
    for _ in range(9):
        with pytest.raises(Unreachable):
            await ask()

    assert ask.breaker.circuits == ()


async def test_a_recording_does_not_count(ask: Asking) -> None:
    ask.replayed = True
    await ask.fail(9)

    assert ask.asked == 9


async def test_each_model_endpoint_and_provider_has_its_own_circuit(ask: Asking) -> None:
    await ask.fail(5)
    ask.answer = 200

    assert [
        await ask("m"),
        await ask("n"),
        await ask("m", "/b"),
        await ask("m", "/a?x=1"),
        await ask("m", row=PROVIDERS[4]),
    ] == [0, 200, 200, 0, 200]


async def test_three_trials_that_go_well_close_it(ask: Asking) -> None:
    await ask.fail()
    ask.clock.now_s += 29.9
    early = await ask()
    ask.clock.now_s += 0.1
    ask.answer = 200
    states = [(await ask(), ask.state) for _ in range(3)]

    assert early == 0
    assert states == [(200, "half_open"), (200, "half_open"), (200, "closed")]


async def test_a_trial_that_fails_opens_it_anew(ask: Asking) -> None:
    await ask.fail()
    ask.clock.now_s += 30
    ask.answer = 200
    await ask()
    await ask.fail(1)
    ask.clock.now_s += 29.9

    assert (await ask(), ask.state) == (0, "open")


async def test_no_more_than_three_are_let_through_on_trial(ask: Asking) -> None:
    await ask.fail()
    ask.clock.now_s += 30
    arrived, go = asyncio.Barrier(4), asyncio.Event()

    async def slow(call: Call) -> Reply:
        await arrived.wait()
        await go.wait()
        return Reply(200, Headers(), once(b""))

    ask.upstream = slow  # type: ignore[method-assign]  # that is what is asked now
    async with asyncio.TaskGroup() as tasks:
        three = [tasks.create_task(ask()) for _ in range(3)]
        await arrived.wait()
        fourth = await ask()
        go.set()

    assert (fourth, [task.result() for task in three], ask.state) == (0, [200] * 3, "closed")


async def test_a_trial_whose_client_leaves_gives_its_place_to_another(ask: Asking) -> None:
    await ask.fail()
    ask.clock.now_s += 30

    async def never(call: Call) -> Reply:
        raise asyncio.CancelledError

    answers, ask.upstream = ask.upstream, never  # type: ignore[method-assign]  # that is what is asked now
    for _ in range(3):
        with pytest.raises(asyncio.CancelledError):
            await ask()
    ask.upstream, ask.answer = answers, 200  # type: ignore[method-assign]  # as before

    assert await ask() == 200


async def test_an_answer_to_what_was_asked_before_it_opened_says_nothing(ask: Asking) -> None:
    go = asyncio.Event()
    answers = ask.upstream

    async def slow(call: Call) -> Reply:
        await go.wait()
        return Reply(200, Headers(), once(b""))

    ask.upstream = slow  # type: ignore[method-assign]  # that is what is asked now
    async with asyncio.TaskGroup() as tasks:
        early = tasks.create_task(ask())
        await asyncio.sleep(0)
        ask.upstream = answers  # type: ignore[method-assign]  # as before
        await ask.fail()
        ask.clock.now_s += 30
        go.set()
        await early

    ask.answer = 200
    states = [(await ask(), ask.state) for _ in range(3)]
    assert states[1:] == [(200, "half_open"), (200, "closed")]


async def test_what_clients_make_up_is_not_remembered_for_ever(ask: Asking) -> None:
    ask.answer = 429
    for number in range(MOST_CIRCUITS + 5):
        await ask(str(number))

    assert len(ask.breaker.circuits) == MOST_CIRCUITS


async def test_a_refusal_says_the_same_in_its_words_and_its_header(ask: Asking) -> None:
    await ask.fail()
    ask.clock.now_s += 5.8
    call = Call("i", Request("POST", "http://x/"), OPENAI, DIALECTS["openai.chat"], "/a", "m")

    with pytest.raises(CircuitOpen, match="try again in 25 s") as caught:
        await ask.breaker(call, ask.upstream)

    assert ("retry-after", "25") in error_reply(call.dialect, caught.value).headers.pairs


async def test_it_tells_how_things_stand() -> None:
    ask = Asking(failures=1, open_s=7)
    await ask.fail(3)

    assert ask.breaker.circuits == (Circuit("openai", "/a", "m", "open", trips=1, rejects=2),)
    assert repr(ask.breaker) == "CircuitBreaker(openai 'm' open)"


@pytest.mark.parametrize("name", ["failures", "interval_s", "open_s", "trials"])
def test_numbers_that_mean_nothing_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}=0: give a positive number"):
        CircuitBreaker(**{name: 0})  # type: ignore[arg-type]  # which is the point


# Through a bridge


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    breaker = CircuitBreaker(failures=2, monotonic=Clock())
    script = Script(repeat(fail(503)))
    with Bridge(script, store=MeteredStore(), breaker=breaker, environ={}) as bridge:
        yield bridge


def told(bridge: Bridge, path: str, times: int = 1) -> list[httpx2.Response]:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    with httpx2.Client(transport=bridge.transport()) as client:
        return [client.post(f"http://localhost{path}", json=body) for _ in range(times)]


@pytest.mark.feature("gateway", 33)
def test_clients_are_refused_in_their_providers_shape_and_told_when_to_come_again(
    bridge: Bridge,
) -> None:
    message = "circuit breaker is open: '{}' has failed for 'm' again and again; try again in 30 s"

    anthropic = told(bridge, "/v1/messages", 3)[-1]
    openai = told(bridge, "/v1/chat/completions", 3)[-1]

    assert [reply.status_code for reply in (anthropic, openai)] == [503, 503]
    assert [reply.headers["retry-after"] for reply in (anthropic, openai)] == ["30", "30"]
    assert anthropic.json() == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": message.format("anthropic")},
    }
    assert openai.json()["error"]["message"] == message.format("openai")


def test_a_refused_call_is_on_record_without_an_exchange(bridge: Bridge) -> None:
    told(bridge, "/v1/chat/completions", 3)

    assert [each.status for each in bridge.interceptions] == [503, 503, 503]
    assert bridge.interceptions[-1].error_type == "overloaded"
    assert len(bridge.records) == 2


def test_metrics_tell_the_states(bridge: Bridge) -> None:
    told(bridge, "/v1/chat/completions", 5)

    with bridge.serve(token=None) as server:
        text = httpx2.get(f"{server.url}/metrics").text

    place = '{endpoint="/chat/completions",model="m",provider="openai"}'
    lines = {line for line in text.splitlines() if line.startswith("circuit_breaker")}
    assert {line for line in lines if "_created" not in line} == {
        f"circuit_breaker_state{place} 1.0",
        f"circuit_breaker_trips_total{place} 1.0",
        f"circuit_breaker_rejects_total{place} 3.0",
    }


def test_what_is_asked_again_counts_once() -> None:
    breaker = CircuitBreaker(failures=2)
    script = Script(fail(503, retry_after=0), fail(503, retry_after=0), "Hello")
    with Bridge(script, breaker=breaker, retries=2, environ={}) as bridge:
        (reply,) = told(bridge, "/v1/chat/completions")

    assert (json.loads(reply.content)["choices"][0]["message"]["content"], breaker.circuits) == (
        "Hello",
        (),
    )
