"""MCP servers as toolboxes, over stdio or streamable HTTP, with the official SDK (extra `mcp`).

One task on the bridge's own loop holds a server's sessions, one after the other, since the SDK wants each left where it
was entered. Calls from other loops reach it through the portal.
"""

import asyncio
import hashlib
import logging
import math
import os
import re
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib import metadata
from threading import get_ident
from typing import TYPE_CHECKING, Any

import anyio
from anyio.from_thread import BlockingPortal
from anyio.streams.memory import MemoryObjectSendStream

from llmbridge.canon.messages import Text, ToolCall, ToolResult, ToolSpec
from llmbridge.errors import ConfigurationError

try:
    import httpx2
    from mcp import Client, MCPError, StdioServerParameters, stdio_client
    from mcp.client.streamable_http import streamable_http_client
    from mcp_types import CONNECTION_CLOSED, Implementation, Tool

    from llmbridge.tools.mcp_results import decode_result
except ImportError as missing:
    raise ConfigurationError("MCP servers need the SDK: pip install llmbridge[mcp]") from missing

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

    Transport = AbstractAsyncContextManager[TransportStreams]

_logger = logging.getLogger("llmbridge")

_SERVER = re.compile(r"[a-zA-Z0-9_-]{1,32}")
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_NAME_CHARS = 64
_LEAVE_S = 5.0
_PAGES = 100
_STOPPED = "it was stopped"


def mcp_server(  # noqa: PLR0913  # every setting by its name
    name: str,
    target: str | Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    headers: Mapping[str, str] | None = None,
    allow: str | None = None,
    deny: str | None = None,
    start_timeout_s: float = 30,
    required: bool = False,
) -> "McpServer":
    """The tools of an MCP server, for `Bridge(tools=[...])`: `target` is a URL, or a command and its arguments.

    A command gets PATH and HOME of the environment and what `env` says, no keys. `headers` go with every request to a
    URL. Tools whose names `deny` finds are left out, and where `allow` is given those that it does not find; both are
    regular expressions. A server that cannot be reached is logged and left out, unless it is `required`.

    Raises:
        ConfigurationError: a name, target or pattern that cannot be.
    """
    if not _SERVER.fullmatch(name):
        raise ConfigurationError(
            f"an MCP server cannot be called {name!r}: take 1 to 32 letters, digits, '_' or '-'"
        )
    if isinstance(target, str):
        if not target.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"{target!r} is no URL: give https://... or a command as a list, ['npx', ...]"
            )
        if env is not None or cwd is not None:
            raise ConfigurationError(f"the MCP server {name!r} has a URL: env and cwd do nothing")
        transport = _http(target, dict(headers or {}))
    else:
        if not target:
            raise ConfigurationError(f"the MCP server {name!r} has an empty command")
        if headers is not None:
            raise ConfigurationError(f"the MCP server {name!r} is a command: headers do nothing")
        transport = _stdio(list(target), dict(env or {}), cwd)
    wanted = _Wanted(_pattern(allow), _pattern(deny))
    return McpServer(name, transport, wanted, start_timeout_s, required=required)


@dataclass(slots=True)
class _Session:
    """One connection: wished for, begun, opened (or failed), over; `forgotten` by a server that was started anew."""

    client: Client | None = None
    error: str = ""
    forgotten: bool = False
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    begun: anyio.Event = field(default_factory=anyio.Event)
    opened: anyio.Event = field(default_factory=anyio.Event)
    over: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True, slots=True)
class _Wanted:
    allow: re.Pattern[str] | None
    deny: re.Pattern[str] | None

    def __call__(self, tool: str) -> bool:
        if self.deny is not None and self.deny.search(tool):
            return False
        return self.allow is None or self.allow.search(tool) is not None


