"""A client in this process that asks a bridge in either dialect, and what it hears."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2

from llmbridge import Bridge, Live, Record, Text

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
KEYS = {"OPENAI_API_KEY": "sk-test-openai-1", "ANTHROPIC_API_KEY": "sk-ant-test-anthropic-1"}


@dataclass(frozen=True, slots=True)
class Wire:
    """One dialect, as clients ask in it and providers answer."""

    provider: str
    dialect: str
    path: str

    def request(self, *, streaming: bool = True) -> bytes:
        question = [{"role": "user", "content": "Hello?"}]
        return json.dumps(
            {"model": "m-1", "max_tokens": 9, "stream": streaming, "messages": question}
        ).encode()

    def fixture(self, name: str) -> bytes:
        return (FIXTURES / self.dialect / name).read_bytes()

    def text_of(self, name: str) -> str:
        expected = json.loads((FIXTURES / self.dialect / "expected.json").read_bytes())
        text: str = expected[name]["text"]
        return text

    def error(self, message: str, kind: str = "") -> bytes:
        """The body of an error that the bridge itself makes."""
        if self.provider == "anthropic":
            detail = {"type": kind or "api_error", "message": message}
            return _compact({"type": "error", "error": detail})
        code = "invalid_api_key" if kind == "authentication_error" else None
        refusal = {"message": message, "type": kind or "server_error", "param": None, "code": code}
        return _compact({"error": refusal})

    def error_event(self, message: str, kind: str = "") -> bytes:
        """The same as the last event of a stream."""
        name = b"event: error\n" if self.provider == "anthropic" else b""
        return name + b"data: " + self.error(message, kind) + b"\n\n"


ANTHROPIC = Wire("anthropic", "anthropic.messages", "/v1/messages")
OPENAI = Wire("openai", "openai.chat", "/v1/chat/completions")
WIRES = (ANTHROPIC, OPENAI)


@dataclass(slots=True)
class Heard:
    """What a client got: `failure` names the exception that ended it."""

    status: int = 0
    body: bytes = b""
    failure: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)


def bridge_to(url: str, upstream: Live | None = None, **options: Any) -> Bridge:
    """A bridge to this provider, with keys."""
    return Bridge(
        upstream or Live(),
        **{"base_urls": {"anthropic": url, "openai": url}, "environ": KEYS, **options},
    )


@asynccontextmanager
async def client_of(bridge: Bridge) -> AsyncIterator[httpx2.AsyncClient]:
    """A client over the bridge's async transport; leaving closes the loop's connections."""
    transport = bridge.async_transport()
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def hear(
    client: httpx2.AsyncClient,
    wire: Wire,
    *,
    streaming: bool = True,
    heed: Callable[[bytes], None] | None = None,
    **headers: str,
) -> Heard:
    """Ask, and listen to the end, whatever that is; `heed` is told all that came so far."""
    heard = Heard()
    fields = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    body = wire.request(streaming=streaming)
    try:
        async with client.stream("POST", wire.path, content=body, headers=fields) as response:
            heard.status, heard.headers = response.status_code, dict(response.headers)
            async for piece in response.aiter_raw():
                heard.body += piece
                if heed:
                    heed(heard.body)
    except httpx2.HTTPError as error:
        heard.failure = type(error).__name__
    return heard


async def hear_and_leave(client: httpx2.AsyncClient, wire: Wire) -> None:
    """Ask for a stream, and be cancelled while waiting for what comes after its first piece."""
    came = asyncio.Event()

    async def listen() -> None:
        async with client.stream("POST", wire.path, content=wire.request()) as response:
            async for _ in response.aiter_raw():
                came.set()

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await came.wait()
        await asyncio.sleep(0)
        group.cancel_scope.cancel()


async def ask(
    bridge: Bridge,
    wire: Wire,
    *,
    streaming: bool = True,
    heed: Callable[[bytes], None] | None = None,
    **headers: str,
) -> Heard:
    """Ask once."""
    async with client_of(bridge) as client:
        return await hear(client, wire, streaming=streaming, heed=heed, **headers)


def ends(bridge: Bridge) -> list[tuple[int | None, str | None]]:
    """Status and end of each interception."""
    return [(each.status, each.end) for each in bridge.interceptions]


def text_of(record: Record) -> str:
    """The text of the recorded answer."""
    assert record.message is not None
    return "".join(block.text for block in record.message.content if isinstance(block, Text))


def _compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
