"""Calliope's proxy: search, crawl, and its model proxy in front of a bridge's own routes.

Source: Calliope's proxy documentation and its real server. A request never says where a key goes: `apiBase` has to be
a provider's own address, `apiKeyLocation` a name that this provider's key has here.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

from llmbridge.canon.strict_json import loads_strict
from llmbridge.errors import (
    BridgeError,
    RequestError,
    Unauthorized,
    UpstreamError,
)
from llmbridge.exchange.call import Handle, Headers, Reply, Request, once
from llmbridge.providers import Provider
from llmbridge.wire.calliope import (
    ModelName,
    missing_headers,
    parse_model_name,
    properties_of,
    reranked,
    secret_name,
    web_item,
    without_properties,
)
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.loose_json import is_list, is_object, text

PREFIX = "/model-proxy/v1/"
OPERATIONS = (
    "chat/completions",
    "completions",
    "embeddings",
    "rerank",
    "fim/completions",
    "models",
)
_logger = logging.getLogger("llmbridge.calliope")

_NO_TOKEN = "Unauthorized: Missing or invalid Bearer token in Authorization header."
_ELSEWHERE = {"gemini": "google"}


class Found(Protocol):
    """A search result."""

    title: str
    url: str
    description: str
    content: str


class Seen(Protocol):
    """A crawled page."""

    url: str
    path: str
    content: str


Search = Callable[[str, int], Awaitable[Sequence[Any]]]
Crawl = Callable[[str, int, int], Awaitable[Sequence[Any]]]


class _Refused(Exception):
    """An answer of the proxy's own that is no success."""

    def __init__(self, status: int, error: str, **more: Any) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error, **more}


@dataclass(frozen=True, slots=True)
class Calliope:
    """What a bridge offers to Calliope's clients.

    `search` and `crawl` are off until something is given, such as `DuckDuckGo()` and `Crawler()` of
    `llmbridge.upstreams.web`. `key_locations` says which provider's key is meant by names that are not the key's own
    variable. `models` are listed for whoever asks.
    """

    search: Search | None = None
    crawl: Crawl | None = None
    key_locations: Mapping[str, str] | None = None
    models: Sequence[str] = ()

    def in_front_of(
        self, handle: Handle, providers: Mapping[str, Provider], *, spends_keys: bool
    ) -> "CalliopeProxied":
        """A handle that serves these routes itself, and passes all others on."""
        return CalliopeProxied(self, handle, providers, spends_keys=spends_keys)

    def error_body(self, error: BridgeError, path: str) -> bytes | None:
        """A refusal at the door in the proxy's words; None for paths that are not its own."""
        if route_of(path) is None:
            return None
        if isinstance(error, Unauthorized) and path.startswith(PREFIX):
            return dump({"error": _NO_TOKEN})
        return dump({"error": error.message})


