"""Several processes on one port, and several servers on one database: real ones."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from threading import Event

import anyio
import httpx2
import pytest
from msgspec.structs import replace as replace_fields

from llmbridge import Bridge
from llmbridge.cli.serving import serve_until_stopped
from llmbridge.configuration import Settings
from llmbridge.errors import ConfigurationError, End
from llmbridge.exchange.call import Call, Headers, Reply, once
from llmbridge.exchange.record import Interception
from llmbridge.stores.opening import existing_store
from llmbridge.stores.sql import SqlStore
from tests.endurance import SSE
from tests.stores.conftest import POSTGRES, url_of
from tests.test_cli import ready_url, running

pytestmark = [
    pytest.mark.skipif(
        os.name != "posix", reason="needs the signals of POSIX: run it on Linux or macOS"
    ),
    pytest.mark.timeout(240),  # each starts several programs
]

TOKEN = "a-token-of-the-team"
ASK = {"model": "claude-x", "max_tokens": 9, "messages": [], "stream": True}
EVENTS = b"".join(
    b'event: %s\ndata: {"type":"%s"%s}\n\n' % (name, name, rest)
    for name, rest in (
        (b"message_start", b',"message":{"id":"m","usage":{"input_tokens":3,"output_tokens":1}}'),
        (b"message_delta", b',"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}'),
        (b"message_stop", b""),
    )
)


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """The address of a provider that answers at once; `slow` never ends, and `down` is busy."""

    async def answer(call: Call) -> Reply:
        if call.model == "down":
            return Reply(503, Headers(), once(b"{}"))

        async def chunks():
            if call.model == "slow":
                yield EVENTS.partition(b"\n\n")[0] + b"\n\n"
                await anyio.sleep_forever()
            yield EVENTS

        return Reply(200, SSE, chunks())

    with Bridge(answer) as bridge, bridge.serve(token=None) as server:
        yield f"{server.url}/anthropic"


@pytest.fixture(scope="module", params=["sqlite", POSTGRES])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, provider: str
) -> "Iterator[Served]":
    """Two workers on a database, for all the tests of it."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("workers")
        url = url_of(folder / "usage.db")
        if request.param == "postgres":
            url = stack.enter_context(request.getfixturevalue("postgres_server").place()).url
        config = folder / "llmbridge.yaml"
        config.write_text("breaker: {failures: 1, open_s: 1000}\nmetrics: true\n")
        served = stack.enter_context(serving(url, provider, "--config", str(config)))
        yield served
        assert served.stop()[:2] == (0, "")


