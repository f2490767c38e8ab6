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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from importlib import metadata
from threading import get_ident
from typing import TYPE_CHECKING

import anyio
from anyio.from_thread import BlockingPortal
from anyio.streams.memory import MemoryObjectSendStream

from llmbridge.canon.messages import Text, ToolCall, ToolResult, ToolSpec
from llmbridge.errors import ConfigurationError

try:
    from mcp import Client, MCPError
    from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
    from mcp_types import CONNECTION_CLOSED, Implementation, Tool, ToolListChangedNotification

    from llmbridge.tools.mcp_results import decode_result
    from llmbridge.tools.mcp_session import Session, http, stdio, watched
except ImportError as missing:
    raise ConfigurationError("MCP servers need the SDK: pip install 'llmbridge[mcp]'") from missing

if TYPE_CHECKING:
    from llmbridge.tools.mcp_session import Transport

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
        transport = http(target, dict(headers or {}))
    else:
        if not target:
            raise ConfigurationError(f"the MCP server {name!r} has an empty command")
        if headers is not None:
            raise ConfigurationError(f"the MCP server {name!r} is a command: headers do nothing")
        transport = stdio(list(target), dict(env or {}), cwd)
    wanted = _Wanted(_pattern(allow), _pattern(deny))
    return McpServer(name, transport, wanted, start_timeout_s, required=required)


@dataclass(frozen=True, slots=True)
class _Wanted:
    allow: re.Pattern[str] | None
    deny: re.Pattern[str] | None

    def __call__(self, tool: str) -> bool:
        if self.deny is not None and self.deny.search(tool):
            return False
        return self.allow is None or self.allow.search(tool) is not None


class McpServer:
    """A toolbox of one server's tools; `mcp_server` makes it.

    A session that ended is opened anew by the next call. A call that was under way is not repeated, since nobody knows
    how far it came.
    """

    # Made on the bridge's loop, as soon as there is one.
    _gone: anyio.Event
    _session: Session
    _wishes: MemoryObjectSendStream[Session]

    def __init__(
        self,
        name: str,
        transport: "Callable[[Session], Transport]",
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
        self._collected: Future[None] = Future()
        self._offer: tuple[tuple[ToolSpec, ...], dict[str, str]] = ((), {})
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
        """What it has on offer, sorted by name; waits for its start.

        Raises:
            ConfigurationError: it was never started, or is required and cannot be reached.
        """
        if self._portal is None:
            raise ConfigurationError(
                f"the MCP server {self._name!r} is not connected: give it to Bridge(tools=[...])"
            )
        self._collected.result()
        return self._offer[0]

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
        name = self._offer[1].get(call.name)
        if name is None:
            return _failed(call, f"the MCP server {self._name!r} has no such tool any more")
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

    async def _open_session(self) -> Session:
        if self._session.over.is_set():
            self._session = Session()
            try:
                self._wishes.send_nowait(self._session)
            except anyio.ClosedResourceError:
                return Session(error="the bridge is closed")
        session = self._session
        await session.opened.wait()
        return session

    async def _own(self) -> None:
        """Hold one session after the other, as they are wished for."""
        self._thread = get_ident()
        self._gone = anyio.Event()
        self._session = Session()
        self._wishes, wished = anyio.create_memory_object_stream[Session](math.inf)
        self._wishes.send_nowait(self._session)
        try:
            with wished:
                async for session in wished:
                    await self._hold(session)
        finally:
            self._gone.set()

    async def _hold(self, session: Session) -> None:
        try:
            with session.scope as scope:
                async with self._client(session) as client:
                    self._offer = self._offered(await _tools(client))
                    if not self._collected.done():
                        self._collected.set_result(None)
                    session.client = client
                    session.opened.set()
                    scope.deadline = math.inf
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._follow, client, session)
                        await session.over.wait()
                        tasks.cancel_scope.cancel()
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

    async def _follow(self, client: Client, session: Session) -> None:
        """List the tools again whenever the server says that they are others."""
        try:
            async with client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    self._offer = self._offered(await _tools(client))
        except ListenNotSupportedError:
            while True:
                await session.changed.wait()
                session.changed = anyio.Event()
                self._offer = self._offered(await _tools(client))
        except (MCPError, SubscriptionLost, TimeoutError):
            _logger.debug("the MCP server %r tells no changes", self._name, exc_info=True)

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
        self._collected.set_result(None)

    def _client(self, session: Session) -> Client:
        about = Implementation(name="llmbridge", version=metadata.version("llmbridge"))
        transport = watched(self._transport(session), session, self._timeout_s)

        async def hear(message: object) -> None:
            if isinstance(message, ToolListChangedNotification):
                session.changed.set()

        return Client(transport, client_info=about, message_handler=hear)

    def _offered(self, tools: Sequence[Tool]) -> tuple[tuple[ToolSpec, ...], dict[str, str]]:
        """What models are told of these tools, and what each name stands for."""
        wanted = [tool for tool in tools if self._wanted(tool.name)]
        own_names = {_name(self._name, tool.name): tool.name for tool in wanted}
        specs = [
            ToolSpec(_name(self._name, tool.name), tool.description or "", tool.input_schema)
            for tool in wanted
        ]
        return tuple(sorted(specs, key=lambda spec: spec.name)), own_names


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


def _cause(error: BaseException) -> BaseException:
    """The first of what went wrong side by side."""
    inner: Sequence[BaseException] = getattr(error, "exceptions", ())
    return _cause(inner[0]) if inner else error


def _failed(call: ToolCall, why: str) -> ToolResult:
    return ToolResult(call.id, (Text(f"Error: {why}"),), is_error=True)
