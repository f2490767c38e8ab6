import asyncio
import gc
import itertools
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import openai
import pytest

from llmbridge import (
    AssistantMessage,
    Bridge,
    Call,
    Cassette,
    Context,
    Live,
    Model,
    Provider,
    Replay,
    Reply,
    Script,
    Text,
    UserMessage,
    fail,
    faults,
)
from llmbridge.errors import BridgeError, CassetteError, ConfigurationError
from llmbridge.stores.memory import MemoryStore
from tests.frontends.fakes import RawClient

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
CHAT = "https://api.openai.com/v1/chat/completions"
HI: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
CONTEXT = Context(messages=(UserMessage((Text("hi"),)),))


def script(*lines: str) -> Bridge:
    return Bridge(Script(*(lines or ("Hello",))), environ={})


def test_sync_sdk_clients_talk_without_a_socket() -> None:
    with script("one", "two") as bridge:
        claude = bridge.anthropic().messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        )
        gpt = bridge.openai().responses.create(model="m", input="hi")

    assert (claude.content[0].to_dict()["text"], gpt.output_text) == ("one", "two")


async def test_sync_and_async_clients_work_inside_a_running_loop() -> None:
    with script("one", "two") as bridge:
        sync = bridge.openai().chat.completions.create(**HI)
        async with bridge.async_openai() as client:
            later = await client.chat.completions.create(**HI)

    assert [answer.choices[0].message.content for answer in (sync, later)] == ["one", "two"]


@pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_both_generations_of_clients_are_served(module: Any) -> None:
    with script() as bridge, module.Client(transport=bridge.transport(module)) as client:
        answer = client.post(CHAT, json=HI)

    assert answer.json()["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize(("module", "other"), [(httpx, httpx2), (httpx2, httpx)])
def test_a_transport_refuses_clients_of_the_other_library(module: Any, other: Any) -> None:
    with script() as bridge, other.Client(transport=bridge.transport(module)) as client:
        with pytest.raises(TypeError, match=rf"take bridge\.transport\({other.__name__}\)"):
            client.post(CHAT, json=HI)

        assert bridge.inflight == ()


def test_another_client_library_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="'json'"):
        script().transport(__import__("json"))


def test_a_server_answers_over_http_and_stops() -> None:
    with script() as bridge:
        with bridge.serve() as server:
            answer = httpx2.post(f"{server.url}/v1/chat/completions", json=HI)
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{server.url}/healthz")

    assert answer.json()["choices"][0]["message"]["content"] == "Hello"


def test_closing_a_bridge_stops_its_servers_and_ends_its_thread() -> None:
    before = set(threading.enumerate())
    bridge = script()
    server = bridge.serve()

    bridge.close()
    bridge.close()

    assert set(threading.enumerate()) <= before
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{server.url}/healthz")


def test_an_upstream_that_cannot_be_closed_holds_up_nothing_else() -> None:
    class Stuck:
        async def __call__(self, call: Call) -> Reply:
            raise NotImplementedError

        async def aclose(self) -> None:
            raise OSError("stuck")

    class Closing(MemoryStore):
        closed = False

        def close(self) -> None:
            self.closed = True

    before, store = set(threading.enumerate()), Closing()
    bridge = Bridge(Stuck(), store=store, environ={})
    server = bridge.serve(token=None)

    with pytest.raises(OSError, match="stuck"):
        bridge.close()

    assert (server.running, store.closed) == (False, True)
    assert set(threading.enumerate()) <= before


async def test_a_bridge_whose_block_is_cancelled_is_closed() -> None:
    with anyio.move_on_after(0.01):
        async with script() as bridge:
            server = bridge.serve()
            await anyio.sleep_forever()

    assert not server.running


def test_a_token_guards_the_server_when_a_key_could_be_spent() -> None:
    with Bridge(Live(), environ={"OPENAI_API_KEY": "sk-x"}) as bridge, bridge.serve() as server:
        answer = httpx2.post(f"{server.url}/v1/chat/completions", json=HI)

        assert (answer.status_code, server.token and server.token[:5]) == (401, "llmb_")
        assert server.env()["OPENAI_API_KEY"] == server.token
        assert str(server.token) not in repr(server) + repr(bridge)


@pytest.mark.parametrize("upstream", [Script("x"), Replay([])], ids=["script", "replay"])
def test_what_spends_no_key_needs_no_token(upstream: Any) -> None:
    with Bridge(upstream, environ={}) as bridge, bridge.serve() as server:
        assert server.token is None


