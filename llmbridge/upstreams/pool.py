"""aiohttp connections, one pool for each event loop; the pool closes when its loop does."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from weakref import WeakKeyDictionary

import aiohttp

from llmbridge.errors import BridgeError, StreamTruncated, UpstreamError, UpstreamTimeout
from llmbridge.exchange.call import Headers

_AUTO = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_STALE = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


class Pools:
    """Sends requests from any loop, each over that loop's own connections."""

    def __init__(self, connect_s: float, idle_s: float, total_s: float) -> None:
        self._timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=connect_s, sock_read=idle_s)
        self._pools: WeakKeyDictionary[
            asyncio.AbstractEventLoop,
            tuple[AsyncGenerator[aiohttp.ClientSession], aiohttp.ClientSession],
        ] = WeakKeyDictionary()

    async def send(
        self, method: str, url: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> "PooledAnswer":
        """The answer's head, body to come.

        Raises:
            UpstreamError: no answer came.
        """
        pairs = list(headers)
        try:
            try:
                return await self._send(method, url, pairs, body)
            except aiohttp.ClientConnectorError:
                raise
            except _STALE:
                # A kept connection may have died unnoticed. Nothing came back yet: once more, on another.
                return await self._send(method, url, pairs, body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _blame(error, url, answered=False) from error

    async def aclose(self) -> None:
        """Close this loop's connections."""
        kept = self._pools.pop(asyncio.get_running_loop(), None)
        if kept is not None:
            await kept[0].aclose()

    async def _send(
        self, method: str, url: str, headers: list[tuple[str, str]], body: bytes
    ) -> "PooledAnswer":
        session = await self._session()
        response = await session.request(
            method, url, headers=headers, data=body or None, allow_redirects=False
        )
        return PooledAnswer(response, url)

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        kept = self._pools.get(loop)
        if kept is None or kept[1].closed:
            pool = self._open()
            kept = self._pools[loop] = (pool, await anext(pool))
        return kept[1]

    async def _open(self) -> AsyncGenerator[aiohttp.ClientSession]:
        """A pool as a generator: a loop that ends closes its generators, and so the connections."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=False,
            skip_auto_headers=_AUTO,
            trust_env=False,
        )
        try:
            yield session
        finally:
            await session.close()


class PooledAnswer:
    """An answer over a pooled connection."""

    def __init__(self, response: aiohttp.ClientResponse, url: str) -> None:
        self.status = response.status
        self.headers = Headers((name, value) for name, value in response.headers.items())
        self._response = response
        self._url = url

    async def read(self) -> bytes:
        """All bytes that have come, at least one; none at the end. May be cancelled and called again.

        Raises:
            UpstreamError: the connection broke.
        """
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _blame(error, self._url, answered=True) from error

    async def aclose(self) -> None:
        """Give the connection back if the answer was taken whole, else cut it."""
        self._response.close()


def _blame(error: Exception, url: str, *, answered: bool) -> BridgeError:
    """The one error a caller sees, with the address but neither query nor key."""
    place = url.partition("?")[0]
    said = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        return UpstreamTimeout(f"{place} stayed silent too long")
    if answered:
        return StreamTruncated(f"the connection to {place} broke: {said}")
    return UpstreamError(f"could not reach {place}: {said}; check the base URL and the network")
