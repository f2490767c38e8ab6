"""Calls over an `httpx2` or `httpx` client of the user's own."""

import sys
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from llmbridge.errors import BridgeError, StreamTruncated, UpstreamError, UpstreamTimeout
from llmbridge.exchange.call import Headers


class Borrowed:
    """Sends requests over a client that somebody else closes; a factory is asked once for each request's loop."""

    def __init__(self, client: Any) -> None:
        # httpx and httpx2 are one interface in two class trees without a common base.
        self._client: Callable[[], Any] = client if _is_factory(client) else lambda: client

    async def send(
        self, method: str, url: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> "BorrowedAnswer":
        """The answer's head, body to come.

        Raises:
            UpstreamError: no answer came.
        """
        client = self._client()
        module = _module(client)
        request = client.build_request(method, url, headers=list(headers), content=body)
        try:
            response = await client.send(request, stream=True, follow_redirects=False)
        except module.HTTPError as error:
            raise _blame(module, error, url, answered=False) from error
        return BorrowedAnswer(module, response, url)

    async def aclose(self) -> None:
        """Nothing: the client is its owner's."""


class BorrowedAnswer:
    """An answer over a borrowed client."""

    def __init__(self, module: Any, response: Any, url: str) -> None:
        self.status: int = response.status_code
        self.headers = Headers(response.headers.multi_items())
        self._module = module
        self._response = response
        self._url = url
        self._chunks: AsyncIterator[bytes] = response.aiter_raw()

    async def read(self) -> bytes:
        """The next bytes; none at the end.

        Raises:
            UpstreamError: the connection broke.
        """
        try:
            while not (chunk := await anext(self._chunks, None)):
                if chunk is None:
                    return b""
        except self._module.HTTPError as error:
            raise _blame(self._module, error, self._url, answered=True) from error
        return chunk

    async def aclose(self) -> None:
        """Close the response."""
        await self._response.aclose()


def _is_factory(client: Any) -> bool:
    return not hasattr(client, "build_request")


def _module(client: Any) -> Any:
    return sys.modules[type(client).__mro__[-2].__module__.partition(".")[0]]


def _blame(module: Any, error: Exception, url: str, *, answered: bool) -> BridgeError:
    place = url.partition("?")[0]
    said = str(error) or type(error).__name__
    if isinstance(error, module.TimeoutException):
        return UpstreamTimeout(f"{place} stayed silent too long")
    if answered:
        return StreamTruncated(f"the connection to {place} broke: {said}")
    return UpstreamError(f"could not reach {place}: {said}; check the base URL and the network")