async def test_a_mounted_bridge_asks_for_its_token_when_a_key_could_be_spent() -> None:
    bridge = Bridge(Live(), environ={"OPENAI_API_KEY": "sk-x"})
    app = bridge.asgi
    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost")

    async with client:
        refused = await client.post("/v1/chat/completions", json=HI)
        known = {"authorization": f"Bearer {bridge.asgi.token}"}
        taken = await client.post("/v1/chat/completions", content=b"{", headers=known)

    assert (refused.status_code, taken.status_code, bridge.asgi is app) == (401, 400, True)


async def test_a_mounted_bridge_without_a_key_to_spend_asks_nobody() -> None:
    async with script() as bridge:
        client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(bridge.asgi), base_url="http://localhost"
        )
        async with client:
            answer = await client.post("/openai/v1/chat/completions", json=HI)

    assert (answer.status_code, bridge.asgi.token) == (200, None)


def test_pages_of_allowed_origins_may_call() -> None:
    with script() as bridge, bridge.serve(allowed_origins=["http://localhost:3000"]) as server:
        answers = [
            httpx2.post(
                f"{server.url}/v1/chat/completions", json=HI, headers={"origin": origin}
            ).status_code
            for origin in ("http://localhost:3000", "http://evil.example")
        ]

    assert answers == [200, 403]


def test_a_closed_bridge_makes_no_calls_and_does_not_serve() -> None:
    bridge = script()
    bridge.serve()
    bridge.close()

    with httpx2.Client(transport=bridge.transport()) as client:
        answer = client.post(CHAT, json=HI)

    assert (answer.status_code, "the bridge is closed" in answer.text, bridge.records) == (
        503,
        True,
        [],
    )
    assert repr(bridge) == (
        "Bridge(Script(1 lines, 0 said), store=MemoryStore(0 interceptions, 0 records), closed)"
    )
    with pytest.raises(ConfigurationError, match="the bridge is closed"):
        bridge.serve()
    bridge.close()


def test_an_empty_token_is_no_token() -> None:
    with script() as bridge, pytest.raises(ConfigurationError, match="token=''"):
        bridge.serve(token="")


def test_serving_beyond_loopback_must_be_asked_for() -> None:
    with script() as bridge, pytest.raises(ConfigurationError, match="allow_remote=True"):
        bridge.serve("0.0.0.0")


async def test_a_bridge_can_stand_behind_a_bridge() -> None:
    with script("Hello from afar") as far, far.serve() as server:
        near = Bridge(base_urls={"openai": server.url}, environ={"OPENAI_API_KEY": "none"})
        async with httpx2.AsyncClient(transport=near.async_transport()) as client:
            answer = await client.post(CHAT, json={**HI, "stream": True})

        assert answer.content == far.records[0].body == near.records[0].body


def test_a_bridge_does_not_call_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with Bridge(base_urls={"openai": url}, environ={"OPENAI_API_KEY": "x"}) as bridge:
        bridge.serve(port=port, token=None)

        answer = httpx2.post(f"{url}/v1/chat/completions", json=HI)

    assert (answer.status_code, "leads back to this bridge" in answer.text) == (502, True)


async def test_stream_gives_events_and_the_message() -> None:
    bridge = script("Hello there")

    events = await bridge.stream(Model("anthropic", "claude"), CONTEXT)
    types = [event.type async for event in events]
    message = await events.result()

    assert types == ["start", "text_start", "text_delta", "text_delta", "text_end", "done"]
    assert (message.text, bridge.interceptions[0].frontend) == ("Hello there", "stream")


def test_stream_sync_gives_partials_that_grow() -> None:
    with script("Hello there") as bridge:
        texts = [e.partial.text for e in bridge.stream_sync(Model("openai", "gpt"), CONTEXT)]

    assert texts == ["", "", "Hello", "Hello there", "Hello there", "Hello there"]


async def test_a_failure_is_the_last_event_of_a_stream() -> None:
    bridge = Bridge(Live(), environ={})

    message = await (await bridge.stream(Model("openai", "gpt"), CONTEXT)).result()

    assert (message.error_type, "OPENAI_API_KEY" in str(message.error)) == (
        "authentication_error",
        True,
    )


