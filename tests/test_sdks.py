"""The official SDKs see one and the same answer: through the server, through the transport, from the body itself."""

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from llmbridge.bridge import Bridge
from llmbridge.exchange.call import Call, Headers, Reply
from llmbridge.exchange.record import Record
from llmbridge.upstreams.replay import Replay

FIXTURES = Path(__file__).parents[1] / "fixtures"
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


class Switched:
    """An upstream that replays whichever recording is put in."""

    spends_keys = False

    def __init__(self) -> None:
        self.replay = Replay([])

    async def __call__(self, call: Call) -> Reply:
        return await self.replay(call)


class Clients:
    """Sync and async clients of both SDKs on one way in."""

    def __init__(self, sync: httpx2.Client, base_urls: dict[str, str]) -> None:
        options: dict[str, Any] = {"api_key": "none", "max_retries": 0, "http_client": sync}
        self.anthropic = anthropic.Anthropic(base_url=base_urls["anthropic"], **options)
        self.openai = openai.OpenAI(base_url=base_urls["openai"], **options)


class AsyncClients:
    def __init__(self, client: httpx2.AsyncClient, base_urls: dict[str, str]) -> None:
        options: dict[str, Any] = {"api_key": "none", "max_retries": 0, "http_client": client}
        self.anthropic = anthropic.AsyncAnthropic(base_url=base_urls["anthropic"], **options)
        self.openai = openai.AsyncOpenAI(base_url=base_urls["openai"], **options)


VENDORS = {"anthropic": "https://api.anthropic.com", "openai": "https://api.openai.com/v1"}


@pytest.fixture(scope="module")
def upstream() -> Switched:
    return Switched()


@pytest.fixture(scope="module")
def bridge(upstream: Switched) -> Iterator[Bridge]:
    with Bridge(upstream, environ={}) as bridge:
        yield bridge


@pytest.fixture(scope="module")
def served(bridge: Bridge) -> Iterator[dict[str, str]]:
    with bridge.serve() as server:
        yield {"anthropic": f"{server.url}/anthropic", "openai": f"{server.url}/openai/v1"}


def cases() -> list[Any]:
    found = []
    for dialect in ("anthropic.messages", "openai.chat", "openai.responses"):
        expected = json.loads((FIXTURES / dialect / "expected.json").read_text("utf-8"))
        for name, meaning in expected.items():
            if meaning["ends"] != "truncated":
                case = (dialect, FIXTURES / dialect / name, meaning["status"])
                found.append(pytest.param(*case, id=f"{dialect}/{name}"))
    return found


every_fixture = pytest.mark.parametrize(("dialect", "path", "status"), cases())


def recorded(dialect: str, path: Path, status: int) -> Record:
    kind = "text/event-stream" if path.suffix == ".sse" else "application/json"
    headers = Headers((("content-type", kind),))
    return Record("i", "x", dialect, None, status, headers, ((0.0, path.read_bytes()),))


def request(clients: Any, dialect: str, streaming: bool) -> Callable[[], Any]:
    """The call a user would write."""
    match dialect:
        case "anthropic.messages":
            create, words = clients.anthropic.messages.create, {"messages": HELLO, "max_tokens": 9}
        case "openai.chat":
            create, words = clients.openai.chat.completions.create, {"messages": HELLO}
        case _:
            create, words = clients.openai.responses.create, {"input": "Hello"}
    return lambda: create(model="m", stream=streaming, **words)


def seen(ask: Callable[[], Any]) -> list[Any]:
    """All that the SDK makes of the answer, its exception included."""
    got: list[Any] = []
    try:
        answer = ask()
        parts = answer if hasattr(answer, "__next__") else [answer]
        got.extend(part.model_dump(warnings=False) for part in parts)
    except (anthropic.AnthropicError, openai.OpenAIError, ValueError, TypeError) as error:
        got.append((type(error).__name__, str(error)))
    return got


async def seen_async(ask: Callable[[], Awaitable[Any]]) -> list[Any]:
    got: list[Any] = []
    try:
        answer = await ask()
        if hasattr(answer, "__anext__"):
            # Part by part: what came before an exception counts.
            async for part in answer:
                got += [part.model_dump(warnings=False)]
        else:
            got += [answer.model_dump(warnings=False)]
    except (anthropic.AnthropicError, openai.OpenAIError, ValueError, TypeError) as error:
        got.append((type(error).__name__, str(error)))
    return got


def straight(record: Record) -> httpx2.MockTransport:
    """The recorded body, and nothing of ours."""
    fields = dict(record.headers)
    return httpx2.MockTransport(
        lambda _: httpx2.Response(record.status, headers=fields, content=record.body)
    )


@pytest.fixture(scope="module")
def sync_ways(bridge: Bridge, served: dict[str, str]) -> Iterator[dict[str, Clients]]:
    with httpx2.Client(transport=bridge.transport()) as inside, httpx2.Client() as outside:
        yield {"transport": Clients(inside, VENDORS), "server": Clients(outside, served)}


@pytest.mark.feature("aibridge", 5, 6, 18)
@every_fixture
@pytest.mark.feature("gateway", 3, 4, 5)
def test_sync_sdks_see_the_same_everywhere(
    dialect: str, path: Path, status: int, upstream: Switched, sync_ways: dict[str, Clients]
) -> None:
    record, streaming = recorded(dialect, path, status), path.suffix == ".sse"
    direct = Clients(httpx2.Client(transport=straight(record)), VENDORS)

    found = {}
    for way, clients in sync_ways.items():
        upstream.replay = Replay([record])
        found[way] = seen(request(clients, dialect, streaming))

    wanted = seen(request(direct, dialect, streaming))
    assert found == dict.fromkeys(sync_ways, wanted)


@pytest.mark.feature("aibridge", 5, 6, 18)
@every_fixture
@pytest.mark.feature("gateway", 3, 4, 5)
async def test_async_sdks_see_the_same_everywhere(
    dialect: str,
    path: Path,
    status: int,
    upstream: Switched,
    bridge: Bridge,
    served: dict[str, str],
) -> None:
    record, streaming = recorded(dialect, path, status), path.suffix == ".sse"
    async with (
        httpx2.AsyncClient(transport=straight(record)) as direct,
        httpx2.AsyncClient(transport=bridge.async_transport()) as inside,
        httpx2.AsyncClient() as outside,
    ):
        ways = {"transport": AsyncClients(inside, VENDORS), "server": AsyncClients(outside, served)}

        found = {}
        for way, clients in ways.items():
            upstream.replay = Replay([record])
            found[way] = await seen_async(request(clients, dialect, streaming))

        wanted = await seen_async(request(AsyncClients(direct, VENDORS), dialect, streaming))
        assert found == dict.fromkeys(ways, wanted)
