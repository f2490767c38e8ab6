import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest

from llmbridge.bridge import Bridge
from llmbridge.errors import CassetteError, ConfigurationError, StreamTruncated
from llmbridge.exchange.call import Call, Headers, Reply
from llmbridge.exchange.record import Record
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.memory import MemoryStore
from llmbridge.upstreams.replay import Replay
from llmbridge.upstreams.script import Script
from llmbridge.upstreams.source import Mode
from tests.upstreams.provider import CHAT, DONE, SSE, Provider, heard, request, says, text

MODES = get_args(Mode)


def record(said: str, **body: Any) -> Record:
    chunks = ((0.1, says(said)), (0.2, DONE))
    return Record("i", "openai", "openai.chat", request(**body), 200, SSE, chunks)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.yaml"


@pytest.fixture
def recorded(path: Path) -> Path:
    """A file that answers `n=2`."""
    Cassette(path, [record("recorded", n=2)]).save()
    return path


def bridge(source: Any, mode: Mode, upstream: Any = None, **options: Any) -> Bridge:
    subject = Replay(source, mode=mode, upstream=upstream or Provider(), **options)
    return Bridge(subject, environ={})


def said_in(path: Path) -> list[bytes]:
    """The first piece of each recording in the file."""
    return [record.chunks[0][1] for record in Cassette.load(path)] if path.exists() else []


@pytest.mark.parametrize(
    ("mode", "known", "unknown", "kept"),
    [
        ("none", "recorded", "400", ["recorded"]),
        ("once", "recorded", "400", ["recorded"]),
        ("new_episodes", "recorded", "live", ["recorded", "live"]),
        ("all", "live", "live", ["recorded", "live", "live"]),
        ("rewrite", "live", "live", ["live", "live"]),
        ("live", "live", "live", ["recorded"]),
        ("verify", "recorded", "400", ["recorded"]),
    ],
)
async def test_a_mode_says_what_is_played_asked_and_kept(
    recorded: Path, mode: Mode, known: str, unknown: str, kept: list[str]
) -> None:
    with bridge(recorded, mode) as subject:
        got = [await text(subject, request(n=n)) for n in (2, 3)]

    assert (got, said_in(recorded)) == ([known, unknown], [says(each) for each in kept])


@pytest.mark.parametrize(
    ("mode", "kept"), [("once", 2), ("new_episodes", 2), ("all", 2), ("rewrite", 2), ("live", 0)]
)
async def test_where_nothing_is_there_everything_is_asked(
    path: Path, mode: Mode, kept: int
) -> None:
    with bridge(path, mode) as subject:
        got = [await text(subject, request()) for _ in range(2)]

    assert (got, len(said_in(path))) == (["live", "live"], kept)


@pytest.mark.parametrize("mode", ["none", "verify"])
def test_what_only_reads_needs_a_file(path: Path, mode: Mode) -> None:
    with pytest.raises(CassetteError, match="there is no cassette"):
        Replay(path, mode=mode, upstream=Provider())


@pytest.mark.feature("replay", 1)
async def test_what_was_recorded_replays(path: Path) -> None:
    with bridge(path, "once") as subject:
        live = await heard(subject, request())

    with Bridge(Replay(path), environ={}) as again:
        assert await heard(again, request()) == live


async def test_what_was_recorded_is_no_replay(path: Path) -> None:
    with bridge(path, "once") as subject:
        await heard(subject, request())

        assert subject.records[0].replayed is False
        assert isinstance(subject.upstream, Replay)
        assert [each.replayed for each in subject.upstream.recorded] == [False]


@pytest.mark.feature("replay", 1)
async def test_the_client_has_the_first_piece_while_the_rest_is_still_to_come(path: Path) -> None:
    go_on = anyio.Event()

    async def upstream(call: Call) -> Reply:
        async def pieces() -> AsyncIterator[bytes]:
            yield says("first")
            await go_on.wait()
            yield DONE

        return Reply(200, SSE, pieces())

    with bridge(path, "all", upstream) as subject:
        reply = await subject.handle(request())
        first = await anext(reply)
        waiting = not go_on.is_set()
        go_on.set()
        rest = [chunk async for chunk in reply]

    assert (first, waiting, rest) == (says("first"), True, [DONE])


