"""The HTTP server in a background thread: uvicorn's connections on the loop of a portal."""

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from contextvars import Context
from email.utils import formatdate
from ssl import SSLContext
from threading import Lock, get_ident
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskStatus
from anyio.from_thread import BlockingPortal
from uvicorn import Config

from llmbridge.canon.markup import facts, panel, preformatted
from llmbridge.certificates import Certificate, server_context
from llmbridge.errors import ConfigurationError
from llmbridge.frontends.asgi import ASGIApp
from llmbridge.frontends.cell import Cell, running_cell
from llmbridge.frontends.connection import HEAD_S, Connection, Connections
from llmbridge.frontends.people import SHORTEST
from llmbridge.frontends.variables import PLACEHOLDER_KEY, SDKS, variables
from llmbridge.providers import Provider

STOP_S = 5.0
KEEP_ALIVE_S = 75
BACKLOG = 2048

_REMEDIES = {
    errno.EACCES: "pass one above 1023, or port=0 for a free one",
    errno.EADDRINUSE: "stop what holds it, or pass port=0 for a free one",
}

# The one global: a notebook cell that is run again finds the server that it started before.
_running: dict[tuple[str, int], "Server"] = {}
_registry = Lock()


class Server:
    """Serve `app`, from `start` or the head of a `with` block until `stop` or its end.

    A port given by number that another server of this process holds is taken over from it, and a notebook cell that is
    run again stops what its run before started. `port` may be a socket that listens already. With `tls` it speaks HTTPS.
    """

    def __init__(
        self,
        app: ASGIApp,
        portal: BlockingPortal,
        *,
        host: str = "127.0.0.1",
        port: int | socket.socket = 0,
        allow_remote: bool = False,
        tls: Certificate | SSLContext | None = None,
    ) -> None:
        if not _is_loopback(host) and not (allow_remote and app.guarded):
            raise ConfigurationError(
                f"host {host!r} can be reached from other machines: "
                "pass allow_remote=True and a token, or serve on 127.0.0.1"
            )
        if not _is_loopback(host) and app.token is not None and len(app.token) < SHORTEST:
            raise ConfigurationError(
                f"the token has {len(app.token)} characters, and host {host!r} can be reached from other machines: "
                f"give one of {SHORTEST} or more, or none to have one made"
            )
        self.host = host
        self._listener = None if isinstance(port, int) else port
        self.port = self._asked_port = port if isinstance(port, int) else _port_of(port)
        self._app = app
        self._portal = portal
        self._tls = tls if tls is None or isinstance(tls, SSLContext) else server_context(tls)
        self._stopping: asyncio.Event | None = None
        self._thread: int | None = None
        self._done: Future[None] | None = None
        self._cell: Cell | None = None

    def __repr__(self) -> str:
        return f"<Server {self.url} {'running' if self.running else 'stopped'}>"

    def _repr_html_(self) -> str:
        needs = "a token" if self._app.guarded else "no token"
        state = "running" if self.running else "stopped"
        # What to export in a shell; the token is not for a notebook that is saved.
        leading = [f"{name}={to}" for name, to in self.env().items() if name.endswith("_BASE_URL")]
        return panel(
            f"Server {state}",
            preformatted("\n".join([self.url, *leading])),
            facts(clients_need=needs),
        )

    @property
    def running(self) -> bool:
        """True between `start` and `stop`."""
        return self._done is not None and not self._done.done()

    @property
    def token(self) -> str | None:
        """What clients send as their API key; None when anybody may come, or only people with tokens of their own."""
        return self._app.token

    @property
    def guarded(self) -> bool:
        """True where nobody comes in without a token."""
        return self._app.guarded

    @property
    def url(self) -> str:
        """The base of every URL, without a slash at the end."""
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        host = f"[{host}]" if ":" in host else host
        return f"{'http' if self._tls is None else 'https'}://{host}:{self.port}"

    def env(
        self, providers: Iterable[Provider] = SDKS, *, token: str | None = None
    ) -> dict[str, str]:
        """The environment variables that send the providers' SDKs here, with the server's token or a person's."""
        return variables(self.url, token or self.token or PLACEHOLDER_KEY, providers)

    def listen(self) -> socket.socket:
        """Take the port and no request yet: other servers may be given the socket, to share it.

        Raises:
            ConfigurationError: the port is taken, or the address is not of this machine.
        """
        listener, self._listener = self._listener or _bind(self.host, self._asked_port), None
        self.port = _port_of(listener)
        return listener

    def start(self) -> Self:
        """Listen; requests are taken when this returns.

        Raises:
            ConfigurationError: the port is taken, or the address is not of this machine.
        """
        self._cell = running_cell()
        with _registry:
            if self.running:
                return self
            before = [each for place, each in _running.items() if self._replaces(each, place)]
        for server in before:
            server.stop()
        listener = self.listen()
        try:
            # Whose call or span it was that started the server says nothing of its clients.
            self._done, _ = Context().run(self._portal.start_task, self._run, listener)
        except BaseException:
            listener.close()
            raise
        with _registry:
            _running[self.host, self.port] = self
        return self

    def stop(self) -> None:
        """End open replies, close all connections and free the port; within 6 s, at once when idle."""
        if self._thread == get_ident():
            raise RuntimeError("stop() on the server's own loop would wait for itself")
        with _registry:
            done, self._done = self._done, None
            if _running.get((self.host, self.port)) is self:
                del _running[self.host, self.port]
        if done is None:
            return
        with suppress(RuntimeError):  # A portal that was stopped has told the server already.
            self._portal.start_task_soon(self._ask_to_stop)
        with suppress(CancelledError):
            done.result()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _replaces(self, other: "Server", place: tuple[str, int]) -> bool:
        again = self._cell is not None and self._cell.reruns(other._cell)
        return again or place == (self.host, self._asked_port)

    def _ask_to_stop(self) -> None:
        if self._stopping is not None:
            self._stopping.set()

    async def _run(
        self, listener: socket.socket, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        self._stopping, self._thread = asyncio.Event(), get_ident()
        loop, state = asyncio.get_running_loop(), Connections()
        config = Config(
            self._app,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        config.load()
        acceptor = await loop.create_server(
            lambda: Connection(config, state, {}),
            sock=listener,
            backlog=BACKLOG,
            ssl=self._tls,
            ssl_handshake_timeout=None if self._tls is None else HEAD_S,
        )
        clock = _Clock(loop, state)
        task_status.started()
        try:
            await self._until_stopped(self._stopping)
        finally:
            self._thread = None
            acceptor.close()
            state.ended = True
            clock.stop()
            with anyio.CancelScope(shield=True):
                await self._wind_up(state)

    async def _until_stopped(self, stopping: asyncio.Event) -> None:
        async with anyio.create_task_group() as either:

            async def portal_stops() -> None:
                await self._portal.sleep_until_stopped()
                stopping.set()

            either.start_soon(portal_stops)
            await stopping.wait()
            either.cancel_scope.cancel()

    async def _wind_up(self, state: Connections) -> None:
        for connection in tuple(state.connections):
            connection.shutdown()
        with anyio.move_on_after(STOP_S):
            await self._app.shutdown()
            await state.gone()
        for connection in tuple(state.connections):
            connection.transport.abort()
        await state.gone()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=1)


class _Clock:
    """Keeps the Date of all answers, by the second."""

    def __init__(self, loop: asyncio.AbstractEventLoop, state: Connections) -> None:
        self._loop = loop
        self._state = state
        self._tick()

    def _tick(self) -> None:
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._timer = self._loop.call_later(1, self._tick)

    def stop(self) -> None:
        self._timer.cancel()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named: else each reply waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            # A port that was just given up may be bound again; elsewhere the option would share a port in use.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        if isinstance(error, OverflowError):
            raise ConfigurationError(
                f"port {port} is none: give 1 to 65535, or 0 for a free one"
            ) from error
        reason = error.strerror or str(error)
        remedy = _REMEDIES.get(
            error.errno or 0, "give an address of this machine, or 0.0.0.0 for all"
        )
        raise ConfigurationError(
            f"cannot listen on {host!r}, port {port}: {reason}; {remedy}"
        ) from error
    return listener