@pytest.mark.parametrize(
    "model", [Model("nobody", "m"), Model("openai", "m", "anthropic.messages")]
)
async def test_a_model_of_no_provider_is_refused(model: Model) -> None:
    with pytest.raises(ConfigurationError, match=r"nobody|does not speak"):
        await script().stream(model, CONTEXT)


def test_a_bridge_records_into_a_cassette_that_replays(tmp_path: Path) -> None:
    path = tmp_path / "session.yaml"
    with Bridge(Script("Hello"), store=path, environ={}) as bridge:
        first = bridge.openai().chat.completions.create(**HI)

    with Bridge(Replay(path), environ={}) as again:
        second = again.openai().chat.completions.create(**HI)

    assert (first, len(list(Cassette.load(path)))) == (second, 1)


def ask_noon(bridge: Bridge) -> str:
    with bridge.openai(max_retries=0) as client:
        return client.responses.create(model="gpt-5-mini", input="What time is it?").output_text


def test_a_cassette_stands_in_for_the_upstream_while_a_block_lasts(tmp_path: Path) -> None:
    path = tmp_path / "noon.yaml"
    with Bridge(Script("It is noon.", "It is late.")) as bridge:
        with bridge.cassette(path) as recorded:
            assert ask_noon(bridge) == "It is noon."
        assert len(recorded.recorded) == 1
        assert path.exists()
        with bridge.cassette(path) as played:
            assert ask_noon(bridge) == "It is noon."
        assert (len(played.played), played.recorded) == (1, [])
        assert ask_noon(bridge) == "It is late."
        assert [record.replayed for record in bridge.records] == [False, True, False]


def test_blocks_that_do_not_end_in_order_leave_the_upstream_as_it_was(tmp_path: Path) -> None:
    with Bridge(Script("It is noon.", "It is late.")) as bridge:
        before = bridge.upstream
        first, second = (bridge.cassette(tmp_path / name) for name in ("1.yaml", "2.yaml"))
        first.__enter__()
        second.__enter__()

        first.__exit__(None, None, None)
        second.__exit__(None, None, None)

        assert bridge.upstream is before


def test_a_bridge_closed_within_a_block_keeps_what_it_recorded_before(tmp_path: Path) -> None:
    path = tmp_path / "noon.yaml"
    bridge = Bridge(Replay(path, mode="new_episodes", upstream=Script(fail(500))))
    with pytest.raises(openai.InternalServerError):
        ask_noon(bridge)

    with bridge.cassette(tmp_path / "other.yaml"):
        bridge.close()

    assert [record.status for record in Cassette.load(path)] == [500]


def test_a_served_bridge_answers_from_a_cassette_too(tmp_path: Path) -> None:
    path = str(tmp_path / "noon.yaml")
    with Bridge(Script("It is noon."), store=path) as bridge:
        ask_noon(bridge)
    with Bridge(Script("It is late.")) as bridge, bridge.serve() as server:
        question = {"model": "gpt-5-mini", "input": "What time is it?"}
        with bridge.cassette(path, mode="none"):
            reply = httpx.post(f"{server.url}/v1/responses", json=question)
    assert "It is noon." in reply.text


@pytest.mark.parametrize("stream", [False, True], ids=["block", "stream"])
def test_what_a_served_replay_answers_again_is_recorded_as_the_first_time(
    tmp_path: Path, stream: bool
) -> None:
    path = str(tmp_path / "noon.yaml")
    question = {"model": "gpt-5-mini", "input": "What time is it?", "stream": stream}
    with Bridge(Script("It is noon."), store=path) as bridge, bridge.serve(token=None) as server:
        live = httpx.post(f"{server.url}/v1/responses", json=question)

    with (
        Bridge(Replay(path, strict=False)) as bridge,
        bridge.serve() as server,
        httpx.Client() as client,
    ):
        replies = [client.post(f"{server.url}/v1/responses", json=question) for _ in range(4)]
        with bridge.faults(faults.status(429)):
            refused = client.post(f"{server.url}/v1/responses", json=question)

    assert [reply.content for reply in replies] == [live.content] * 4
    assert refused.status_code == 429
    told = [
        replace(kept, id="", started_at=EPOCH, ended_at=EPOCH) for kept in bridge.interceptions[:4]
    ]
    assert told == told[:1] * 4
    kept = [
        replace(
            record,
            interception_id="",
            started_at=EPOCH,
            head_s=0.0,
            duration_s=0.0,
            chunks=((0.0, record.body),),
        )
        for record in bridge.records[:4]
    ]
    assert kept == kept[:1] * 4
    assert (told[0].end, kept[0].end, kept[0].body) == ("completed", "completed", live.content)