@pytest.mark.feature("replay", 5)
async def test_what_was_recorded_side_by_side_is_answered_each_in_its_turn(path: Path) -> None:
    """Five answers that end in the opposite order."""
    done = [anyio.Event() for _ in range(6)]
    done[5].set()

    async def upstream(call: Call) -> Reply:
        n = json.loads(call.request.body)["n"]

        async def pieces() -> AsyncIterator[bytes]:
            yield says(f"answer {n}")
            await done[n + 1].wait()
            yield DONE
            done[n].set()

        return Reply(200, SSE, pieces())

    said = await side_by_side(bridge(path, "once", upstream))

    assert said_in(path)[0] == says("answer 4")
    assert await side_by_side(Bridge(Replay(path), environ={})) == said


async def side_by_side(subject: Bridge) -> dict[int, str]:
    said: dict[int, str] = {}

    async def ask(n: int) -> None:
        said[n] = await text(subject, request(n=n))

    with subject:
        async with anyio.create_task_group() as tasks:
            for n in range(5):
                tasks.start_soon(ask, n)
    assert said == {n: f"answer {n}" for n in range(5)}
    return said


@pytest.mark.feature("replay", 4)
async def test_a_broken_stream_is_kept_and_replays_as_it_broke(path: Path) -> None:
    pieces = (says("one"), says("two"), says("three")[:-1])
    with bridge(path, "once", Provider(pieces, cut=True)) as subject:
        live = await until_cut(subject)

    with Bridge(Replay(path), environ={}) as again:
        assert await until_cut(again) == live == ([*pieces], "truncated")


async def until_cut(bridge: Bridge) -> tuple[list[bytes], str | None]:
    reply = await bridge.handle(request())
    got = [await anext(reply) for _ in range(3)]
    with pytest.raises(StreamTruncated, match="the connection broke"):
        await anext(reply)
    return got, reply.end


async def test_a_client_that_leaves_is_recorded_as_such(path: Path) -> None:
    with bridge(path, "once", Provider((says("one"), says("two"), DONE))) as subject:
        reply = await subject.handle(request())
        first = await anext(reply)
        await reply.aclose("client_gone")

    kept = next(iter(Cassette.load(path)))
    assert (kept.end, [chunk for _, chunk in kept.chunks]) == ("client_gone", [first])


async def test_a_client_that_stays_longer_than_the_recorded_one_did_is_told(path: Path) -> None:
    left = replace(record("a"), chunks=((0.1, says("a")),), end="client_gone")
    reply = await Bridge(Replay([left]), environ={}).handle(request())
    await anext(reply)

    with pytest.raises(StreamTruncated, match="breaks off here: client gone"):
        await anext(reply)


@pytest.mark.parametrize(
    ("mode", "kept"),
    [("once", [200]), ("new_episodes", [200]), ("all", [429, 200]), ("rewrite", [429, 200])],
)
async def test_a_failure_that_a_retry_made_good_is_kept_where_all_is(
    path: Path, mode: Mode, kept: list[int]
) -> None:
    with bridge(path, mode, Provider(429, (says("live"), DONE))) as subject:
        for _ in range(2):
            await heard(subject, request())

    assert [each.status for each in Cassette.load(path)] == kept


async def test_a_failure_that_stayed_one_is_kept(path: Path) -> None:
    with bridge(path, "once", Provider(429)) as subject:
        await heard(subject, request())

    assert [each.status for each in Cassette.load(path)] == [429]


async def test_flushing_writes_what_was_recorded_so_far(path: Path) -> None:
    subject = bridge(path, "once")
    await heard(subject, request())

    subject.flush()

    assert said_in(path) == [says("live")]
    subject.close()


async def test_the_keys_of_the_environment_stay_out_of_the_file(path: Path) -> None:
    secret = "correct-horse-battery"
    subject = Bridge(
        Replay(path, mode="once", upstream=Provider((says(secret), DONE))),
        environ={"OPENAI_API_KEY": secret},
    )
    with subject:
        await heard(subject, request(user=secret, seed=secret))

    assert secret not in str([each.request and each.request.body for each in Cassette.load(path)])
    assert secret.encode() not in Cassette.load(path).records()[0].body


