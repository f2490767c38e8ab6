"""Clients in the bridge's own process: a transport for their HTTP library, or an SDK client that has one.

Libraries and SDKs are imported by the method that needs them.
"""

from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from llmbridge.exchange.call import Handle
from llmbridge.frontends.http_libraries import is_httpx, library_of, sdk_arguments

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic
    from anyio.from_thread import BlockingPortal
    from openai import AsyncOpenAI, OpenAI


class Clients:
    """What a client in this process takes to talk to a handle, without a socket."""

    def _lead(
        self,
        handle: Handle,
        portal: "Callable[[], BlockingPortal | None]",
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """Answer clients with `handle`: sync ones through the portal, async ones on their own loop, closed with `close`."""
        self._handle_for_clients = handle
        self._portal_for_clients = portal
        self._close_for_clients = close

    def transport(self, module: ModuleType | None = None) -> Any:
        """A transport for `httpx2.Client`, or for `httpx.Client` when the module httpx is given."""
        if is_httpx(module):
            from llmbridge.frontends.transport_httpx import BridgeTransport as Legacy

            return Legacy(self._handle_for_clients, self._portal_for_clients)
        from llmbridge.frontends.transport import BridgeTransport

        return BridgeTransport(self._handle_for_clients, self._portal_for_clients)

    def async_transport(self, module: ModuleType | None = None) -> Any:
        """The same for `httpx2.AsyncClient` or `httpx.AsyncClient`; works on the client's own loop."""
        if is_httpx(module):
            from llmbridge.frontends.transport_httpx import AsyncBridgeTransport as Legacy

            return Legacy(self._handle_for_clients, self._close_for_clients)
        from llmbridge.frontends.transport import AsyncBridgeTransport

        return AsyncBridgeTransport(self._handle_for_clients, self._close_for_clients)

    def anthropic(self, **options: Any) -> "Anthropic":
        """An Anthropic SDK client that talks to this bridge without a socket."""
        import anthropic

        return anthropic.Anthropic(**self._sdk("anthropic", anthropic, options))

    def async_anthropic(self, **options: Any) -> "AsyncAnthropic":
        """The same, async."""
        import anthropic

        return anthropic.AsyncAnthropic(**self._sdk("anthropic", anthropic, options, sync=False))

    def openai(self, **options: Any) -> "OpenAI":
        """An OpenAI SDK client that talks to this bridge without a socket."""
        import openai

        return openai.OpenAI(**self._sdk("openai", openai, options))

    def async_openai(self, **options: Any) -> "AsyncOpenAI":
        """The same, async."""
        import openai

        return openai.AsyncOpenAI(**self._sdk("openai", openai, options, sync=False))

    def _sdk(
        self, provider: str, sdk: ModuleType, options: dict[str, Any], *, sync: bool = True
    ) -> dict[str, Any]:
        module = library_of(sdk)
        transport = self.transport(module) if sync else self.async_transport(module)
        return sdk_arguments(provider, module, transport, options, sync=sync)
