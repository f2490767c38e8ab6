"""What every HTTP frontend does alike: fields that end at a hop, who asks, a reply read from another thread."""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from llmbridge.errors import BridgeError, BridgeShutdown, UpstreamError
from llmbridge.exchange.call import Caller, Handle, Headers, Reply, Request
from llmbridge.frontends.variables import PLACEHOLDER_KEY

T = TypeVar("T")

CLOSE_LIMIT_S = 5.0
"""How long the end of an abandoned reply may take."""

AHEAD_BYTES = 256 * 1024
"""How much is fetched from another thread at one go, where all of it is there at once."""

CREDENTIALS = ("authorization", "x-api-key", "api-key")

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

_OUR_SESSION = "x-llmbridge-session"
_ACTOR_FIELDS = ("x-llmbridge-actor", "x-ai-bridge-actor-id")
_SESSION_FIELDS = (
    _OUR_SESSION,
    "x-claude-code-session-id",
    "session_id",
    "x-mux-workspace-id",
    "x-interaction-id",
    "x-client-session-id",
    "x-kilocode-taskid",
    "x-coder-chat-id",
)
_BAD_NAME = re.compile(r'[^\x21-\x7e]|[()<>@,;:\[\]={}\\"/?]')
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def check_kind(request: object, kind: type, module: str) -> None:
    """Refuse another library's request, which its client would fail over without a word.

    Raises:
        TypeError: the transport was made for another library.
    """
    if not isinstance(request, kind):
        theirs = type(request).__module__.partition(".")[0]
        raise TypeError(
            f"this transport is for clients of {module}: for {theirs} take bridge.transport({theirs})"
            f" or bridge.async_transport({theirs})"
        )


def caller_of(frontend: str, fields: Mapping[str, str]) -> Caller:
    """Who asks, as the request's own fields (names in lower case) say it."""
    agent = fields.get("user-agent", "").split(maxsplit=1)
    return Caller(
        frontend=frontend,
        actor=_first_of(_ACTOR_FIELDS, fields),
        client=agent[0] if agent else None,
        session_id=_first_of(_SESSION_FIELDS, fields),
    )


def _first_of(names: Iterable[str], fields: Mapping[str, str]) -> str | None:
    for name in names:
        if name in fields and (value := fields[name].strip()):
            return value
    return None


def asked(method: str, url: str, pairs: Sequence[tuple[str, str]], body: bytes) -> Request:
    """A request of a client in this process; names of fields in lower case."""
    fields = dict(pairs)
    unused = [name for name in CREDENTIALS if credential(name, fields) == PLACEHOLDER_KEY]
    passed = request_fields(pairs, fields.get("connection", ""), unused)
    return Request(method, url, passed, body, caller_of("transport", fields))


def credential(name: str, fields: Mapping[str, str]) -> str:
    """The key or token in the field of this name; empty where there is none."""
    value = fields.get(name, "")
    if name == "authorization":
        scheme, _, value = value.partition(" ")
        if scheme.lower() != "bearer":
            return ""
    return value.strip()


def request_fields(
    pairs: Iterable[tuple[str, str]], connection: str, consumed: Collection[str] = ()
) -> Headers:
    """The fields of a request (names in lower case) that go further than this hop."""
    dropped = _dropped(connection)
    return Headers(
        [
            pair
            for pair in pairs
            if pair[0] not in dropped
            and pair[0] not in consumed
            and not pair[0].startswith("x-ai-bridge-actor-")
        ]
    )


@lru_cache(maxsize=64)
def _dropped(connection: str) -> frozenset[str]:
    """What ends at this hop: the fixed names, those that `Connection` lists, and ours."""
    named = (token.strip().lower() for token in connection.split(","))
    return HOP_BY_HOP.union(named, _ACTOR_FIELDS, (_OUR_SESSION,))


def reply_fields(
    headers: Headers, kept_back: Collection[str] = ("content-length",)
) -> list[tuple[bytes, bytes]]:
    """The fields of a reply as bytes, names in lower case, without those of this hop and those `kept_back`.

    Raises:
        UpstreamError: a field cannot be sent: it would end the line, or is no Latin-1.
    """
    pairs = [(name.lower(), value) for name, value in headers.pairs]
    dropped = HOP_BY_HOP
    for name, value in pairs:
        if name == "connection":
            dropped |= _dropped(value)
    return [
        _sendable(name, value)
        for name, value in pairs
        if name not in dropped and name not in kept_back
    ]