async def test_what_was_redacted_by_the_environment_is_found_again(path: Path) -> None:
    environ = {"MY_TOKEN": "correct-horse-battery"}
    asked = request(seed="correct-horse-battery")
    with Bridge(Replay(path, mode="once", upstream=Provider()), environ=environ) as subject:
        await heard(subject, asked)

    with Bridge(Replay(path), environ=environ) as again:
        assert await text(again, asked) == "live"


async def test_records_may_go_to_any_store() -> None:
    store = MemoryStore()
    with bridge(store, "new_episodes") as subject:
        await heard(subject, request())

    assert len(store) == 1


async def test_a_store_that_holds_something_is_complete_for_once() -> None:
    store = MemoryStore()
    store.add(record("recorded", n=2))
    subject = bridge(store, "once")

    assert [await text(subject, request(n=n)) for n in (2, 3)] == ["recorded", "400"]


@pytest.mark.parametrize(
    ("source", "mode", "said"),
    [
        ([], "once", "needs the path of a file"),
        (MemoryStore(), "rewrite", "needs the path of a file"),
        ("folder", "all", "is a folder"),
        (["a.yaml", "b.yaml"], "all", "there are 2"),
        (7, "none", "7 cannot be replayed"),
        (b"a.yaml", "none", "b'a.yaml' cannot be replayed"),
    ],
    ids=["list", "store", "folder", "files", "number", "bytes"],
)
def test_what_cannot_be_recorded_into_is_refused(
    tmp_path: Path, source: Any, mode: Mode, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Replay(tmp_path if source == "folder" else source, mode=mode, upstream=Provider())


@pytest.mark.parametrize("name", ["x.txt", "noext", "file/x.yaml"])
@pytest.mark.parametrize("mode", ["once", "new_episodes", "all", "rewrite"])
def test_a_file_that_could_not_be_written_is_refused_before_anything_is_asked(
    tmp_path: Path, mode: Mode, name: str
) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(CassetteError, match="cannot be written"):
        Replay(tmp_path / name, mode=mode, upstream=Provider())

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("mode", ["none", "verify"])
def test_a_file_that_is_not_there_is_told_with_the_way_to_make_it(path: Path, mode: Mode) -> None:
    with pytest.raises(CassetteError) as told:
        Replay(path, mode=mode)

    assert told.value.message == (
        f"there is no cassette at {str(path)!r}: record it with mode='once', or give another path"
    )


@pytest.mark.parametrize("mode", ["none", "once"])
def test_a_file_of_any_name_is_played(recorded: Path, mode: Mode) -> None:
    other = recorded.rename(recorded.with_name("noext"))

    assert Replay(other, mode=mode).at_once is (mode == "none")


@pytest.mark.parametrize(
    "options", [{"mode": "some"}, {"repeat": "never"}, {"on_miss": "shout"}, {"match": "loose"}]
)
def test_options_that_do_not_exist_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="give one of"):
        Replay([], **options)


async def test_several_files_are_one(path: Path, recorded: Path) -> None:
    other = path.with_name("other.yaml")
    Cassette(other, [record("other", n=3)]).save()
    subject = Bridge(Replay([recorded, str(other)]), environ={})

    assert [await text(subject, request(n=n)) for n in (2, 3)] == ["recorded", "other"]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "none"])
def test_a_mode_that_may_ask_spends_keys(recorded: Path, mode: Mode) -> None:
    assert Replay(recorded, mode=mode).spends_keys is True


def test_a_replay_spends_no_keys() -> None:
    assert Replay([]).spends_keys is False


def test_asking_a_script_spends_no_keys(path: Path) -> None:
    assert Replay(path, mode="once", upstream=Script("x")).spends_keys is False


def test_a_server_that_may_ask_needs_a_token(recorded: Path) -> None:
    with bridge(recorded, "new_episodes") as subject, subject.serve() as server:
        assert server.token


async def test_closing_a_client_closes_the_upstream(path: Path) -> None:
    provider = Provider()
    with bridge(path, "once", provider) as subject:
        await subject.async_transport().aclose()

    assert provider.closed == 1


async def test_without_an_upstream_the_network_is_asked(path: Path) -> None:
    subject = Bridge(Replay(path, mode="once"), environ={})

    status, body = await heard(subject, request())

    assert (status, b"key" in body[0]) == (401, True)