class CalliopeProxied:
    """A `Handle` in front of another one."""

    def __init__(
        self,
        options: Calliope,
        handle: Handle,
        providers: Mapping[str, Provider],
        *,
        spends_keys: bool,
    ) -> None:
        self._spends_keys = spends_keys
        self._options = options
        self._handle = handle
        self._providers = providers

    async def __call__(self, request: Request) -> Reply:
        """The answer of the proxy, or of the handle behind it."""
        route = route_of(request.path)
        if route is None:
            return await self._handle(request)
        try:
            if request.method != ("GET" if route == "models" else "POST"):
                raise _Refused(404, f"{request.path} does not take {request.method}")
            if route == "web":
                return _answer(200, await self._web(request))
            if route == "crawl":
                return _answer(200, await self._crawl(request))
            return await self._model(request, route)
        except _Refused as refused:
            return _answer(refused.status, refused.body)
        except BridgeError as error:
            return _answer(error.status, {"error": error.message})
        except Exception:
            # The border: whatever a search or crawler of the user's raises, the client gets the original's answer.
            _logger.exception("%s %s failed", request.method, request.path)
            return _answer(500, {"error": "Something went very wrong!", "statusCode": 500})

    async def _web(self, request: Request) -> list[dict[str, Any]]:
        _check_headers(request)
        body = _body(request)
        query = text(body.get("query"))
        if not query:
            raise _Refused(400, "Missing required parameter: query")
        if self._options.search is None:
            raise _Refused(403, "Web search is off: give Bridge(calliope=Calliope(search=...))")
        count = min(max(_number(body.get("n"), 6), 1), 20)
        try:
            found: Sequence[Found] = await self._options.search(query, count)
        except UpstreamError as error:
            raise _search_failed(error, query) from error
        return [web_item(each.title, each.content, each.url, each.description) for each in found]

    async def _crawl(self, request: Request) -> list[dict[str, str]]:
        _check_headers(request)
        body = _body(request)
        start_url = text(body.get("startUrl"))
        if not start_url:
            raise _Refused(400, "Missing required parameter: startUrl")
        if self._options.crawl is None:
            raise _Refused(403, "Crawling is off: give Bridge(calliope=Calliope(crawl=...))")
        # Zero is as good as nothing to the original.
        depth, limit = _number(body.get("maxDepth"), 2), _number(body.get("limit"), 50)
        try:
            seen: Sequence[Seen] = await self._options.crawl(start_url, depth, limit)
        except UpstreamError as error:
            raise _Refused(
                500, "Crawling failed.", message=error.message, startUrl=start_url
            ) from error
        return [{"url": page.url, "path": page.path, "content": page.content} for page in seen]

    async def _model(self, request: Request, route: str) -> Reply:
        if not request.caller.keyed:
            raise _Refused(401, _NO_TOKEN)
        if route == "models":
            if self._options.models:
                return _answer(200, {"data": [{"id": model} for model in self._options.models]})
            return await self._handle(_inner(request, "GET", "/openai/v1/models", b""))
        body = _body(request)
        name, row = self._wanted(body, route)
        try:
            clean = dump({**without_properties(body), "model": name.model})
        except RecursionError:
            raise _Refused(400, "The body is nested too deep: send it flatter") from None
        target = f"/{row.name}{row.prefix or '/v1'}/{route}"
        reply = await self._handle(_inner(request, "POST", target, clean))
        if (
            isinstance(reply.error, UpstreamError)
            and reply.replayed is False
            and reply.status >= 500
        ):
            return await _unreachable(reply)
        if route == "rerank" and reply.status < 400:
            return await _rescored(reply, body)
        return reply

    def _wanted(self, body: dict[str, Any], route: str) -> tuple[ModelName, Provider]:
        """Model and provider of a request, in the order in which the original checks it."""
        model = text(body.get("model"))
        if not model:
            raise _Refused(400, "Missing required parameter: model")
        told = properties_of(body)
        if not told:
            raise _Refused(400, "Missing calliopeProperties in request body")
        location = text(told.get("apiKeyLocation"))
        if not location:
            raise _Refused(400, "Missing required field: calliopeProperties.apiKeyLocation")
        try:
            name = parse_model_name(model)
        except RequestError as error:
            parts = len([part for part in model.split("/") if part])
            expected = "{ownerSlug}/{packageSlug}/{provider}/{model}"
            raise _Refused(
                400,
                error.message,
                details=f'{error.message} Expected "{expected}", but got "{model}". Parts found: {parts}',
                receivedModelString=model,
            ) from None
        if route == "rerank" and name.provider.lower() != "cohere":
            raise _Refused(
                400,
                f"Reranking is not supported for provider '{name.provider}'. Supported providers: cohere",
                provider=name.provider,
                supportedProviders=["cohere"],
            )
        row = self._provider(name.provider.lower(), text(told.get("apiBase")))
        self._check_key(location, row)
        return name, row

    def _provider(self, named: str, base: str) -> Provider:
        """Whom to ask: the provider that is named, or the one whose address `apiBase` is.

        Raises:
            _Refused: there is none; the answer does not repeat an address.
        """
        if base:
            row = next((row for row in self._providers.values() if _is_at(base, row)), None)
            if row is None:
                raise _Refused(
                    403,
                    "calliopeProperties.apiBase is none of the addresses that are configured here:"
                    " add a provider with it to the bridge",
                )
            return row
        row = self._providers.get(_ELSEWHERE.get(named, named))
        if row is None or not row.base_url:
            raise _Refused(
                400,
                "apiBase is required for unknown providers. Please specify calliopeProperties.apiBase",
                provider=named,
            )
        return row

    def _check_key(self, location: str, row: Provider) -> None:
        """The location has to mean the key that this provider has here, by its variable or by configuration."""
        kind, secret = secret_name(location)
        mapped = (self._options.key_locations or {}).get(location)
        if kind == "not_found" or (mapped is None and secret not in row.key_env):
            status = 400 if kind == "not_found" else 403
            raise _Refused(
                status,
                "Failed to retrieve API key. Check apiKeyLocation and environment variables.",
            )
        if mapped is not None and mapped != row.name:
            raise _Refused(403, "calliopeProperties.apiKeyLocation belongs to another provider")
        if self._spends_keys and row.key is None and not row.keyless:
            raise _Refused(
                400, "Failed to retrieve API key. Check apiKeyLocation and environment variables."
            )


