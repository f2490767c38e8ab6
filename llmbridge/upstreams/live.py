"""The network: calls go to the provider with the bridge's key, and its bytes come back as they arrive.

aiohttp relays an event for a tenth of what httpx takes, and its pool survives cancelled requests. A client of your
own can be handed in instead.
"""

import asyncio
from collections.abc import Mapping
from threading import Lock
from types import MappingProxyType
from typing import Any

from llmbridge.errors import NotFound, StreamTruncated, UpstreamError
from llmbridge.exchange.call import Call, Headers, Reply, once
from llmbridge.exchange.codec import is_event_stream
from llmbridge.upstreams.answer import Answer, Sender, Times, Unanswered
from llmbridge.upstreams.body import Body
from llmbridge.upstreams.client import Borrowed
from llmbridge.upstreams.outgoing import HOP_BY_HOP, outgoing_fields, outgoing_url
from llmbridge.wire.fast_json import loads
from llmbridge.wire.sse import SSE, SSEDecoder

_BOM = b"\xef\xbb\xbf"
_OPENING_BYTES = 1024 * 1024
_EXCERPT = 200
_ERROR_STATUS: Mapping[object, int] = MappingProxyType(
    {
        "authentication_error": 401,
        "billing_error": 402,
        "context_length_exceeded": 400,
        "insufficient_quota": 429,
        "invalid_api_key": 401,
        "invalid_request_error": 400,
        "model_not_found": 404,
        "not_found_error": 404,
        "overloaded_error": 529,
        "permission_error": 403,
        "rate_limit_error": 429,
        "rate_limit_exceeded": 429,
        "request_too_large": 413,
        "timeout_error": 504,
    }
)