class Answering:
    """A provider whose answer is one JSON body."""

    spends_keys = False

    def __init__(self, body: bytes, status: int = 200) -> None:
        self._body, self._status = body, status

    async def __call__(self, call: Call) -> Reply:
        async def pieces() -> AsyncIterator[bytes]:
            yield self._body

        kind = Headers((("content-type", "application/json; charset=utf-8"),))
        return Reply(self._status, kind, pieces())


def whole(body: bytes) -> Record:
    kind = Headers((("content-type", "application/json"),))
    asked = request(stream=False)
    return Record("one.yaml#0", "openai", "openai.chat", asked, 200, kind, ((0.1, body),))


@pytest.mark.parametrize(
    ("now", "places"),
    [
        (Answering(b'{"id":"y","list":[{"n":2},{"n":3}]}'), []),
        (Answering(b'{"id":7,"list":[]}'), ["$.body.id", "$.body.list[0]"]),
        (Answering(b'{"id":"x","list":[{"n":1}],"new":null}'), ["$.body.new"]),
        (Answering(b'{"id":"x","list":[{"n":1}]}', 500), ["$.status"]),
    ],
    ids=["same shape", "another shape", "something new", "a failure"],
)
async def test_verifying_tells_where_the_shape_differs(now: Answering, places: list[str]) -> None:
    replay = Replay([whole(b'{"id":"x","list":[{"n":1}]}')], mode="verify", upstream=now)

    status, body = await heard(Bridge(replay, environ={}), request(stream=False))

    assert (status, body) == (200, [b'{"id":"x","list":[{"n":1}]}'])
    assert [each.path for drift in replay.differences for each in drift.differences] == places


async def test_verifying_compares_each_kind_of_event() -> None:
    now = Provider((says("other words"), b'data: {"choices":[{"delta":{"role":1}}]}\n\n', DONE))
    replay = Replay([record("recorded")], mode="verify", upstream=now)

    await heard(Bridge(replay, environ={}), request())

    assert [each.path for each in replay.differences[0].differences] == [
        "$.events.message.choices[0].delta.role"
    ]


async def test_an_upstream_that_fails_is_a_difference() -> None:
    replay = Replay([record("a")], mode="verify", upstream=Provider((says("b"),), cut=True))

    await heard(Bridge(replay, environ={}), request())

    assert "the connection broke" in str(replay.differences[0])


async def test_another_cassette_may_take_the_place_of_the_first(path: Path, recorded: Path) -> None:
    replay = Replay([record("first")])
    subject = Bridge(replay, environ={})
    await heard(subject, request())

    replay.load(recorded)

    assert (replay.played, len(replay.unused)) == ([], 1)
    assert [await text(subject, request(n=n)) for n in (2, 1)] == ["recorded", "400"]


async def test_a_reply_under_way_ends_with_its_own_cassette() -> None:
    replay = Replay([record("first")])
    reply = await Bridge(replay, environ={}).handle(request())
    await anext(reply)

    replay.load([])

    assert [chunk async for chunk in reply] == [DONE]


async def test_loading_another_cassette_writes_the_last(path: Path) -> None:
    replay = Replay(path, mode="once", upstream=Provider(429))
    await heard(Bridge(replay, environ={}), request())

    replay.load([], mode="none")

    assert [each.status for each in Cassette.load(path)] == [429]


async def test_loading_may_change_the_options() -> None:
    replay = Replay([])
    subject = Bridge(replay, environ={})

    replay.load([record("a")], repeat="last")

    assert [await text(subject, request()) for _ in range(3)] == ["a", "a", "a"]


def test_what_was_made_to_replay_cannot_be_told_to_ask(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="made without"):
        Replay([]).load(path, mode="once")


async def test_the_provider_breaks_ties() -> None:
    mine = replace(record("groq's"), provider="groq")
    subject = Bridge(Replay([record("openai's"), mine]), environ={})
    groq = CHAT.replace("https://api.openai.com/v1", "https://api.groq.com/openai/v1")

    got = [await text(subject, request(url)) for url in (groq, CHAT, groq)]

    assert got == ["groq's", "openai's", "400"]


def test_an_upstream_that_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="upstream=5 is no upstream"):
        Replay([], upstream=5)  # type: ignore[arg-type]  # as a user may