def _sendable(name: str, value: str) -> tuple[bytes, bytes]:
    if not name or _BAD_NAME.search(name) or _BAD_VALUE.search(value):
        raise UpstreamError(f"the answer has a header that cannot be passed on: {name!r}")
    try:
        return name.encode("ascii"), value.encode("latin-1")
    except UnicodeEncodeError:
        raise UpstreamError(f"the answer's header {name!r} is not Latin-1") from None


def read_timeout_s(extensions: Mapping[str, Any]) -> float | None:
    """How long the client is ready to wait for bytes, from the extensions of its request."""
    timeout: Mapping[str, float | None] = extensions.get("timeout") or {}
    return timeout.get("read")


class Pieces:
    """One exchange on the loop of a portal, driven from another thread.

    Opening and reading take turns with closing, so that a step that is given up unwinds before the reply is closed.
    """

    def __init__(self, portal: BlockingPortal, read_timeout_s: float | None) -> None:
        self._portal = portal
        self._timeout_s = read_timeout_s
        self._turn = anyio.Lock(fast_acquire=True)
        self._step: asyncio.Task[Any] | None = None
        self._reply: Reply | None = None
        self._closed = False
        self._ahead: deque[bytes | BridgeError | None] = deque()

    def open(self, handle: Handle, request: Request) -> Reply:
        """Ask, and wait for the head.

        Raises:
            TimeoutError: it took longer than the client's read timeout.
        """

        async def ask() -> Reply:
            self._step = asyncio.current_task()
            async with self._turn:
                self._reply = await handle(request)
                if self._reply.at_once:
                    await self._fetch(self._reply)
                return self._reply

        reply = self._wait(ask, self._timeout_s)
        # Here, in the client's thread: there it would end the loop of the portal.
        reply.raise_loud()
        return reply

    def read(self) -> bytes | None:
        """The next piece as the reply gives it; None after the last.

        Raises:
            BridgeError: the answer broke off, or the bridge was closed.
            TimeoutError: nothing came within the client's read timeout.
        """
        found = self._ahead.popleft() if self._ahead else self._wait(self._next, self._timeout_s)
        if isinstance(found, BridgeError):
            raise found
        return found

    def close(self) -> None:
        """Give up what is left of the reply; doing it twice, or after the bridge, is fine."""
        if self._closed or (self._reply is not None and self._reply.end is not None):
            return
        self._closed = True
        with suppress(BridgeShutdown):
            self._wait(self._close, None)

    async def _next(self) -> bytes | BridgeError | None:
        assert self._reply is not None, "opened before it is read"
        self._step = asyncio.current_task()
        async with self._turn:
            if not self._reply.at_once:
                return await anext(self._reply, None)
            await self._fetch(self._reply)
            return self._ahead.popleft()

    async def _fetch(self, reply: Reply) -> None:
        """Take what is there, so that not every piece crosses from one thread to the other alone."""
        size = 0
        try:
            while size < AHEAD_BYTES:
                piece = await anext(reply, None)
                self._ahead.append(piece)
                if piece is None:
                    return
                size += len(piece)
        except BridgeError as error:
            self._ahead.append(error)

    async def _close(self) -> None:
        # The step may still run, although its caller was interrupted or out of time.
        if self._step is not None:
            self._step.cancel("client_gone")
        with anyio.move_on_after(CLOSE_LIMIT_S):
            async with self._turn:
                if self._reply is not None and self._reply.end is None:
                    await self._reply.aclose("client_gone")

    def _wait(self, step: Callable[[], Coroutine[object, object, T]], timeout_s: float | None) -> T:
        try:
            future = self._portal.start_task_soon(step)
        except RuntimeError as error:
            raise BridgeShutdown(f"the bridge cannot be reached: {error}") from error
        try:
            return future.result(timeout_s)
        except CancelledError:
            raise BridgeShutdown("the bridge was closed before the answer ended") from None