class Live:
    """An upstream that asks the provider.

    `client` is an `httpx2.AsyncClient` or `httpx.AsyncClient` (bound to one event loop, proxies and all its own affair)
    or a function that makes one, asked once for each loop. With `client_keys` a client's own key goes to the provider
    where the bridge has none. Times are in seconds: to connect, without a byte, for the whole call, and until the first
    event before the head is passed on.

    Raises:
        ConfigurationError: `client` is no such client.
    """

    spends_keys = True

    def __init__(
        self,
        client: Any = None,
        *,
        client_keys: bool = False,
        connect_s: float = 10,
        idle_s: float = 120,
        total_s: float = 600,
        first_event_s: float = 10,
        limit_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        self._client = client
        self._client_keys = client_keys
        self._times = Times(connect_s, idle_s, total_s)
        self._first_event_s = first_event_s
        self._limit_bytes = limit_bytes
        self._lock = Lock()
        self._sender: Sender | None = None if client is None else Borrowed(client, self._times)

    def __repr__(self) -> str:
        return f"Live(client={self._client!r})" if self._client is not None else "Live()"

    async def __call__(self, call: Call) -> Reply:
        """Ask the provider of this call.

        Raises:
            NotFound: nobody knows where the provider is.
            MissingKey: there is no key to send.
            UpstreamError: the provider cannot be reached, or its answer cannot be passed on.
        """
        provider = call.provider
        if not provider.base_url:
            raise NotFound(
                f"no base URL for {provider.name!r}: give one with base_urls={{{provider.name!r}: ...}},"
                " or add a row with providers=[...]"
            )
        answer = await self._send(call)
        try:
            return await self._reply(call, answer)
        except BaseException:
            await answer.aclose()
            raise

    async def aclose(self) -> None:
        """Close this event loop's connections, if none is in use."""
        if self._sender is not None:
            await self._sender.aclose()

    async def _send(self, call: Call) -> Answer:
        method, body = call.request.method, call.request.body
        url, fields = outgoing_url(call), outgoing_fields(call, self._client_keys)
        sender = self._sender or self._pools()
        try:
            return await sender.send(method, url, fields, body)
        except Unanswered:
            # A kept connection may have died unnoticed. Nothing came back: once more, on another.
            return await sender.send(method, url, fields, body, fresh=True)

    def _pools(self) -> Sender:
        with self._lock:
            if self._sender is None:
                # Loaded late: a bridge that only replays needs no HTTP client.
                from llmbridge.upstreams.pool import Pools  # noqa: PLC0415

                self._sender = Pools(self._times)
            return self._sender

    async def _reply(self, call: Call, answer: Answer) -> Reply:
        _refuse(call, answer)
        body = Body(answer, self._limit_bytes)
        dropped = HOP_BY_HOP.union(answer.headers.get("connection", "").lower().split(", "))
        headers = answer.headers.without(*dropped)
        if body.inflated:
            headers = headers.without("content-encoding", "content-length")
        if answer.status >= 400:
            return Reply(answer.status, headers, body)
        wait_s = self._first_event_s if answer.resumable else None
        opening, first = await _opening(call, headers, body, wait_s)
        if error := _error_first(call, headers, opening, first):
            await answer.aclose()
            status, text = error
            return Reply(status, _as_json(headers, text), once(text))
        # SDKs take a byte order mark for a part of the first field.
        body.unread(opening.removeprefix(_BOM) if first else opening)
        return Reply(answer.status, headers, body)


async def _opening(
    call: Call, headers: Headers, body: Body, wait_s: float | None
) -> tuple[bytes, SSE | None]:
    """What the head waits for, so that a failure can still be a status: a stream's first event, or all of a JSON answer.

    Whatever came when the time is up, or is large, has to do.
    """
    kind = headers.get("content-type", "")
    if not (call.streaming or "event-stream" in kind or "json" in kind):
        return b"", None
    held: list[bytes] = []
    size = 0
    decoder = SSEDecoder()
    try:
        async with asyncio.timeout(wait_s):
            while size <= _OPENING_BYTES and (chunk := await body.read()):
                held.append(chunk)
                size += len(chunk)
                for event in decoder.feed(chunk):
                    if event.event != "ping":
                        return b"".join(held), event
            if not held and call.dialect.terminated:
                raise StreamTruncated(f"{call.provider.name!r} sent an answer without a body")
    except TimeoutError:
        pass
    return b"".join(held), None


def _refuse(call: Call, answer: Answer) -> None:
    name, status = call.provider.name, answer.status
    if status < 200 or 300 <= status < 400:
        raise UpstreamError(
            f"{name!r} answered with a redirect or the like ({status}), which is not followed:"
            " check the base URL"
        )
    if status < 400 and answer.headers.get("content-type", "").startswith("text/html"):
        raise UpstreamError(f"{name!r} answered with a web page: check the base URL")


def _error_first(
    call: Call, headers: Headers, opening: bytes, first: SSE | None
) -> tuple[int, bytes] | None:
    """Status and body of an answer that begins with an error: before any text it can still be a proper one.

    Raises:
        UpstreamError: a stream was asked for, and something else came.
    """
    if first is not None:
        failed = call.dialect.verdict(first) == "error"
        return (_status(first.data), first.data.encode()) if failed else None
    if not (call.streaming and call.dialect.terminated and opening):
        return None
    if is_event_stream(200, headers, opening):
        return None
    if _has_error(opening):
        return _status(opening), opening
    said = opening[:_EXCERPT].decode("utf-8", "replace")
    raise UpstreamError(f"{call.provider.name!r} was asked for a stream and answered {said!r}")


def _has_error(body: bytes) -> bool:
    try:
        return bool(loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return False


def _status(data: str | bytes) -> int:
    try:
        error: Any = loads(data)
        error = error.get("error") or error
        code = error.get("code")
        if str(code).isdecimal() and 400 <= int(code) < 600:
            return int(code)
        return _ERROR_STATUS.get(code) or _ERROR_STATUS.get(error.get("type"), 500)
    except (ValueError, TypeError, AttributeError):
        return 500


def _as_json(headers: Headers, body: bytes) -> Headers:
    kept = headers.without("content-type", "content-length", "content-encoding")
    added = (("content-type", "application/json"), ("content-length", str(len(body))))
    return Headers((*kept.pairs, *added))