async def late(call: Call) -> Reply:
    """Waits for something, which takes a task."""
    async with asyncio.timeout(5):
        await asyncio.sleep(0)
    return await Script("It is late.")(call)


@pytest.mark.parametrize("change", ["faults", "another cassette", "load", "end of the cassette"])
def test_what_answers_may_change_while_a_call_is_answered_at_once(
    tmp_path: Path, change: str
) -> None:
    path, new = str(tmp_path / "noon.yaml"), str(tmp_path / "new.yaml")
    with Bridge(Script("It is noon."), store=path) as bridge:
        ask_noon(bridge)
    question = b'{"model": "gpt-5-mini", "input": "What time is it?"}'
    with ExitStack() as after, Bridge(late) as bridge, bridge.serve(token=None) as server:
        playing = bridge.cassette(path, mode="none", strict=False)
        replay = playing.__enter__()
        changes: dict[str, Callable[[], object]] = {
            "faults": lambda: after.enter_context(bridge.faults(faults.latency(0.001))),
            "another cassette": lambda: after.enter_context(bridge.cassette(new)),
            "load": lambda: replay.load(path, speed=0.001),
            "end of the cassette": lambda: playing.__exit__(None, None, None),
        }
        asked = itertools.count(1)

        @bridge.rewrite
        def in_mid_call(body: dict[str, Any], call: Call) -> None:
            if next(asked) == 4:
                changes[change]()

        replies = list[bytes]()
        for _ in range(4):
            with RawClient(server.port) as client:
                client.ask("/v1/responses", "connection: close", body=question)
                replies.append(client.rest())
        ends = [each.end for each in bridge.interceptions]

    said = b"It is late." if change == "end of the cassette" else b"It is noon."
    assert said in replies[3]
    assert ends == ["completed"] * 4


def test_a_cassette_asks_nobody_in_mode_none(tmp_path: Path) -> None:
    with Bridge(Script("It is noon."), store=str(tmp_path / "noon.yaml")) as bridge:
        ask_noon(bridge)
    with Bridge(Script("It is late.")) as bridge:
        with (
            bridge.cassette(tmp_path / "noon.yaml", mode="none") as cassette,
            pytest.raises(openai.BadRequestError, match="What is the date"),
        ):
            bridge.openai().responses.create(model="gpt-5-mini", input="What is the date?")
        assert len(cassette.misses) == 1
        assert ask_noon(bridge) == "It is late."


def test_a_cassette_that_cannot_be_read_leaves_the_upstream_as_it_was(tmp_path: Path) -> None:
    torn = tmp_path / "torn.yaml"
    torn.write_text("version: 1\ninteractions: [")
    with Bridge(Script("It is noon.")) as bridge:
        with pytest.raises(CassetteError, match=r"torn\.yaml"), bridge.cassette(torn):
            pass
        assert ask_noon(bridge) == "It is noon."


@pytest.mark.feature("aibridge", 7, 9)
@pytest.mark.feature("gateway", 1)
def test_a_row_of_ones_own_is_a_provider() -> None:
    mine = Provider("mine", "https://llm.example.org/v2", key_env=("MY_KEY",))
    bridge = Bridge(Script("Hello"), providers=[mine], environ={"MY_KEY": "secret"})

    with httpx2.Client(transport=bridge.transport()) as client:
        client.post("https://llm.example.org/v2/chat/completions", json=HI)

    assert (bridge.interceptions[0].provider, "secret" in repr(bridge)) == ("mine", False)
    bridge.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base_urls": {"nobody": "http://x"}}, "'nobody', which is no provider"),
        ({"base_urls": {"openai": "ftp://x"}}, "'ftp://x': give http"),
        ({"routes": {"*": "nobody/m"}}, "'nobody', which is no provider"),
        ({"store": "usage.txt"}, "store='usage.txt': give a path"),
        ({"environ": {"OPENAI_BASE_URL": "localhost"}}, "'localhost': give http"),
    ],
)
def test_what_cannot_be_is_said_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Bridge(Script("x"), **{"environ": {}, **options})


