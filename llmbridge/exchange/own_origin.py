"""An interceptor that keeps a process that exported `server.env()` from calling itself without end."""

from collections.abc import Awaitable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from llmbridge.errors import UpstreamError
from llmbridge.exchange.call import Call, Handler, Reply


class Served(Protocol):
    """An address where this bridge is served."""

    port: int

    @property
    def url(self) -> str:
        """The base of every URL there."""
        ...

    @property
    def running(self) -> bool:
        """True as long as it is."""
        ...


class NotItself:
    """Refuses calls that would lead back to one of `servers`."""

    def __init__(self, servers: Sequence[Served]) -> None:
        self._servers = servers

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        """Forward the call.

        Raises:
            UpstreamError: the provider is this bridge.
        """
        origin = _origin(call.provider.base_url)
        for server in self._servers:
            if server.port == origin.port and server.running and _origin(server.url) == origin:
                raise UpstreamError(
                    f"{call.provider.name!r} leads back to this bridge at {call.provider.base_url}:"
                    f" unset its base URL variable, or give another with --upstream {call.provider.name}=URL,"
                    f" in Python Bridge(base_urls={{{call.provider.name!r}: URL}})"
                )
        return forward(call)


class _Origin(NamedTuple):
    scheme: str
    host: str | None
    port: int | None


@lru_cache(64)
def _origin(url: str) -> _Origin:
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return _Origin(parts.scheme, host, parts.port)