@dataclass(frozen=True, slots=True)
class Served:
    """A server of several processes."""

    url: str
    store: str
    process: subprocess.Popen[str]
    pids: list[int]
    token: str = TOKEN

    @property
    def kept(self) -> Sequence[Interception]:
        return existing_store(self.store).interceptions()

    def ends(self, begun: int) -> Counter[End | None]:
        """How all after the first `begun` ended; waits for the rows, which come a moment after the replies."""
        until(lambda: None not in [each.end for each in self.kept[begun:]])
        return Counter(each.end for each in self.kept[begun:])

    def ask(self, model: str = "claude-x") -> int:
        """The status of one call over a connection of its own."""
        headers = {"authorization": f"Bearer {self.token}"}
        with httpx2.Client(base_url=self.url, trust_env=False, verify=False, timeout=20) as client:
            reply = client.post("/v1/messages", json=ASK | {"model": model}, headers=headers)
            assert reply.status_code != 200 or reply.content == EVENTS
            return reply.status_code

    def counted(self, name: str) -> float:
        """A sum over the labels of a metric."""
        headers = {"authorization": f"Bearer {self.token}"}
        text = httpx2.get(f"{self.url}/metrics", headers=headers, verify=False, timeout=20).text
        return sum(float(value) for value in re.findall(rf"^{name}{{.*}} (\S+)$", text, re.M))

    def log_until(self, pattern: str) -> re.Match[str]:
        """The first line of the log that has this."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"the log ended without {pattern!r}")

    def stop(self) -> tuple[int, str, str]:
        """Exit code, output, and the rest of the log."""
        self.process.send_signal(signal.SIGTERM)
        out, log = self.process.communicate(timeout=30)
        return self.process.returncode, out, log


@contextmanager
def serving(
    store: str, provider: str, *options: str, token: str | None = TOKEN
) -> Iterator[Served]:
    arguments = ["--workers", "2", "--store", store, "--upstream", f"anthropic={provider}"]
    environ = {"ANTHROPIC_API_KEY": "none", "LLMBRIDGE_TOKEN": token or "auto"}
    with running("serve", *arguments, *options, **environ) as process:
        served = Served(ready_url(process), store, process, [], token or "")
        if token is None:
            made = served.log_until(r"^  export LLMBRIDGE_TOKEN=(\S+)$")[1]
            served = replace(served, token=made)
        found = served.log_until(r"^workers: processes ([\d, ]+)$")
        served.pids.extend(map(int, found[1].split(", ")))
        yield served


def until(met: Callable[[], bool]) -> None:
    """Ask again and again, and leave the processors to the servers between."""
    while not met():
        Event().wait(0.02)


def test_workers_share_a_port_and_a_store_and_add_up_what_they_count(served):
    asked, counted = 0, served.counted("interceptions_total")
    with ThreadPoolExecutor(8) as clients:
        while len(_bridges(served.store)) < 2:
            statuses = list(clients.map(lambda _: served.ask(), range(16)))
            assert statuses == [200] * 16
            asked += 16
    # One worker tells of the others' calls a moment after they have ended.
    until(lambda: served.counted("interceptions_total") >= counted + asked)

    assert {served.counted("interceptions_total") - counted for _ in range(6)} == {asked}
    assert served.counted("tokens_total") == 8 * (counted + asked)
    assert len({each.id for each in served.kept}) == len(served.kept) == counted + asked


@pytest.mark.parametrize("served", ["sqlite"], indirect=True)
def test_what_the_breakers_of_all_workers_did_is_added_up(served):
    with ThreadPoolExecutor(8) as clients:
        while served.counted("circuit_breaker_trips_total") < 2:
            list(clients.map(lambda _: served.ask("down"), range(16)))
    rejected = served.counted("circuit_breaker_rejects_total")
    statuses = [served.ask("down") for _ in range(6)]

    assert statuses == [503] * 6
    assert {served.counted("circuit_breaker_trips_total") for _ in range(6)} == {2}
    assert {served.counted("circuit_breaker_rejects_total") for _ in range(6)} == {rejected + 6}


def test_a_worker_that_dies_is_started_again_and_its_calls_are_interrupted(served):
    before, counted = len(served.kept), served.counted("interceptions_total")
    with ThreadPoolExecutor(4) as clients:
        slow = [clients.submit(_cut_off, served) for _ in range(4)]
        until(lambda: served.counted("interceptions_inflight") >= 4)
        for pid in served.pids:
            os.kill(pid, signal.SIGKILL)
        for _ in served.pids:
            served.log_until(r"worker [12] \(process \d+\) died, signal 9; another starts")
        cut_off = [call.result() for call in slow]
        after = list(clients.map(lambda _: served.ask(), range(8)))
    until(lambda: served.counted("interceptions_total") >= counted + 8)

    assert (cut_off, after) == ([True] * 4, [200] * 8)
    assert served.ends(before) == {"completed": 8, "interrupted": 4}
    assert served.counted("interceptions_inflight") == 0


@pytest.mark.parametrize("served", [POSTGRES], indirect=True)
def test_servers_of_several_hosts_share_a_postgresql(served, provider):
    before = len(served.kept)

    with serving(served.store, provider) as other, ThreadPoolExecutor(8) as clients:
        statuses = list(clients.map(lambda n: (served, other)[n % 2].ask(), range(40)))
        code, _, _ = other.stop()

    assert (statuses, code) == ([200] * 40, 0)
    assert len({each.id for each in served.kept[before:]}) == 40
    assert served.ends(before) == {"completed": 40}


def test_a_signal_ends_open_replies_and_all_workers_and_their_token_is_one(tmp_path, provider):
    url = url_of(tmp_path / "usage.db")
    with serving(url, provider, token=None) as served, ThreadPoolExecutor(4) as clients:
        statuses = [served.ask() for _ in range(6)]
        stranger = replace(served, token="another").ask()
        slow = [clients.submit(_cut_off, served) for _ in range(4)]
        until(lambda: len(existing_store(url).interceptions(end=None)) >= 4)
        code, out, log = served.stop()
        cut_off = [call.result() for call in slow]

    assert (statuses, stranger) == ([200] * 6, 401)
    assert (code, out, cut_off) == (0, "", [True] * 4)
    assert Counter(each.end for each in served.kept) == {"completed": 6, "bridge_shutdown": 4}
    assert "export LLMBRIDGE_TOKEN=" not in log
    assert not any(_lives(pid) for pid in served.pids)


def test_who_comes_while_workers_end_is_refused(tmp_path, provider):
    path = tmp_path / "usage.db"
    with serving(url_of(path), provider) as served, ThreadPoolExecutor(1) as clients:
        slow = clients.submit(_cut_off, served)
        while not existing_store(url_of(path)).interceptions(end=None):
            continue
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")  # its worker waits for that to write the end
            served.process.send_signal(signal.SIGTERM)
            while not _refuses(served.url):
                continue
            ending = served.process.poll() is None
        slow.result()
        served.process.communicate(timeout=30)

    assert ending


def _refuses(url: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20).close()
    except ConnectionError as error:
        # A reset is of who came at the very moment.
        return isinstance(error, ConnectionRefusedError)
    return False


def test_workers_end_with_the_process_that_started_them(tmp_path, provider):
    with serving(url_of(tmp_path / "usage.db"), provider) as served:
        served.process.kill()
        served.process.communicate(timeout=30)  # their log is its log: they have ended, too

        with pytest.raises(httpx2.ConnectError):
            served.ask()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (Settings(), "--workers 2 cannot share --store memory: give a database"),
        (Settings(store="a.yaml"), "--workers 2 cannot share --store a.yaml: give a database"),
        (Settings(replay="a.yaml"), "would each answer from the recordings in an order"),
        (Settings(record="a.yaml"), "would each answer from the recordings in an order"),
        (Settings(store="postgresql://u:secret@127.0.0.1:1/d"), "//u:***@127.0.0.1:1/d' cannot be"),
    ],
    ids=["memory", "cassette", "replay", "record", "away"],
)
def test_what_workers_cannot_share_is_told(settings, told):
    with pytest.raises(ConfigurationError) as refused:
        serve_until_stopped(replace_fields(settings, workers=2))

    assert told in str(refused.value)
    assert "secret" not in str(refused.value)


def _cut_off(served: Served) -> bool:
    """Ask for a reply that never ends; True when it was cut."""
    headers = {"authorization": f"Bearer {served.token}"}
    try:
        with (
            httpx2.Client(trust_env=False, verify=False, timeout=50) as client,
            client.stream(
                "POST", f"{served.url}/v1/messages", json=ASK | {"model": "slow"}, headers=headers
            ) as r,
        ):
            return b"error" in r.read()
    except httpx2.TransportError:
        return True


def _bridges(url: str) -> set[int]:
    """Who has written."""
    store = existing_store(url)
    assert isinstance(store, SqlStore)
    with store.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT DISTINCT bridge FROM interceptions")
        return set(found.scalars())


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_rows_that_a_worker_could_not_write_are_in_the_exit_code(tmp_path, provider):
    path = tmp_path / "usage.db"
    with serving(url_of(path), provider) as served, ThreadPoolExecutor(1) as clients:
        slow = clients.submit(_cut_off, served)
        until(lambda: bool(existing_store(url_of(path)).interceptions(end=None)))
        with closing(sqlite3.connect(path)) as other:
            other.execute("ALTER TABLE interceptions RENAME TO gone")
            code, _, log = served.stop()
            slow.result()

    assert (code, "rows are lost" in log) == (2, True)
