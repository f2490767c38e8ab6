"""The network: calls go to the provider with the bridge's key, and its bytes come back as they arrive.

aiohttp relays an event for a tenth of what httpx takes, and its pool survives cancelled requests. A client of your
own can be handed in instead.
"""

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import anyio

from llmbridge.errors import MissingKey, NotFound, UpstreamError, UpstreamLimit
from llmbridge.exchange.call import Call, Headers, Reply, once
from llmbridge.exchange.codec import is_event_stream
from llmbridge.providers import Provider
from llmbridge.upstreams.inflate import Inflater
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.fast_json import loads
from llmbridge.wire.sse import SSEDecoder

HOP_BY_HOP = (
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
)
_OWN = ("host", "content-length", "accept-encoding", "cookie")
_CREDENTIALS = ("authorization", "x-api-key", "api-key")
_ERROR_STATUS: Mapping[str, int] = MappingProxyType(
    {
        "overloaded_error": 529,
        "rate_limit_error": 429,
        "rate_limit_exceeded": 429,
        "authentication_error": 401,
        "permission_error": 403,
        "not_found_error": 404,
        "invalid_request_error": 400,
    }
)


class Answer(Protocol):
    """An HTTP answer whose body is still to come."""

    status: int
    headers: Headers

    async def read(self) -> bytes:
        """The next bytes; none at the end."""
        ...

    async def aclose(self) -> None:
        """Let go of the connection."""
        ...


