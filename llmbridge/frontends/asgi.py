"""The HTTP server's application: one bare ASGI callable, mountable at any prefix.

Source: the ASGI specification, HTTP and lifespan.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread

from llmbridge.errors import (
    BridgeError,
    BridgeShutdown,
    CutOnPurpose,
    Forbidden,
    Overloaded,
    RequestTimeout,
    TooLarge,
    Unauthorized,
    UpgradeRefused,
)
from llmbridge.exchange.actors import acted
from llmbridge.exchange.at_once import Rest, begin
from llmbridge.exchange.call import Handle, Reply, Request
from llmbridge.exchange.proxied import PATH
from llmbridge.exchange.remembered import OVERHEAD_BYTES, Remembered
from llmbridge.frontends.admission import NOBODY, Admitted, Door, fields_by_name, host_name
from llmbridge.frontends.passing import caller_of, request_fields, with_session
from llmbridge.frontends.people import People, Person
from llmbridge.frontends.relay import (
    ANSWER,
    DROP,
    MORE,
    Answer,
    Drop,
    Receive,
    Relay,
    Send,
    StreamCut,
    writable,
)
from llmbridge.wire.error_bodies import error_fields

Scope = Mapping[str, Any]
EncodeError = Callable[[Request, BridgeError], bytes]

ARRIVED_S = "llmbridge.arrived_s"
"""The key of the scope under which our own connections say when a request was complete."""

BODY = "llmbridge.body"
"""The key under which they give the whole body, where it came with the head."""

# Calliope's clients have no other field for it there.
_ALSO: Mapping[str, Collection[str]] = dict.fromkeys(
    ("/web", "/crawl", "/api/web", "/api/crawl"), ("key",)
)

_Begun = Reply | Rest[Reply] | BaseException

BEGUN = "llmbridge.begun"
"""The key for what came of a call that `answer` has made, and could not end."""

HEADS_BYTES = 1024 * 1024
"""Of the heads that are remembered."""

_NO_WEBSOCKET = "WebSockets are not served here: send the request with POST over HTTP"
# Codex takes 426 for a word to go on over HTTP at once; other failures it tries again first.
_UPGRADE_TO = [(b"upgrade", b"HTTP/1.1"), (b"connection", b"upgrade")]

_logger = logging.getLogger("llmbridge.server")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may ask for, and all of them together."""

    body_bytes: int = 32 * 1024 * 1024
    body_s: float = 60.0
    in_flight: int = 64
    stall_s: float = 60.0
    ping_s: float = 10.0
    shutdown_s: float = 5.0


