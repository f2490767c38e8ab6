import json
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from llmbridge.bridge import Bridge
from llmbridge.canon.messages import Context, Model, Text, UserMessage
from llmbridge.errors import CassetteMissed
from llmbridge.exchange.call import Caller, Headers, Request
from llmbridge.exchange.record import Record
from llmbridge.stores.cassette import Cassette
from llmbridge.upstreams.replay import Replay
from tests.upstreams.provider import CHAT, DONE, SSE, heard, request, says, text


def record(said: str = "a", id: str = "session.yaml#0", **body: Any) -> Record:
    chunks = ((0.1, says(said)), (0.2, DONE))
    return Record(id, "openai", "openai.chat", request(**body), 200, SSE, chunks)


def turns(*said: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": each} for each in said]}


async def missed(records: list[Record], asked: Request) -> str:
    """What the client of a replay is told."""
    status, pieces = await heard(Bridge(Replay(records), environ={}), asked)
    assert status == 400
    message: str = json.loads(pieces[0])["error"]["message"]
    return message


@pytest.mark.parametrize(
    ("records", "asked", "said"),
    [
        (
            [record(temperature=0, **turns("hello"))],
            request(temperature=1, **turns("hallo")),
            'differs in $.temperature: recorded 0, now 1; $.messages[0].content: recorded "hello", now "hallo"',
        ),
        (
            [record(id="x#0", **turns("a", "b", "c")), record(id="x#1", **turns("z", "b", "c"))],
            request(**turns("a", "b", "d")),
            'the nearest, x#0, differs in $.messages[2].content: recorded "c", now "d";',
        ),
        (
            [record(id="x#0", model="other"), record(id="x#1", seed=1)],
            request(),
            "the nearest, x#1, differs in $.seed: recorded 1, now nothing;",
        ),
        (
            [record(id="x#0", temperature=1), record(id="x#1")],
            request(seed=1),
            "the nearest, x#1, differs in $.seed: recorded nothing, now 1;",
        ),
        (
            [],
            request(),
            "(model 'm'): nothing is recorded yet; record it with",
        ),
        (
            [record()],
            request("https://api.openai.com/v1/responses"),
            "there is none of openai.responses, only of openai.chat;",
        ),
    ],
    ids=[
        "values",
        "the longest common beginning",
        "other keys",
        "fewest other keys",
        "nothing",
        "another dialect",
    ],
)
async def test_a_miss_tells_what_differs(records: list[Record], asked: Request, said: str) -> None:
    assert said in await missed(records, asked)


async def test_of_two_alike_the_nearest_is_one_that_was_not_played() -> None:
    records = [record(id="x#0", **turns("first")), record(id="x#1", **turns("second"))]
    subject = Bridge(Replay(records), environ={})
    await heard(subject, request(**turns("first")))

    _, pieces = await heard(subject, request(**turns("changed")))

    told = json.loads(b"".join(pieces))["error"]["message"]
    assert 'the nearest, x#1, differs in $.messages[0].content: recorded "second"' in told


async def test_a_miss_tells_how_to_record() -> None:
    message = await missed([], request())

    assert "mode='new_episodes'" in message
    assert message.endswith("--llm-record=new_episodes")


async def test_a_miss_beside_recordings_tells_how_to_replace_them() -> None:
    message = await missed([record()], request(seed=1))

    assert "mode='rewrite'" in message
    assert message.endswith(
        "--llm-record=rewrite, which records all anew; new_episodes adds to what is there"
    )


async def test_a_miss_tells_what_was_played() -> None:
    subject = Bridge(Replay([record(n=n, id=f"s#{n}") for n in range(2, 5)]), environ={})
    for n in (3, 4):
        await heard(subject, request(n=n))

    _, pieces = await heard(subject, request(n=9))

    assert b"2 of 3 were played before (s#3, s#4)" in pieces[0]


async def test_of_an_unknown_endpoint_the_path_differs() -> None:
    there = Request("POST", "https://x.example.com/run", Headers(), b"{}")
    kept = Record("s#0", "example", "opaque", there, 200, Headers(), ((0.1, b"{}"),))
    asked = Request("POST", "https://x.example.com/walk", Headers(), b"{}")

    message = await missed([kept], asked)

    assert "POST /walk: the nearest, s#0, differs in the operation: recorded POST /run" in message


async def test_a_request_asked_too_often_says_so() -> None:
    subject = Bridge(Replay([record(), record()]), environ={})
    for _ in range(2):
        await heard(subject, request())

    _, pieces = await heard(subject, request())

    assert b"every recording of POST /chat/completions (model 'm') was played (2)" in pieces[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ["1", "2", "400", "400", "400"]),
        ({"strict": False}, ["1", "2", "2", "2", "2"]),
        ({"repeat": "last"}, ["1", "2", "2", "2", "2"]),
        ({"repeat": "cycle"}, ["1", "2", "1", "2", "1"]),
        ({"repeat": "error", "strict": False}, ["1", "2", "400", "400", "400"]),
    ],
    ids=["strict", "not strict", "last", "cycle", "error"],
)
async def test_what_comes_after_the_last_recording(options: Any, said: list[str]) -> None:
    subject = Bridge(Replay([record("1"), record("2")], **options), environ={})

    assert [await text(subject, request()) for _ in range(5)] == said