class McpServer:
    """A toolbox of one server's tools, listed once; `mcp_server` makes it.

    A session that ended is opened anew by the next call. A call that was under way is not repeated, since nobody knows
    how far it came.
    """

    # Made on the bridge's loop, as soon as there is one.
    _gone: anyio.Event
    _session: _Session
    _wishes: MemoryObjectSendStream[_Session]

    def __init__(
        self,
        name: str,
        transport: "Callable[[_Session], Transport]",
        wanted: Callable[[str], bool],
        start_timeout_s: float,
        *,
        required: bool,
    ) -> None:
        self._name = name
        self._transport = transport
        self._wanted = wanted
        self._timeout_s = start_timeout_s
        self._required = required
        self._portal: BlockingPortal | None = None
        self._collected: Future[tuple[ToolSpec, ...]] = Future()
        self._own_names: dict[str, str] = {}
        self._thread = 0

    def __repr__(self) -> str:
        # Its command or URL may have a key in it.
        return f"McpServer({self._name!r})"

    @property
    def name(self) -> str:
        """What it was called; records of its tools keep it."""
        return self._name

    def start(self, portal: BlockingPortal) -> None:
        """Connect and list the tools, in a task of that loop.

        Raises:
            ConfigurationError: it has been in a bridge before.
        """
        if self._portal is not None:
            raise ConfigurationError(
                f"the MCP server {self._name!r} has been given to a bridge: make one for each"
            )
        self._portal = portal
        portal.start_task_soon(self._own)

    def specs(self) -> Sequence[ToolSpec]:
        """What it had on offer at the start, sorted by name; waits for it.

        Raises:
            ConfigurationError: it was never started, or is required and cannot be reached.
        """
        if self._portal is None:
            raise ConfigurationError(
                f"the MCP server {self._name!r} is not connected: give it to Bridge(tools=[...])"
            )
        return self._collected.result()

    async def call(self, call: ToolCall) -> ToolResult:
        """Run one, from whatever loop."""
        if self._portal is None or get_ident() == self._thread:
            return await self._call(call)
        return await asyncio.wrap_future(self._portal.start_task_soon(self._call, call))

    async def aclose(self) -> None:
        """End session and server process."""
        self._wishes.close()
        self._session.over.set()
        # Who leaves while a process is being made leaves the process behind.
        await self._session.begun.wait()
        if not self._session.opened.is_set():
            self._session.error = _STOPPED
            self._session.scope.cancel()
        await self._gone.wait()

    async def _call(self, call: ToolCall) -> ToolResult:
        name = self._own_names[call.name]
        for last in (False, True):
            session = await self._open_session()
            if session.client is None:
                return _failed(call, f"the MCP server {self._name!r} is gone: {session.error}")
            try:
                result = await session.client.call_tool(name, dict(call.arguments))
            except MCPError as error:
                lost = error.code == CONNECTION_CLOSED
                if lost or session.forgotten:
                    session.over.set()
                if last or lost or not session.forgotten:
                    return _failed(call, f"the MCP server {self._name!r} says: {error.message}")
            else:
                return decode_result(call.id, result)
        raise AssertionError("the last round returns")

    async def _open_session(self) -> _Session:
        if self._session.over.is_set():
            self._session = _Session()
            try:
                self._wishes.send_nowait(self._session)
            except anyio.ClosedResourceError:
                return _Session(error="the bridge is closed")
        session = self._session
        await session.opened.wait()
        return session

    async def _own(self) -> None:
        """Hold one session after the other, as they are wished for."""
        self._thread = get_ident()
        self._gone = anyio.Event()
        self._session = _Session()
        self._wishes, wished = anyio.create_memory_object_stream[_Session](math.inf)
        self._wishes.send_nowait(self._session)
        try:
            with wished:
                async for session in wished:
                    await self._hold(session)
        finally:
            self._gone.set()

    async def _hold(self, session: _Session) -> None:
        try:
            with session.scope as scope:
                async with self._client(session) as client:
                    if not self._collected.done():
                        self._collected.set_result(self._offered(await _tools(client)))
                    session.client = client
                    session.opened.set()
                    scope.deadline = math.inf
                    await session.over.wait()
                    # A server that does not say goodbye is left without.
                    scope.deadline = anyio.current_time() + _LEAVE_S
            if not session.opened.is_set() and not session.error:
                session.error = f"it did not answer within {self._timeout_s:g} s"
        except Exception as error:
            # The border: somebody else's server, and the SDK's own tasks.
            cause = _cause(error)
            session.error = f"{type(cause).__name__}: {cause}"
            _logger.debug("the session of the MCP server %r broke", self._name, exc_info=True)
            if session.opened.is_set():
                _logger.warning("the MCP server %r was lost: %s", self._name, session.error)
        finally:
            session.client = None
            session.begun.set()
            session.over.set()
            session.opened.set()
            self._miss(session.error)

    def _miss(self, why: str) -> None:
        """Say that there are no tools, where none were collected."""
        if self._collected.done():
            return
        told = f"the MCP server {self._name!r} cannot be reached: {why or _STOPPED}"
        if self._required:
            self._collected.set_exception(ConfigurationError(told))
            return
        if why != _STOPPED:
            _logger.warning("%s; its tools are left out", told)
        self._collected.set_result(())

    def _client(self, session: _Session) -> Client:
        about = Implementation(name="llmbridge", version=metadata.version("llmbridge"))
        transport = _watched(self._transport(session), session, self._timeout_s)
        return Client(transport, client_info=about)

    def _offered(self, tools: Sequence[Tool]) -> tuple[ToolSpec, ...]:
        wanted = [tool for tool in tools if self._wanted(tool.name)]
        self._own_names = {_name(self._name, tool.name): tool.name for tool in wanted}
        specs = [
            ToolSpec(_name(self._name, tool.name), tool.description or "", tool.input_schema)
            for tool in wanted
        ]
        return tuple(sorted(specs, key=lambda spec: spec.name))