class Live:
    """An upstream that asks the provider.

    `client` is an `httpx2.AsyncClient` or `httpx.AsyncClient` (bound to one event loop) or a function that gives one.
    With `client_keys` a client's own key goes to the provider where the bridge has none. Times are in seconds:
    to connect, without a byte, for the whole call, and until the first event before the head is passed on.
    """

    spends_keys = True

    def __init__(
        self,
        client: Any = None,
        *,
        client_keys: bool = False,
        connect_s: float = 10,
        idle_s: float = 120,
        total_s: float = 600,
        first_event_s: float = 10,
        limit_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        self._client_keys = client_keys
        self._first_event_s = first_event_s
        self._limit_bytes = limit_bytes
        self._client = client
        self._times = (connect_s, idle_s, total_s)
        self._sender: Any = None

    def __repr__(self) -> str:
        return f"Live(client={self._client!r})" if self._client is not None else "Live()"

    async def __call__(self, call: Call) -> Reply:
        """Ask the provider of this call.

        Raises:
            MissingKey: there is no key to send.
            UpstreamError: the provider cannot be reached, or its answer cannot be passed on.
        """
        provider = call.provider
        if not provider.base_url:
            raise NotFound(
                f"no base URL for {provider.name!r}: give one with base_urls={{{provider.name!r}: ...}},"
                " or add a row with providers=[...]"
            )
        answer = await self._senders().send(
            call.request.method, _url(provider, call.target), self._fields(call), call.request.body
        )
        try:
            return await self._reply(call, answer)
        except BaseException:
            await answer.aclose()
            raise

    async def aclose(self) -> None:
        """Close this event loop's connections."""
        if self._sender is not None:
            await self._sender.aclose()

    def _senders(self) -> Any:
        if self._sender is None:
            # Loaded late: a bridge that only replays needs no HTTP client.
            if self._client is None:
                from llmbridge.upstreams.pool import Pools  # noqa: PLC0415

                self._sender = Pools(*self._times)
            else:
                from llmbridge.upstreams.client import Borrowed  # noqa: PLC0415

                self._sender = Borrowed(self._client)
        return self._sender

    def _fields(self, call: Call) -> list[tuple[str, str]]:
        """The client's fields, less what belongs to its own connection, with the bridge's key."""
        named = call.request.headers.get("connection", "").lower().replace(",", " ").split()
        dropped = {*HOP_BY_HOP, *_OWN, *_CREDENTIALS, *named}
        fields = [
            (name, value)
            for name, value in call.request.headers.pairs
            if name.lower() not in dropped and not name.lower().startswith("x-llmbridge-")
        ]
        fields += [("accept-encoding", "identity"), *self._credentials(call)]
        if call.provider.auth == "x-api-key" and "anthropic-version" not in call.request.headers:
            fields.append(("anthropic-version", "2023-06-01"))
        return fields

    def _credentials(self, call: Call) -> list[tuple[str, str]]:
        provider, headers = call.provider, call.request.headers
        if provider.key:
            value = f"Bearer {provider.key}" if provider.auth == "bearer" else provider.key
            return [("authorization" if provider.auth == "bearer" else provider.auth, value)]
        if provider.keyless:
            return []
        own = [(name, headers[name]) for name in _CREDENTIALS if name in headers]
        if own and self._client_keys:
            return own
        variable = " or ".join(provider.key_env) or f"{provider.name.upper()}_API_KEY"
        raise MissingKey(
            f"no key for {provider.name!r}: set {variable} before the bridge is made,"
            " or let clients bring theirs with Live(client_keys=True)"
        )

    async def _reply(self, call: Call, answer: Answer) -> Reply:
        _refuse(answer, call.provider)
        body = _Body(answer, self._limit_bytes)
        held: list[bytes] = []
        if answer.status == 200 and is_event_stream(200, answer.headers, b""):
            held = await self._first_event(body)
            if error := _error_first(call.dialect, b"".join(held)):
                await answer.aclose()
                status, text = error
                return Reply(status, _as_json(answer.headers, text), once(text))
        return Reply(answer.status, body.headers, _relay(held, body))

    async def _first_event(self, body: "_Body") -> list[bytes]:
        """The pieces up to the first event, or what came in time."""
        held: list[bytes] = []
        decoder = SSEDecoder()
        with anyio.move_on_after(self._first_event_s):
            while chunk := await body.read():
                held.append(chunk)
                if decoder.feed(chunk):
                    break
        return held


class _Body:
    """An answer's bytes as the client shall have them: inflated, and no more than the limit."""

    def __init__(self, answer: Answer, limit_bytes: int) -> None:
        self._answer = answer
        self._limit_bytes = limit_bytes
        self._count = 0
        self.headers = answer.headers.without(*HOP_BY_HOP)
        self._inflater: Inflater | None = None
        if (coding := answer.headers.get("content-encoding", "identity")) != "identity":
            self._inflater = Inflater(coding)
            self.headers = self.headers.without("content-encoding", "content-length")

    async def read(self) -> bytes:
        while chunk := await self._answer.read():
            if self._inflater is not None:
                chunk = self._inflater.feed(chunk, self._limit_bytes - self._count)
            self._count += len(chunk)
            if self._count > self._limit_bytes:
                raise UpstreamLimit(f"the answer is larger than {self._limit_bytes} bytes")
            if chunk:
                return chunk
        if self._inflater is not None:
            self._inflater.close()
        return b""

    async def aclose(self) -> None:
        await self._answer.aclose()


async def _relay(held: list[bytes], body: _Body) -> AsyncIterator[bytes]:
    try:
        for chunk in held:
            yield chunk
        while chunk := await body.read():
            yield chunk
    finally:
        await body.aclose()


def _url(provider: Provider, target: str) -> str:
    if provider.prefix.endswith("/v1") and target.startswith("/v1/"):
        target = target.removeprefix("/v1")
    return provider.base_url.rstrip("/") + target


def _refuse(answer: Answer, provider: Provider) -> None:
    if 300 <= answer.status < 400:
        raise UpstreamError(
            f"{provider.name!r} answered with a redirect ({answer.status}), which is not followed:"
            " check the base URL"
        )
    if answer.status < 400 and answer.headers.get("content-type", "").startswith("text/html"):
        raise UpstreamError(f"{provider.name!r} answered with a web page: check the base URL")


def _error_first(dialect: Dialect, held: bytes) -> tuple[int, bytes] | None:
    """Status and body of a stream that begins with an error: before any text it can still be a proper answer."""
    for sse in SSEDecoder().feed(held):
        if dialect.verdict(sse) == "error":
            return _status(sse.data), sse.data.encode()
        if sse.event != "ping":
            return None
    return None


def _status(data: str) -> int:
    try:
        error = loads(data)["error"]
        code = error.get("code")
        if isinstance(code, int) and 400 <= code < 600:
            return code
        return _ERROR_STATUS.get(error.get("type") or code, 500)
    except (ValueError, KeyError, TypeError, AttributeError):
        return 500


def _as_json(headers: Headers, body: bytes) -> Headers:
    kept = headers.without(*HOP_BY_HOP, "content-type", "content-length", "content-encoding")
    added = (("content-type", "application/json"), ("content-length", str(len(body))))
    return Headers((*kept.pairs, *added))