def test_a_row_without_a_key_is_told_what_it_needs() -> None:
    row = Provider("team", "http://127.0.0.1:9")
    with (
        Bridge(providers=[row], environ={"TEAM_API_KEY": "of nobody"}) as bridge,
        httpx2.Client(transport=bridge.transport()) as client,
    ):
        answer = client.post("http://localhost/team/chat/completions", json=HI)

    told = answer.json()["error"]["message"]
    assert told.startswith("no key for 'team': give its row a key, key_env or keyless before")


@pytest.mark.parametrize("upstream", ["session.yaml", 7])
def test_what_is_no_upstream_is_said_at_once(upstream: Any) -> None:
    with pytest.raises(ConfigurationError, match="no upstream: give Live"):
        Bridge(upstream, environ={})


def test_what_is_no_line_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError, match="no line"):
        Script(["Hello"])  # type: ignore[arg-type]  # that is the mistake


def test_every_error_is_a_bridge_error_with_a_message() -> None:
    error = ConfigurationError("no")

    assert (isinstance(error, BridgeError), isinstance(error, ValueError), error.message) == (
        True,
        True,
        "no",
    )


def test_a_forgotten_bridge_holds_up_nothing() -> None:
    async def use() -> AssistantMessage:
        return await (await script().stream(Model("openai", "m"), CONTEXT)).result()

    message = asyncio.run(use())
    gc.collect()

    assert message.text == "Hello"


@pytest.mark.feature("aibridge", 1)
@pytest.mark.feature("gateway", 11)
async def test_calls_within_a_block_are_made_for_its_actor() -> None:
    async with script(*"12345") as bridge:
        with bridge.actor("alice", team="red"):
            bridge.openai().chat.completions.create(
                **HI, extra_headers={"x-llmbridge-actor": "bob"}
            )
            async with bridge.async_openai() as client, asyncio.TaskGroup() as both:
                with bridge.actor("carol"):
                    both.create_task(client.chat.completions.create(**HI))
            await (await bridge.stream(Model("openai", "m"), CONTEXT)).result()
            list(bridge.stream_sync(Model("openai", "m"), CONTEXT))
        bridge.openai().chat.completions.create(**HI, extra_headers={"x-llmbridge-actor": "bob"})

    told = [(each.actor, each.request.caller.metadata) for each in bridge.interceptions]
    red = {"team": "red"}
    assert told == [("alice", red), ("carol", {}), ("alice", red), ("alice", red), ("bob", {})]


async def test_an_app_around_a_mounted_bridge_says_for_whom_it_asks() -> None:
    async with script("1", "2") as bridge:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            with bridge.actor("alice"):
                await bridge.asgi(scope, receive, send)

        for each in (app, bridge.asgi):
            transport = httpx2.ASGITransport(each)
            async with httpx2.AsyncClient(
                transport=transport, base_url="http://localhost"
            ) as client:
                headers = {"x-llmbridge-actor": "bob"}
                await client.post("/v1/chat/completions", json=HI, headers=headers)

        assert [each.actor for each in bridge.interceptions] == ["alice", "bob"]


def test_where_a_server_was_started_says_nothing_of_its_clients() -> None:
    with script("1") as bridge:
        with bridge.actor("alice"), bridge.serve() as server:
            httpx2.post(f"{server.url}/v1/chat/completions", json=HI)

        assert [each.actor for each in bridge.interceptions] == [None]


def test_an_actor_needs_a_name() -> None:
    with pytest.raises(ConfigurationError, match="'' is no name"), script().actor(""):
        pass


@pytest.mark.parametrize("before", ["the head", "a piece"])
def test_an_interrupt_of_a_stream_lets_go_of_the_upstream(before: str) -> None:
    let_go: list[bool] = []
    person = threading.main_thread().ident
    assert person is not None

    async def wait_for_the_person() -> None:
        signal.pthread_kill(person, signal.SIGINT)
        try:
            await anyio.sleep_forever()
        finally:
            let_go.append(True)

    async def silent(call: Call) -> Reply:
        whole = await Script("one two three")(call)
        if before == "the head":
            await wait_for_the_person()

        async def begun(reply: Reply) -> AsyncIterator[bytes]:
            async with aclosing(reply):
                yield await anext(reply)
                await wait_for_the_person()

        return whole.through(begun)

    with Bridge(silent, environ={}) as bridge:
        with pytest.raises(KeyboardInterrupt):
            list(bridge.stream_sync(Model("openai", "m"), CONTEXT))

        assert (let_go, bridge.inflight) == ([True], ())
        assert [each.end for each in bridge.interceptions] == ["client_gone"]
