"""One connection to an MCP server: its state, and the transports of the official SDK that it goes over."""

import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

    Transport = AbstractAsyncContextManager[TransportStreams]


@dataclass(slots=True)
class Session:
    """One connection: wished for, begun, opened (or failed), over. `changed`: the server says that it has other tools.

    `forgotten` by a server that was started anew.
    """

    client: Client | None = None
    error: str = ""
    forgotten: bool = False
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    begun: anyio.Event = field(default_factory=anyio.Event)
    opened: anyio.Event = field(default_factory=anyio.Event)
    over: anyio.Event = field(default_factory=anyio.Event)
    changed: anyio.Event = field(default_factory=anyio.Event)


def stdio(
    command: list[str], env: dict[str, str], cwd: str | os.PathLike[str] | None
) -> "Callable[[Session], Transport]":
    """A process that is spoken to over its standard input and output."""
    server = StdioServerParameters(
        command=command[0],
        args=command[1:],
        env=env,
        cwd=None if cwd is None else os.fspath(cwd),
    )
    # In notebooks and under pytest sys.stderr is nothing that a process could write to.
    errlog = sys.__stderr__ or sys.stderr

    @asynccontextmanager
    async def connected(session: Session) -> "AsyncGenerator[TransportStreams]":
        async with AsyncExitStack() as opened:
            try:
                streams = await opened.enter_async_context(stdio_client(server, errlog=errlog))
            except FileNotFoundError as error:
                where = "" if cwd is None else f", or no folder {os.fspath(cwd)!r}"
                told = f"there is no command {command[0]!r}{where}"
                raise FileNotFoundError(told) from error
            yield streams

    return connected


def http(url: str, headers: dict[str, str]) -> "Callable[[Session], Transport]":
    """A server with streamable HTTP; `headers` go with every request."""

    @asynccontextmanager
    async def connected(session: Session) -> "AsyncGenerator[TransportStreams]":
        async def note(response: httpx2.Response) -> None:
            # How MCP says that it does not know a session: the call was not run.
            if response.status_code == 404 and "mcp-session-id" in response.request.headers:
                session.forgotten = True

        # How long a tool may take is for the bridge to say.
        timeout = httpx2.Timeout(30, read=None)
        async with (
            httpx2.AsyncClient(
                headers=headers, timeout=timeout, event_hooks={"response": [note]}
            ) as client,
            streamable_http_client(url, http_client=client) as streams,
        ):
            yield streams

    return connected


@asynccontextmanager
async def watched(
    transport: "Transport", session: Session, timeout_s: float
) -> "AsyncGenerator[TransportStreams]":
    """The transport; from its beginning time runs for the session, which is over as soon as the server's side ends."""
    async with transport as (read, write):
        session.scope.deadline = anyio.current_time() + timeout_s
        session.begun.set()
        passed, heard = anyio.create_memory_object_stream[Any](0)

        async def watch() -> None:
            try:
                async with passed:
                    async for message in read:
                        await passed.send(message)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                pass
            finally:
                session.over.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            try:
                yield heard, write
            finally:
                tasks.cancel_scope.cancel()
                heard.close()