async def test_every_miss_is_kept() -> None:
    replay = Replay([record(n=2)])
    subject = Bridge(replay, environ={})
    await heard(subject, request(n=2))
    await heard(subject, request(n=3))

    miss = replay.misses[0]
    assert (len(replay.misses), miss.dialect, miss.model, miss.exhausted) == (
        1,
        "openai.chat",
        "m",
        False,
    )
    assert (miss.nearest, [str(each) for each in miss.differences]) == (
        replay.played[0],
        ["$.n: recorded 2, now 3"],
    )


async def test_a_miss_shows_no_secret() -> None:
    replay = Replay([record()])
    subject = Bridge(replay, environ={"MY_TOKEN": "correct-horse-battery"})

    await heard(subject, request(seed="correct-horse-battery", api_key="sk-proj-abcdefgh1"))

    assert "correct-horse" not in str(replay.misses) + str(replay.misses[0].request.body)
    assert "abcdefgh" not in replay.misses[0].message


async def test_what_was_played_and_what_was_not_is_known() -> None:
    records = [record(n=n) for n in range(2, 5)]
    replay = Replay(records)

    await heard(Bridge(replay, environ={}), request(n=3))

    assert (replay.played, replay.unused) == ([records[1]], [records[0], records[2]])


# What a double that goes by the last user message answers all the same


def chat(system: str = "Whisper.", user: str = "hi", **fields: Any) -> Request:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    tools = [{"type": "function", "function": {"name": fields.pop("tool", "clock")}}]
    return request(**{"model": "gpt-5", "temperature": 0, **fields}, messages=messages, tools=tools)


def messages(system: str = "Whisper.", user: str = "hi", **fields: Any) -> Request:
    url = "https://api.anthropic.com/v1/messages"
    tools = [{"name": fields.pop("tool", "clock"), "input_schema": {"type": "object"}}]
    body = {"model": "claude-opus-4", "max_tokens": 9, "temperature": 0, **fields}
    return request(url, system=system, **turns(user), **body, tools=tools)


ASKING = {"openai.chat": chat, "anthropic.messages": messages}
PROBES: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 1},
    "system prompt": {"system": "Shout."},
    "tools": {"tool": "calendar"},
    "recorded words inside others": {"user": "what is this about?"},
    "a dated model": {"model": "{}-20250514"},
}


@pytest.mark.feature("replay", 9)
@pytest.mark.parametrize("dialect", ASKING)
@pytest.mark.parametrize("probe", PROBES)
async def test_what_looser_rules_would_answer_is_a_miss(dialect: str, probe: str) -> None:
    ask = ASKING[dialect]
    model = json.loads(ask().body)["model"]
    other = {
        name: value.format(model) if name == "model" else value
        for name, value in PROBES[probe].items()
    }
    kept = Record("i", dialect.split(".")[0], dialect, ask(), 200, SSE, ((0.1, DONE),))
    replay = Replay([kept], repeat="last")
    subject = Bridge(replay, environ={})

    got = [(await heard(subject, each))[0] for each in (ask(), ask(**other), ask())]

    assert got == [200, 400, 200]
    assert len(replay.misses[0].differences) == 1


# In process a miss may be raised


def raising() -> Bridge:
    return Bridge(Replay([], on_miss="raise"), environ={})


BODY = {"model": "m", "messages": []}


@pytest.mark.feature("replay", 7)
@pytest.mark.parametrize("module", [httpx, httpx2], ids=lambda module: module.__name__)
def test_no_handler_of_exceptions_swallows_a_miss(module: Any) -> None:
    with raising() as bridge, module.Client(transport=bridge.transport(module)) as client:
        with pytest.raises(CassetteMissed, match="no recording answers"):
            agent(lambda: client.post(CHAT, json=BODY))

        assert [each.status for each in bridge.interceptions] == [400]


def agent(ask: Any) -> Any:
    try:
        return ask()
    except Exception:  # noqa: BLE001  # as agents do
        return "I could not reach the model."


