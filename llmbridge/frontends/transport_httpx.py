"""httpx transports: an SDK's client talks to the bridge in its own process, without a socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import anyio
import httpx
from anyio.from_thread import BlockingPortal

from llmbridge.errors import BridgeError
from llmbridge.exchange.call import Handle, Reply, Request
from llmbridge.frontends.passing import (
    CLOSE_LIMIT_S,
    asked,
    check_kind,
    let_go,
    read_timeout_s,
    reply_fields,
)
from llmbridge.frontends.pieces import Pieces, pieces

_SILENT = "the bridge sent nothing within the read timeout"


class BridgeTransport(httpx.BaseTransport):
    """For `httpx.Client`: the bridge works on the loop of `portal`, in another thread; where that is None, right here."""

    def __init__(self, handle: Handle, portal: Callable[[], BlockingPortal | None]) -> None:
        self._handle = handle
        self._portal = portal

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The head; the reply's pieces follow as the response is read."""
        check_kind(request, httpx.Request, "httpx")
        request.read()
        stream = _Stream(pieces(self._portal(), read_timeout_s(request.extensions)))
        try:
            return _response(stream.open(self._handle, _request(request)), stream)
        except BaseException:
            stream.close()
            raise


class AsyncBridgeTransport(httpx.AsyncBaseTransport):
    """For `httpx.AsyncClient`: the bridge works on the client's own loop; `on_close` lets go of what it keeps there."""

    def __init__(
        self, handle: Handle, on_close: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._handle = handle
        self._on_close = on_close

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The head; the reply's pieces follow as the response is read."""
        check_kind(request, httpx.Request, "httpx")
        await request.aread()
        stream = _AsyncStream(read_timeout_s(request.extensions))
        try:
            return _response(await stream.open(self._handle, _request(request)), stream)
        except BaseException:
            await stream.aclose()
            raise

    async def aclose(self) -> None:
        """Close what belongs to this loop; twice is fine."""
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            await on_close()


class _Stream(httpx.SyncByteStream):
    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces

    def open(self, handle: Handle, request: Request) -> Reply:
        try:
            return self._pieces.open(handle, request)
        except TimeoutError:
            raise httpx.ReadTimeout(_SILENT) from None
        except BridgeError as error:
            raise httpx.RemoteProtocolError(error.message) from error

    def __iter__(self) -> Iterator[bytes]:
        try:
            while (piece := self._pieces.read()) is not None:
                yield piece
        except TimeoutError:
            raise httpx.ReadTimeout(_SILENT) from None
        except BridgeError as error:
            raise httpx.RemoteProtocolError(error.message) from error

    def close(self) -> None:
        self._pieces.close()


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._reply: Reply | None = None

    async def open(self, handle: Handle, request: Request) -> Reply:
        try:
            async with asyncio.timeout(self._timeout_s):
                self._reply = await handle(request)
        except TimeoutError:
            raise httpx.ReadTimeout(_SILENT) from None
        self._reply.raise_loud()
        return self._reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while (piece := await self._next()) is not None:
                yield piece
        except TimeoutError:
            raise httpx.ReadTimeout(_SILENT) from None
        except BridgeError as error:
            raise httpx.RemoteProtocolError(error.message) from error

    async def _next(self) -> bytes | None:
        assert self._reply is not None, "opened before it is read"
        if self._reply.at_once:
            return await anext(self._reply, None)
        async with asyncio.timeout(self._timeout_s):
            return await anext(self._reply, None)

    async def aclose(self) -> None:
        if self._reply is None or self._reply.end is not None:
            return
        with anyio.move_on_after(CLOSE_LIMIT_S, shield=True):
            await let_go(self._reply)


def _request(request: httpx.Request) -> Request:
    # Neither a password nor a fragment goes on: the first is in the header by now.
    url = request.url
    target = f"{url.scheme}://{url.netloc.decode()}{url.raw_path.decode()}"
    return asked(request.method, target, request.headers.multi_items(), request.content)


def _response(reply: Reply, stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> httpx.Response:
    try:
        fields = reply_fields(reply.headers)
    except BridgeError as error:
        raise httpx.RemoteProtocolError(error.message) from error
    extensions = {"http_version": b"HTTP/1.1"}
    return httpx.Response(reply.status, headers=fields, stream=stream, extensions=extensions)
