"""Calls over an `httpx2` or `httpx` client of the user's own."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio

from llmbridge.errors import BridgeError, ConfigurationError
from llmbridge.exchange.call import Headers
from llmbridge.upstreams.answer import (
    Outgoing,
    Times,
    broke,
    not_http,
    place,
    unanswered,
    unreachable,
)
from llmbridge.upstreams.per_loop import Held, PerLoop

_MODULES = ("httpx2", "httpx")
# httpx and httpx2 are one interface in two class trees without a common base.
_Client = Any


class Borrowed:
    """Sends requests over a client that its owner closes, or over one that a function makes for each event loop.

    Raises:
        ConfigurationError: it is neither.
    """

    def __init__(self, client: _Client | Callable[[], _Client], times: Times) -> None:
        self._times = times
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clients: PerLoop[_Client] | None = None
        if isinstance(client, type) or (not _module(client) and callable(client)):
            self._clients = PerLoop(client, _close)
        else:
            _checked(client)
            self._owned: Held[_Client] = Held(client)

    async def send(self, request: Outgoing, *, fresh: bool = False) -> "BorrowedAnswer":
        """The answer's head, body to come. Connections, `fresh` ones and their certificates, are the client's affair.

        Raises:
            Unanswered: the connection closed before the head.
            UpstreamError: no answer came.
        """
        url = request.url
        if request.tls is not None:
            raise ConfigurationError(
                f"{place(url)} has certificates of its own, and Live(client=...) does not know them:"
                " give them to the client, or leave it out"
            )
        held = await self._here()
        client, module = held.value, _checked(held.value)
        deadline = asyncio.get_running_loop().time() + self._times.total_s
        held.users += 1
        try:
            async with asyncio.timeout_at(deadline):
                response = await client.send(
                    client.build_request(
                        request.method,
                        url,
                        headers=[(name.encode(), value.encode()) for name, value in request.fields],
                        content=request.body,
                        timeout=module.Timeout(self._times.idle_s, connect=self._times.connect_s),
                    ),
                    stream=True,
                    auth=None,
                    follow_redirects=False,
                )
        except BaseException as error:
            held.users -= 1
            if isinstance(error, (module.HTTPError, module.InvalidURL, TimeoutError)):
                raise _unanswered(module, error, url, self._times) from error
            raise
        return BorrowedAnswer(module, response, url, self._times, deadline, held)

    async def aclose(self) -> None:
        """Close this loop's client, if a function made it and it is not in use."""
        if self._clients is not None:
            await self._clients.aclose()

    async def _here(self) -> Held[_Client]:
        if self._clients is not None:
            return await self._clients.here()
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise ConfigurationError(
                "the client in Live(client=...) belongs to another event loop:"
                " give a function that makes one instead"
            )
        return self._owned


class BorrowedAnswer:
    """An answer over a borrowed client."""

    # Cancelling a read ends the client's own iterator.
    resumable = False
    whole = False

    def __init__(
        self,
        module: Any,
        response: Any,
        url: str,
        times: Times,
        deadline: float,
        held: Held[_Client],
    ) -> None:
        self.status: int = response.status_code
        self.headers = Headers(response.headers.multi_items())
        self._module = module
        self._response = response
        self._url = url
        self._times = times
        self._deadline = deadline
        self._held: Held[_Client] | None = held
        self._chunks: AsyncIterator[bytes] = response.aiter_raw()

    async def read(self) -> bytes:
        """The next bytes; none at the end.

        Raises:
            UpstreamError: the connection broke, or nothing came in time.
        """
        try:
            async with asyncio.timeout_at(self._deadline):
                async for chunk in self._chunks:
                    if chunk:
                        return chunk
                return b""
        except (self._module.HTTPError, TimeoutError) as error:
            raise self._blame(error) from error

    async def aclose(self) -> None:
        """Close the response."""
        if self._held is not None:
            self._held.users -= 1
            self._held = None
            with anyio.CancelScope(shield=True):
                await self._response.aclose()

    def _blame(self, error: Exception) -> BridgeError:
        if isinstance(error, self._module.TimeoutException):
            return self._times.silent(self._url)
        if isinstance(error, TimeoutError):
            return self._times.too_long(self._url)
        return broke(self._url)


def _module(client: _Client) -> Any:
    """The package whose `AsyncClient` this is; None for anything else."""
    for base in type(client).__mro__:
        package = base.__module__.partition(".")[0]
        if base.__name__ == "AsyncClient" and package in _MODULES:
            return sys.modules[package]
    return None


def _checked(client: _Client) -> Any:
    module = _module(client)
    if module is None:
        raise ConfigurationError(
            f"Live(client=...) got {type(client).__name__!r}:"
            " give an httpx2.AsyncClient, an httpx.AsyncClient or a function that makes one"
        )
    return module


async def _close(client: _Client) -> None:
    await client.aclose()


def _unanswered(module: Any, error: BaseException, url: str, times: Times) -> BridgeError:
    """The one error that a caller sees."""
    if isinstance(error, module.ConnectTimeout | module.PoolTimeout):
        return times.no_connection(url)
    if isinstance(error, module.TimeoutException):
        return times.silent(url)
    if isinstance(error, TimeoutError):
        return times.too_long(url)
    said = str(error) or type(error).__name__
    if isinstance(error, module.RemoteProtocolError):
        lost = "disconnected" in said
        return unanswered(url) if lost else not_http(url, said)
    if isinstance(error, module.ReadError | module.WriteError):
        return unanswered(url)
    return unreachable(url, said)
