"""The network: calls go to the provider with the bridge's key, and its bytes come back as they arrive.

aiohttp relays an event for a tenth of what httpx takes, and its pool survives cancelled requests. A client of your
own can be handed in instead.
"""

import os
from functools import partial
from threading import Lock
from typing import Any, Literal

from llmbridge.certificates import Certificate
from llmbridge.errors import ConfigurationError, NotFound
from llmbridge.exchange.call import Call, Reply
from llmbridge.exchange.pings import ping
from llmbridge.upstreams.answer import Answer, Fields, Outgoing, Sender, Times, Unanswered
from llmbridge.upstreams.client import Borrowed
from llmbridge.upstreams.incoming import Incoming
from llmbridge.upstreams.outgoing import key_hint, outgoing_fields, outgoing_url
from llmbridge.upstreams.trust import Trust


class Live:
    """An upstream that asks the provider.

    `client` is an `httpx2.AsyncClient` or `httpx.AsyncClient` (bound to one event loop, proxies and all its own affair) or
    a function that makes one, asked once for each loop. `ca` is a file of authorities to trust beside the system's, `cert`
    the certificate to show: a file with its key, or one for each. With `client_keys` a client's own key goes to the
    provider where the bridge has none, with "first" also where it has one; with `actor_headers` who asks goes along
    (`X-AI-Bridge-Actor-ID` and `-Metadata-...`), as another gateway may want to know. Times are in seconds: to connect,
    without a byte, for the whole call, and until the first event before the head is passed on.

    Raises:
        ConfigurationError: `client` is no such client, or a file does not hold what it should.
    """

    spends_keys = True

    def __init__(  # noqa: PLR0913  # limits and certificates, each by its name
        self,
        client: Any = None,
        *,
        client_keys: bool | Literal["first"] = False,
        actor_headers: bool = False,
        connect_s: float = 10,
        idle_s: float = 120,
        total_s: float = 600,
        first_event_s: float = 10,
        limit_bytes: int = 256 * 1024 * 1024,
        ca: str | os.PathLike[str] | None = None,
        cert: Certificate | None = None,
    ) -> None:
        if client is not None and (ca is not None or cert is not None):
            raise ConfigurationError(
                "Live(client=...) has its own certificates: give them to the client, or leave it out"
            )
        self._client = client
        self._trust = Trust(ca, cert)
        self._client_keys = bool(client_keys)
        self.client_keys_first = client_keys == "first"
        self._actor_headers = actor_headers
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
                f"no base URL for {provider.name!r}: give one with --upstream {provider.name}=URL,"
                f" in Python Bridge(base_urls={{{provider.name!r}: URL}})"
            )
        fields = outgoing_fields(call, self._client_keys, self._actor_headers)
        answer = await self._send(call, fields)
        try:
            reply = await Incoming(call, answer, self._limit_bytes).reply(self._first_event_s)
        except BaseException:
            await answer.aclose()
            raise
        reply.ping, reply.key_hint = partial(ping, call), key_hint(fields)
        return reply

    def prepare(self) -> None:
        """Load the HTTP client now, so that the first caller of a server does not wait for it."""
        if self._sender is None:
            self._pools()

    async def aclose(self) -> None:
        """Close this event loop's connections, if none is in use."""
        if self._sender is not None:
            await self._sender.aclose()

    async def _send(self, call: Call, fields: Fields) -> Answer:
        url, tls = outgoing_url(call), self._trust.of(call.provider)
        request = Outgoing(call.request.method, url, fields, call.request.body, tls)
        sender = self._sender or self._pools()
        try:
            return await sender.send(request)
        except Unanswered:
            # A kept connection may have died unnoticed. Nothing came back: once more, on another.
            return await sender.send(request, fresh=True)

    def _pools(self) -> Sender:
        with self._lock:
            if self._sender is None:
                # Loaded late: a bridge that only replays needs no HTTP client.
                from llmbridge.upstreams.pool import Pools  # noqa: PLC0415

                self._sender = Pools(self._times)
            return self._sender