@pytest.mark.parametrize("module", [httpx, httpx2], ids=lambda module: module.__name__)
async def test_nor_does_an_async_one(module: Any) -> None:
    bridge = raising()
    async with module.AsyncClient(transport=bridge.async_transport(module)) as client:
        with pytest.raises(CassetteMissed):
            await client.post(CHAT, json=BODY)

    assert (len(bridge.inflight), bridge.interceptions[0].end) == (0, "bridge_limit")


def test_nor_does_an_sdk_and_the_bridge_goes_on() -> None:
    with raising() as bridge, bridge.openai(max_retries=2) as client:
        for _ in range(2):
            with pytest.raises(CassetteMissed):
                agent(lambda: client.chat.completions.create(model="m", messages=[]))

        assert len(bridge.interceptions) == 2


QUESTION = Model("openai", "m"), Context(messages=(UserMessage((Text("hi"),)),))


async def test_a_stream_function_raises_it() -> None:
    bridge = raising()

    with pytest.raises(CassetteMissed):
        await bridge.stream(*QUESTION)

    assert len(bridge.inflight) == 0


def test_so_does_one_without_an_event_loop() -> None:
    with raising() as bridge:
        for _ in range(2):
            with pytest.raises(CassetteMissed):
                list(bridge.stream_sync(*QUESTION))


def test_over_http_it_is_an_answer_that_is_not_asked_for_again() -> None:
    with raising() as bridge, bridge.serve() as server:
        answer = httpx2.post(f"{server.url}/v1/chat/completions", json=BODY, trust_env=False)

    assert (answer.status_code, answer.headers["x-should-retry"]) == (400, "false")
    assert answer.json()["error"]["type"] == "invalid_request_error"


# Sessions


async def test_each_session_plays_from_the_first_recording_on() -> None:
    replay = Replay([record("1"), record("2")])
    subject = Bridge(replay, environ={})

    with replay.session("one"):
        one = [await text(subject, request()) for _ in range(2)]
    with replay.session("two"):
        two = [await text(subject, request()) for _ in range(2)]

    assert (one, two) == (["1", "2"], ["1", "2"])


async def test_a_session_may_begin_anew() -> None:
    replay = Replay([record("1"), record("2")])
    subject = Bridge(replay, environ={})
    said: list[str] = []

    for _ in range(2):
        with replay.session("one"):
            said.append(await text(subject, request()))

    assert said == ["1", "1"]


def test_a_session_reaches_the_bridge_from_another_thread() -> None:
    replay = Replay([record("1"), record("2")])
    with Bridge(replay, environ={}) as bridge:
        client = httpx2.Client(transport=bridge.transport())
        said: list[bytes] = []
        for name in ("one", "two"):
            with replay.session(name):
                said.append(client.post(CHAT, content=request().body).content)

    assert said == [says("1") + DONE] * 2


async def test_clients_name_their_session_themselves() -> None:
    subject = Bridge(Replay([record("1"), record("2")]), environ={})
    asked = request()

    said = [
        await text(subject, Request("POST", CHAT, Headers(), asked.body, Caller(session_id=name)))
        for name in ("one", "two", "one")
    ]

    assert said == ["1", "1", "2"]


def test_a_header_names_the_session_and_goes_no_further() -> None:
    replay = Replay([record("1"), record("2")])
    with Bridge(replay, environ={}) as bridge, bridge.serve() as server:
        said = [
            httpx2.post(
                f"{server.url}/v1/chat/completions",
                content=request().body,
                headers={"x-llmbridge-session": name, "content-type": "application/json"},
                trust_env=False,
            ).content
            for name in ("one", "two")
        ]
        passed_on = [each.request.headers for each in bridge.records if each.request]

    assert said == [says("1") + DONE] * 2
    assert not any("x-llmbridge-session" in headers for headers in passed_on)


async def test_a_recording_is_used_once_any_session_has_played_it() -> None:
    replay = Replay([record("1"), record("2")])

    with replay.session("one"):
        await text(Bridge(replay, environ={}), request())

    assert [each.body for each in replay.unused] == [says("2") + DONE]


async def test_a_miss_names_its_session() -> None:
    replay = Replay([record()])

    with replay.session("one"):
        await text(Bridge(replay, environ={}), request(n=7))

    assert (replay.misses[0].session, "in session 'one'" in replay.misses[0].message) == (
        "one",
        True,
    )


async def test_other_rules_of_matching_are_arguments(tmp_path: Path) -> None:
    path = tmp_path / "session.yaml"
    Cassette(path, [record("a", seed=1, trace="x")]).save()
    subject = Bridge(Replay(path, ignore=["$.seed", "$.trace"]), environ={})

    assert await text(subject, request(seed=2)) == "a"
