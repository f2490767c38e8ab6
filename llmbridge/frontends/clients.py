"""Clients in the bridge's own process: a transport for their HTTP library, an SDK client that has one, or events.

Libraries and SDKs are imported by the method that needs them.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from llmbridge.canon.events import Event
from llmbridge.canon.messages import Context, JsonObject, Model
from llmbridge.exchange.actors import acting
from llmbridge.exchange.asking import question
from llmbridge.exchange.call import Handle
from llmbridge.exchange.codec import EventStream
from llmbridge.frontends.http_libraries import is_httpx, library_of, sdk_arguments
from llmbridge.providers import Provider

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic
    from anyio.from_thread import BlockingPortal
    from openai import AsyncOpenAI, OpenAI


class Clients:
    """What a client in this process takes to talk to a handle, without a socket."""

    def _lead(
        self,
        handle: Handle,
        providers: Mapping[str, Provider],
        portal: "Callable[[], BlockingPortal | None]",
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """Answer clients with `handle`: sync ones through the portal, async ones on their own loop, closed with `close`."""
        self._handle_for_clients = handle
        self._providers_for_clients = providers
        self._portal_for_clients = portal
        self._close_for_clients = close

    def actor(self, name: str, /, **metadata: str) -> AbstractContextManager[None]:
        """Calls that enter within the `with` block, in this thread or task, are made for this actor.

        Raises:
            ConfigurationError: the name is none.
        """
        return acting(name, metadata)

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

    async def stream(
        self, model: Model, context: Context, options: JsonObject | None = None
    ) -> EventStream:
        """Ask a model and get canon's events as they come; `.result()` waits for the whole message.

        Raises:
            ConfigurationError: `model` names a provider or dialect that is not there.
        """
        dialect, request = question(self._providers_for_clients, model, context, options)
        reply = await self._handle_for_clients(request)
        reply.raise_loud()
        return EventStream(dialect, reply)

    def stream_sync(
        self, model: Model, context: Context, options: JsonObject | None = None
    ) -> Iterator[Event]:
        """The same for code without an event loop."""
        from llmbridge.frontends.pieces import events, pieces

        dialect, request = question(self._providers_for_clients, model, context, options)
        exchange = pieces(self._portal_for_clients(), None)
        yield from events(exchange, dialect, self._handle_for_clients, request)

    def _sdk(
        self, provider: str, sdk: ModuleType, options: dict[str, Any], *, sync: bool = True
    ) -> dict[str, Any]:
        module = library_of(sdk)
        transport = self.transport(module) if sync else self.async_transport(module)
        return sdk_arguments(provider, module, transport, options, sync=sync)