class ASGIApp:
    """Check who comes in, read the request, relay the reply.

    `waits` says whether any call may have to wait for something; where none has to, our own connections get most replies by
    `answer`. `allowed_hosts` None checks no Host. `encode_error` gives the body of a refusal in the client's dialect.
    """

    def __init__(  # noqa: PLR0913  # the rules of one server, each by its name
        self,
        handle: Handle,
        encode_error: EncodeError,
        *,
        token: str | None,
        allowed_hosts: Collection[str] | None,
        allowed_origins: Collection[str] = (),
        people: People = NOBODY,
        limits: Limits = Limits(),
        metrics: Callable[[], bytes] | None = None,
        waits: Callable[[], bool] = lambda: True,
    ) -> None:
        self.token = token
        self._metrics = metrics
        self._handle = handle
        self._waits = waits
        self._encode_error = encode_error
        self._door = Door(token, allowed_hosts, allowed_origins, people)
        self._limits = limits
        self._heads = Remembered[_Head](HEADS_BYTES)
        self._in_flight = 0
        self._relays: set[Relay] = set()
        self._uploads: set[asyncio.Timeout] = set()
        self._stopping = False
        self._emptied: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<ASGIApp token={'set' if self.guarded else None}, {self._in_flight} in flight>"

    @property
    def guarded(self) -> bool:
        """True where nobody comes in without a token."""
        return self._door.guarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        match scope["type"]:
            case "http":
                await self._serve(scope, receive, send)
            case "lifespan":
                await self._live(receive, send)
            case _:
                await receive()
                await _refuse_websocket(scope, send)

    def answer(self, scope: MutableMapping[str, Any], write: Answer) -> bool:
        """Answer a request that is all here with the very call that brought it; False where that takes a task.

        It does where something may have to be waited for, and where a reply is long or its end is not certain.
        """
        begun: _Begun
        try:
            head = None if self._waits() else self._heads.get(_key(scope))
            if head is None or head.method == "HEAD" or self._refusal(head):
                return False
            request = head.request(scope[BODY], scope.get(ARRIVED_S))
            # What functions of the user's set there is for this call alone, as in a task.
            begun = copy_context().run(begin, self._handle(request))
            if isinstance(begun, Reply):
                fields = writable(begun)
                if fields is not None and (body := begun.take()) is not None:
                    return write(begun.status, fields, body)
        except BaseException as problem:  # noqa: BLE001  # the task tells it as it tells its own
            begun = problem
        scope[BEGUN] = begun
        return False

    async def shutdown(self) -> None:
        """Refuse new calls and end those under way; returns when they have ended, or are out of time."""
        self._stopping = True
        try:
            for relay in tuple(self._relays):
                relay.stop()
            now = asyncio.get_running_loop().time()
            for upload in self._uploads:
                upload.reschedule(now)
            if self._in_flight:
                self._emptied = asyncio.get_running_loop().create_future()
                await asyncio.wait((self._emptied,), timeout=self._limits.shutdown_s)
        finally:
            self._stopping = False

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self.shutdown()
                await send({"type": "lifespan.shutdown.complete"})
                return
            await send({"type": "lifespan.startup.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key(scope)
        known = self._heads.get(key)
        head = known or _Head(scope)
        try:
            if known is None and await self._is_answered(head, send):
                return
            # What was begun is in: nobody else would end it.
            if BEGUN not in scope and (refusal := self._refusal(head)):
                raise refusal
            if known is None:
                # Who may come in does not change as long as the app is there.
                self._heads.put(key, head, OVERHEAD_BYTES + head.size_bytes)
            self._in_flight += 1
            try:
                await self._take(head, scope, receive, send)
            finally:
                self._leave()
        except BridgeError as error:
            drop: Drop | None = scope.get(DROP)
            if isinstance(error, CutOnPurpose) and drop is not None:
                _logger.info("%s %s: %s", head.method, head.path, error.message)
                drop()
                return
            await self._refuse(head.request(b""), send, error)

    async def _is_answered(self, head: "_Head", send: Send) -> bool:
        """Check who comes; True where this was for the server itself, and is done.

        Raises:
            BridgeError: the request is not let in.
        """
        fields = fields_by_name(head.pairs)
        self._door.check_origin(fields)
        if head.path == "/healthz":
            await _answer(send, 200, b'{"status":"ok"}')
            return True
        # The clients of `/stream` may send the token as it is.
        bare = PATH.fullmatch(head.path) is not None
        head.admitted = self._door.check_caller(
            head.method, fields, bare=bare, also=_ALSO.get(head.path, ())
        )
        if head.method == "GET" and _is_websocket(fields):
            raise UpgradeRefused(_NO_WEBSOCKET)
        if head.path == "/metrics" and self._metrics is not None:
            _check_may_see_all(head.admitted.person)
            await _answer(send, 200, await anyio.to_thread.run_sync(self._metrics))
            return True
        return False

    def _refusal(self, head: "_Head") -> BridgeError | None:
        """Why there is no room for this request; None where there is."""
        if self._stopping:
            return BridgeShutdown("the bridge is shutting down")
        if self._in_flight >= self._limits.in_flight:
            return Overloaded(
                f"{self._limits.in_flight} calls are under way, which is the limit: try again soon"
            )
        return self._too_large() if head.declared_bytes > self._limits.body_bytes else None

    def _leave(self) -> None:
        self._in_flight -= 1
        if not self._in_flight and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    async def _take(self, head: "_Head", scope: Scope, receive: Receive, send: Send) -> None:
        """Read the request and relay its reply."""
        body = scope.get(BODY)
        if body is None:
            body = await self._body(receive)
        if body is None:
            return
        limits, direct = self._limits, (scope.get(ANSWER), scope.get(MORE))
        begun = scope.get(BEGUN)
        handle = self._handle if begun is None else _going_on(begun)
        relay = Relay(handle, receive, send, limits.stall_s, limits.ping_s, *direct)
        self._relays.add(relay)
        try:
            await relay.run(head.request(body, scope.get(ARRIVED_S)))
        except StreamCut as cut:
            level = logging.INFO if self._stopping else logging.WARNING
            _logger.log(level, "%s %s: %s", head.method, head.path, cut)
            raise
        finally:
            self._relays.discard(relay)

    async def _body(self, receive: Receive) -> bytes | None:
        limit = asyncio.timeout(self._limits.body_s)
        self._uploads.add(limit)
        try:
            async with limit:
                return await self._read_body(receive)
        except TimeoutError:
            if self._stopping:
                raise BridgeShutdown("the bridge is shutting down") from None
            raise RequestTimeout(
                f"the request did not arrive within {self._limits.body_s:g} s"
            ) from None
        finally:
            self._uploads.discard(limit)

    async def _read_body(self, receive: Receive) -> bytes | None:
        """The request's body; None when the client left before its end."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > self._limits.body_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                return part if not parts else b"".join((*parts, part))
            parts.append(part)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the request is larger than {self._limits.body_bytes} bytes")

    async def _refuse(self, request: Request, send: Send, error: BridgeError) -> None:
        _logger.info("%s %s: %d %s", request.method, request.path, error.status, error.message)
        more: list[tuple[bytes, bytes]] = []
        if isinstance(error, Overloaded | BridgeShutdown):
            more.append((b"retry-after", b"1"))
        if isinstance(error, Unauthorized):
            more.append((b"www-authenticate", b"Bearer"))
        if isinstance(error, UpgradeRefused):
            more += _UPGRADE_TO
        await _answer(send, error.status, self._encode_error(request, error), more)


class _Head:
    """The head of a request: who comes, and what for."""

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]
        self.pairs = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        self.path = _path(scope)
        self.admitted = Admitted()
        self._scheme: str = scope.get("scheme", "http")
        self._query: bytes = scope.get("query_string", b"")
        self._bodiless: Request | None = None

    @property
    def size_bytes(self) -> int:
        """About how much it is."""
        size = sum(len(name) + len(value) for name, value in self.pairs)
        return size + len(self.path) + len(self._query)

    @cached_property
    def declared_bytes(self) -> int:
        """How long the body will be, where that is said; else 0."""
        declared = dict(self.pairs).get("content-length", "")
        return int(declared) if declared.isdecimal() else 0

    def request(self, body: bytes, arrived_s: float | None = None) -> Request:
        """The request as the bridge sees it, without what was meant for the server alone."""
        bare = self._bodiless
        if bare is None:
            bare = self._bodiless = self._without_body()
        # An app around this one may say for whom it asks.
        caller = acted(with_session(bare.caller, body))
        return Request(bare.method, bare.url, bare.headers, body, caller, arrived_s)

    def _without_body(self) -> Request:
        fields = dict(self.pairs)
        connection = fields.get("connection", "")
        passed = request_fields(self.pairs, connection, ("cookie", *self.admitted.consumed))
        person, caller = self.admitted.person, caller_of("server", fields)
        caller = caller if person is None else person.speaking(caller)
        return Request(self.method, self._url(fields), passed, b"", caller)

    def _url(self, fields: Mapping[str, str]) -> str:
        host = fields.get("host", "")
        if not host_name(host):
            host = "localhost"
        rest = "?" + self._query.decode("latin-1") if self._query else ""
        return f"{self._scheme}://{host}{self.path}{rest}"


def _key(scope: Scope) -> tuple[object, ...]:
    """All of a scope that a head is made of."""
    fields: Iterable[Sequence[bytes]] = scope["headers"]
    return (
        scope["method"],
        scope["path"],
        scope.get("raw_path"),
        scope.get("query_string"),
        scope.get("root_path"),
        scope.get("scheme"),
        *map(tuple, fields),
    )


def _going_on(begun: _Begun) -> Handle:
    """What a call has come to, for who relays it."""

    async def handle(request: Request) -> Reply:
        if isinstance(begun, BaseException):
            raise begun
        return begun if isinstance(begun, Reply) else await begun

    return handle


def _check_may_see_all(person: Person | None) -> None:
    """Refuse to tell one person of all others."""
    if person is not None and not person.acts_for_others:
        raise Forbidden(
            f"the counts tell of everybody, and the token of {person.name!r} is for one:"
            " ask with one that acts for others"
        )


def _is_websocket(fields: Mapping[str, str]) -> bool:
    return "websocket" in fields.get("upgrade", "").lower()


async def _refuse_websocket(scope: Scope, send: Send) -> None:
    """Refuse a handshake that the server around us has taken."""
    if "websocket.http.response" not in scope.get("extensions", ()):
        await send({"type": "websocket.close", "code": 1000})
        return
    head = {"type": "websocket.http.response.start", "status": 426, "headers": _UPGRADE_TO}
    await send(head)
    await send({"type": "websocket.http.response.body", "body": _NO_WEBSOCKET.encode()})


async def _answer(
    send: Send, status: int, body: bytes, more: Collection[tuple[bytes, bytes]] = ()
) -> None:
    fields = [(name.encode(), value.encode()) for name, value in error_fields(body)]
    fields += more
    try:
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})
    except OSError:
        return  # The client has left.


def _path(scope: Scope) -> str:
    """The path as sent, without the prefix that the app is mounted at."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    path = raw.partition(b"?")[0].decode("latin-1")
    root: str = scope.get("root_path", "")
    if root:
        root = quote(root).rstrip("/")
        path = path.removeprefix(root) if path.startswith(root + "/") else path
    return path
