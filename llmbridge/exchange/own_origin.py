"""An interceptor that keeps a process that exported `server.env()` from calling itself without end."""

from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from llmbridge.errors import UpstreamError
from llmbridge.exchange.call import Call, Handler, Reply


class NotItself:
    """Refuses calls that would lead back to one of `urls`, where this bridge is served."""

    def __init__(self, urls: Callable[[], Iterable[str]]) -> None:
        self._urls = urls

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        """Forward the call.

        Raises:
            UpstreamError: the provider is this bridge.
        """
        origin = _origin(call.provider.base_url)
        if any(_origin(url) == origin for url in self._urls()):
            raise UpstreamError(
                f"{call.provider.name!r} leads back to this bridge at {call.provider.base_url}:"
                " unset its base URL variable, or give base_urls={...}"
            )
        return forward(call)


@lru_cache(64)
def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return parts.scheme, host, parts.port
