"""aiohttp connections, one pool for each event loop."""

import os
from collections.abc import Iterable
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple, Self

import aiohttp
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from llmbridge.errors import BridgeError
from llmbridge.exchange.call import Headers
from llmbridge.upstreams.answer import (
    Outgoing,
    Times,
    broke,
    head_too_large,
    not_http,
    unanswered,
    unreachable,
)
from llmbridge.upstreams.per_loop import Held, PerLoop

_SKIPPED: CIMultiDict[None] = CIMultiDict({"Content-Type": None})
_HEAD_BYTES = 32 * 1024
_LARGE_BYTES = 1024 * 1024
_TOO_LARGE = ("Got more than", "Too many headers")
_LOST = (
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientConnectionResetError,
    aiohttp.ClientOSError,
)
_FAILURES = (aiohttp.ClientError, TimeoutError, OSError)


class _Pool(NamedTuple):
    """Kept connections, and a session that opens a new one each time."""

    kept: aiohttp.ClientSession
    fresh: aiohttp.ClientSession


class Pools:
    """Sends requests from any loop, each over that loop's own connections."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._pools = PerLoop(partial(_open, times), _close)

    async def send(self, request: Outgoing, *, fresh: bool = False) -> "PooledAnswer":
        """The answer's head, body to come.

        Raises:
            Unanswered: the connection closed before the head.
            UpstreamError: no answer came.
        """
        held = self._pools.opened() or await self._pools.here()
        session = held.value.fresh if fresh else held.value.kept
        body = request.body
        held.users += 1
        try:
            response = await session.request(
                request.method,
                URL(request.url, encoded=True),
                headers=request.fields,
                # aiohttp warns of large bodies that it would have to send in one piece.
                data=BytesIO(body) if len(body) > _LARGE_BYTES else body or None,
                allow_redirects=False,
                ssl=request.tls or True,
            )
        except BaseException as error:
            held.users -= 1
            if isinstance(error, _FAILURES):
                raise _unanswered(error, request.url, self._times) from error
            raise
        return PooledAnswer(response, request.url, self._times, held)

    async def aclose(self) -> None:
        """Close this loop's connections, if none is in use."""
        await self._pools.aclose()


class PooledAnswer:
    """An answer over a pooled connection."""

    resumable = True

    def __init__(
        self, response: aiohttp.ClientResponse, url: str, times: Times, held: Held[_Pool]
    ) -> None:
        self.status = response.status
        # Each name as it was spelled, which `response.headers` does not keep.
        self.headers = Headers(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in response.raw_headers
        )
        self._response = response
        self._content = response.content
        self.whole = response.content.is_eof()
        self._url = url
        self._times = times
        self._held: Held[_Pool] | None = held

    async def read(self) -> bytes:
        """All bytes that have come, at least one; none at the end.

        Raises:
            UpstreamError: the connection broke, or nothing came in time.
        """
        try:
            return await self._content.readany()
        except _FAILURES as error:
            if rest := self._before_the_break():
                return rest
            raise self._blame(error) from error

    async def aclose(self) -> None:
        """Cut the connection, unless the answer was taken whole: then it has gone back to the pool."""
        if self._held is not None:
            self._held.users -= 1
            self._held = None
            self._response.close()

    def _before_the_break(self) -> bytes:
        """What had come but was not read yet, which aiohttp would keep to itself."""
        failure = self._content.exception()
        if failure is None:
            return b""
        self._content.set_exception(None)  # type: ignore[arg-type]  # there is no other way
        rest = self._content.read_nowait()
        self._content.set_exception(failure)
        return rest

    def _blame(self, error: Exception) -> BridgeError:
        match error:
            case aiohttp.SocketTimeoutError():
                return self._times.silent(self._url)
            case TimeoutError():
                return self._times.too_long(self._url)
            case _:
                return broke(self._url)


class _Connector(aiohttp.TCPConnector):
    """Makes connections of the kind below."""

    def wakeful(self) -> Self:
        kind: type[ResponseHandler] = _Connection
        self._factory = partial(kind, self._loop)
        return self


class _Connection(ResponseHandler):
    """Spares each chunk what only a paused connection needs, and each packet a timer of its own.

    Wakes who reads the answer whenever the connection is lost; aiohttp forgets it after a chunk that is none.
    """

    _heard_at = 0.0

    def resume_reading(self, *how: Any, **more: Any) -> None:
        # Its parameters differ between versions of aiohttp.
        if self._reading_paused:
            super().resume_reading(*how, **more)

    def connection_lost(self, exc: BaseException | None) -> None:
        content = self._payload
        super().connection_lost(exc)
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the connection was lost"))

    def _reschedule_timeout(self) -> None:
        self._heard_at = self._loop.time()
        if self._read_timeout_handle is None:
            super()._reschedule_timeout()

    def _on_read_timeout(self) -> None:
        left = self._heard_at + (self._read_timeout or 0) - self._loop.time()
        if left > 0:
            self._read_timeout_handle = self._loop.call_later(left, self._on_read_timeout)
        else:
            super()._on_read_timeout()


class _Request(aiohttp.ClientRequest):
    """Has the fields that it is given and no others."""

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        self._skip_auto_headers = _SKIPPED


class _NoCookies(aiohttp.DummyCookieJar):
    """Not even parsed."""

    def update_cookies_from_headers(self, headers: object, response_url: URL) -> None: ...


def _open(times: Times) -> _Pool:
    return _Pool(_session(times, fresh=False), _session(times, fresh=True))


def _session(times: Times, *, fresh: bool) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=_Connector(
            limit=0, force_close=fresh, resolver=aiohttp.ThreadedResolver()
        ).wakeful(),
        cookie_jar=_NoCookies(),
        timeout=aiohttp.ClientTimeout(
            total=times.total_s,
            connect=times.connect_s,
            sock_connect=times.connect_s,
            sock_read=times.idle_s,
        ),
        auto_decompress=False,
        request_class=_Request,
        trust_env=False,
        max_line_size=_HEAD_BYTES,
        max_field_size=_HEAD_BYTES,
    )


async def _close(pool: _Pool) -> None:
    await pool.kept.close()
    await pool.fresh.close()


def _unanswered(error: Exception, url: str, times: Times) -> BridgeError:
    """The one error that a caller sees."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return times.no_connection(url)
        case aiohttp.SocketTimeoutError():
            return times.silent(url)
        case aiohttp.ClientConnectorCertificateError():
            why = f"its certificate is not trusted ({error.certificate_error})"
            return unreachable(url, f"{why}; name the file of its authority with Live(ca=...)")
        case aiohttp.ClientSSLError():
            return unreachable(url, f"TLS failed ({error.os_error})")
        case aiohttp.ClientConnectorDNSError():
            return unreachable(url, f"the name {error.host!r} does not resolve")
        case aiohttp.ClientConnectorError():
            number = error.os_error.errno
            return unreachable(url, os.strerror(number) if number else str(error.os_error))
        case aiohttp.ClientResponseError():
            why = error.message.partition("\n")[0]
            return head_too_large(url) if why.startswith(_TOO_LARGE) else not_http(url, why)
        case _ if isinstance(error, _LOST):
            return unanswered(url)
        case TimeoutError():
            return times.too_long(url)
        case _:
            return unreachable(url, str(error) or type(error).__name__)