def route_of(path: str) -> str | None:
    """Which of Calliope's routes this is; None for all others."""
    path = "/" + path.strip("/")
    for name in ("web", "crawl"):
        if path in (f"/{name}", f"/api/{name}"):
            return name
    operation = path.removeprefix(PREFIX)
    return operation if path.startswith(PREFIX) and operation in OPERATIONS else None


def _check_headers(request: Request) -> None:
    if missing := missing_headers(request.headers):
        raise _Refused(401, f"Unauthorized: Missing required headers: {', '.join(missing)}")


def _body(request: Request) -> dict[str, Any]:
    try:
        value = loads_strict(request.body)
    except ValueError as error:
        raise _Refused(400, f"The body is not JSON: {error}") from None
    if not is_object(value):
        raise _Refused(400, "The body is not a JSON object: send one")
    return value


def _number(value: Any, default: int) -> int:
    """A number, or the text of one; nothing and zero are the default."""
    try:
        return int(value) or default
    except (TypeError, ValueError, OverflowError):
        return default


def _search_failed(error: UpstreamError, query: str) -> _Refused:
    if "401" in error.message:
        return _Refused(401, "Search API authentication failed. Check API key.")
    if "400" in error.message:
        return _Refused(400, f"Search API bad request: {error.message}")
    return _Refused(500, "Web search failed.", message=error.message, query=query)


def _is_at(base: str, row: Provider) -> bool:
    """True when this address is the provider's own, or below it."""
    try:
        asked, own = urlsplit(base), urlsplit(row.base_url)
        same = (asked.scheme, asked.hostname, asked.port) == (own.scheme, own.hostname, own.port)
    except ValueError:
        return False
    if not row.base_url or not same or asked.username or asked.password or asked.query:
        return False
    path, prefix = asked.path.rstrip("/"), own.path.rstrip("/")
    return ".." not in path and (path == prefix or not prefix or path in ("", prefix))


def _inner(request: Request, method: str, target: str, body: bytes) -> Request:
    """The request as the bridge's own routes take it: none of the caller's fields goes on."""
    fields = Headers({"content-type": "application/json"}) if body else Headers()
    return replace(
        request, method=method, url=f"http://localhost{target}", headers=fields, body=body
    )


def _answer(status: int, value: Any) -> Reply:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    fields = [("content-type", "application/json"), ("content-length", str(len(body)))]
    return Reply(status, Headers(fields), once(body), at_once=True)


async def _unreachable(reply: Reply) -> Reply:
    error = reply.error.message if reply.error else ""
    _ = [chunk async for chunk in reply]
    return _answer(500, {"error": "Error proxying request", "details": error})


async def _rescored(reply: Reply, body: dict[str, Any]) -> Reply:
    """Cohere's results in the form that the real client reads."""
    whole = b"".join([chunk async for chunk in reply])
    documents = body.get("documents")
    value: object = None
    with suppress(ValueError):
        value = loads_strict(whole)
    count = len(documents) if is_list(documents) else 0
    if not is_object(value) or not is_list(value.get("results", value.get("data"))):
        told = "the provider's answer holds no list of results"
        return _answer(500, {"error": "Error proxying request", "details": told})
    return _answer(200, reranked(value, count))