async def _tools(client: Client) -> list[Tool]:
    page = await client.list_tools()
    tools = list(page.tools)
    for _ in range(_PAGES):
        if page.next_cursor is None:
            break
        page = await client.list_tools(cursor=page.next_cursor)
        tools += page.tools
    return tools


def _name(server: str, tool: str) -> str:
    """A name that providers take; where the plain one is none, its hash keeps it apart from others."""
    plain = f"bmcp_{server}_{tool}"
    taken = _NOT_IN_NAMES.sub("_", plain)
    if taken == plain and len(plain) <= _NAME_CHARS:
        return plain
    digest = hashlib.sha256(plain.encode()).hexdigest()[:8]
    return f"{taken[: _NAME_CHARS - 9]}_{digest}"


def _pattern(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise ConfigurationError(f"{pattern!r} is no regular expression: {error}") from error


def _stdio(
    command: list[str], env: dict[str, str], cwd: str | os.PathLike[str] | None
) -> "Callable[[_Session], Transport]":
    server = StdioServerParameters(
        command=command[0],
        args=command[1:],
        env=env,
        cwd=None if cwd is None else os.fspath(cwd),
    )
    # In notebooks and under pytest sys.stderr is nothing that a process could write to.
    return lambda session: stdio_client(server, errlog=sys.__stderr__ or sys.stderr)


def _http(url: str, headers: dict[str, str]) -> "Callable[[_Session], Transport]":
    @asynccontextmanager
    async def connected(session: _Session) -> "AsyncGenerator[TransportStreams]":
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
async def _watched(
    transport: "Transport", session: _Session, timeout_s: float
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


def _cause(error: BaseException) -> BaseException:
    """The first of what went wrong side by side."""
    inner: Sequence[BaseException] = getattr(error, "exceptions", ())
    return _cause(inner[0]) if inner else error


def _failed(call: ToolCall, why: str) -> ToolResult:
    return ToolResult(call.id, (Text(f"Error: {why}"),), is_error=True)
