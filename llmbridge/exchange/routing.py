"""Which provider and dialect a request is meant for, from its host, its path and its body, in this order."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import msgspec

from llmbridge.canon.quick import quick
from llmbridge.errors import ConfigurationError, NotFound, NotOffered, RequestError
from llmbridge.exchange.call import Call, Received, Request
from llmbridge.exchange.json_body import json_body
from llmbridge.exchange.proxied import (
    PATH,
    PROXIES,
    check_wire,
    model_id,
    provider_name,
    proxy_dialect,
    spoken_by,
)
from llmbridge.providers import DIALECTS, PROVIDERS, Provider
from llmbridge.wire.anthropic_messages import ANTHROPIC_MESSAGES
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.fast_json import typed
from llmbridge.wire.google_gemini import GOOGLE_GEMINI, operation
from llmbridge.wire.loose_json import is_object
from llmbridge.wire.opaque import COUNT_TOKENS, OPAQUE, OPENAI_MODELS
from llmbridge.wire.openai_responses import OPENAI_RESPONSES
from llmbridge.wire.proxy_stream import PROXY_STREAM
from llmbridge.wire.settings import SETTINGS

_POSTS: tuple[tuple[str, str], ...] = (
    ("/messages/count_tokens", "anthropic.count_tokens"),
    ("/messages", "anthropic.messages"),
    ("/chat/completions", "openai.chat"),
    ("/responses", "openai.responses"),
    ("/completions", "openai.completions"),
    ("/embeddings", "openai.embeddings"),
    ("/rerank", "rerank"),
)
_MODELS = re.compile(r"/models(/.+)?$")
_IN_PATH = re.compile(r"/models/([^/:]+):(?:stream)?[rR]awPredict$|/deployments/([^/]+)/")
_NOBODY = "unknown"
_WHERE = {
    "proxy.stream": "in the path, as in /stream/openai, or before a slash in the model, as in openai/gpt-x",
    "proxy.api_stream": "as provider in the model, or in the path, as in /api/stream/openai",
}
_VERSION = re.compile(r"^/v\d+(?=/)")
_LOCAL = re.compile(r"^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$|^[^.:]*(:\d+)?$")


class _Peek(msgspec.Struct):
    """The keys that routing needs; their types are the client's affair."""

    model: Any = None
    stream: Any = None
    background: Any = None


_peek = typed(_Peek)


@quick
@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request is meant to go; `target` is the path and query below the provider's base URL.

    `bare` requests name no provider, neither by host nor by path. `client` is the dialect of a client that asks in
    another one than the provider's.
    """

    provider: Provider
    dialect: Dialect
    target: str
    bare: bool = False
    client: Dialect | None = None

    @property
    def asked(self) -> Dialect:
        """The client's dialect."""
        return self.client or self.dialect


@dataclass(frozen=True, slots=True)
class Classified:
    """What a recorded request was, in names."""

    provider: str
    dialect: str
    model: str | None
    streaming: bool


class Router:
    """Finds destinations among these providers; `routes` sends bare requests elsewhere by model, first glob wins.

    Raises:
        ConfigurationError: a route leads to a provider that is not there.
    """

    def __init__(
        self, providers: Iterable[Provider] = PROVIDERS, routes: Mapping[str, str] | None = None
    ) -> None:
        self.providers = {provider.name: provider for provider in providers}
        self._routes = dict(routes or {})
        # A process asks few hosts, each of them often.
        self._serving = lru_cache(maxsize=64)(self._find_host)
        for pattern, destination in self._routes.items():
            self._provider(destination.partition("/")[0], f"the route {pattern!r}")

    def destination(self, request: Request) -> Destination:
        """Provider, dialect and target. Never raises: what nobody serves is `opaque`, of an unknown provider."""
        path, mark, query = request.target.partition("?")
        path = "/" + path.lstrip("/")
        local = request.caller.frontend == "server" or _LOCAL.match(request.host)
        if local and (proxied := PATH.fullmatch(path)):
            named = proxied["after"] or proxied["before"] or ""
            if not proxied["before"] or named in self.providers:
                return self._proxied(request, path, named, query)
        provider, rest, bare = self._find(request, path)
        target = _below(provider, rest)
        dialect = _dialect(request.method, target, provider)
        if GOOGLE_GEMINI.name in (dialect.name, *provider.dialects):
            # A key there would be the bridge's own, or end in the log of whoever relays it.
            query = "&".join(each for each in query.split("&") if not each.startswith("key="))
            mark = "?" if query else ""
        if local and not bare and provider.name in self.providers:
            spoken = _spoken_instead(provider, dialect)
            if spoken is not None:
                return Destination(provider, spoken, _below(provider, spoken.path), bare, dialect)
        return Destination(provider, dialect, target + mark + query, bare)

    def call(
        self, request: Request, where: Destination, call_id: str, received: Received | None = None
    ) -> Call:
        """The call to make.

        Raises:
            NotFound: no provider or route of this name.
            NotOffered: a server is asked for an answer that is fetched later, from a route that it has not.
            RequestError: the body is not JSON.
        """
        if request.caller.frontend == "server" and (
            where.client is None or where.dialect is OPAQUE
        ):
            self._check_served(request, where)
        asked = where.asked
        if asked.name == PROXY_STREAM.name:
            check_wire(request.target)
        peek = _read(request, asked)
        if peek.background is True and asked is OPENAI_RESPONSES:
            _check_background(request)
        model, streaming = _wanted(request, asked, peek)
        if where.bare:
            request, where, model = self._reroute(request, where, model)
        if where.client is not None:
            model = self._served_model(where, model)
            target = where.dialect.target(model, streaming=streaming)
            where = replace(where, target=_below(where.provider, target))
        return Call(
            call_id,
            request,
            where.provider,
            where.dialect,
            where.target,
            model,
            streaming,
            received,
            None if where.dialect is asked else asked,
        )

    def _check_served(self, request: Request, where: Destination) -> None:
        if where.provider.name not in self.providers and (hint := _meant(request.path)):
            raise NotFound(f"no route {request.method} {request.path!r}: {hint}")
        if where.dialect is not OPAQUE:
            if where.provider.name not in self.providers:
                known = ", ".join(self.providers)
                raise NotFound(f"no provider {where.provider.name!r}: there are {known}")
            return
        if where.provider.name in self.providers and where.provider.passes_on(where.target):
            return
        if _dialect("POST", where.target.partition("?")[0], where.provider) is not OPAQUE:
            raise NotFound(f"{request.path!r} takes POST, not {request.method}")
        raise NotFound(f"no route {request.method} {request.path!r}: {self._known_routes()}")

    def _find(self, request: Request, path: str) -> tuple[Provider, str, bool]:
        in_process = request.caller.frontend != "server"
        if in_process and (provider := self._serving(request.host)):
            return provider, path, False
        first, _, rest = path[1:].partition("/")
        if first in self.providers:
            return self.providers[first], f"/{rest}", False
        googles = operation(path) or path.startswith("/v1beta/models")
        if googles and (not in_process or _LOCAL.match(request.host)):
            return self.providers["google"], path, True
        if in_process and not _LOCAL.match(request.host):
            return Provider(_label(request.host), ""), path, False
        if not _VERSION.match(path) and not in_process:
            return Provider(first or "unknown", ""), path, False
        speaks_anthropic = "/messages" in path or "anthropic-version" in request.headers
        return self.providers["anthropic" if speaks_anthropic else "openai"], path, True

    def _proxied(self, request: Request, path: str, named: str, query: str) -> Destination:
        """Where a proxy's client wants to go, as its body says where its path does not."""
        asked = proxy_dialect(path, query)
        model = _peek_or_nothing(request).model
        name = named or provider_name(model, self.providers)
        provider = self.providers.get(name, Provider(name or _NOBODY, "", dialects=()))
        if request.method.upper() != "POST":
            return Destination(provider, OPAQUE, path, not named, asked)
        spoken = spoken_by(provider, asked.name, model)
        if spoken is not None and asked.name in provider.dialects:
            return Destination(provider, asked, asked.path, not named)
        spoken = spoken or asked
        return Destination(provider, spoken, _below(provider, spoken.path), not named, asked)

    def _served_model(self, where: Destination, model: str) -> str:
        """The model's name at its provider.

        Raises:
            RequestError: there is no such provider, or it speaks nothing that can be translated.
        """
        name = where.provider.name
        if name not in self.providers:
            known = ", ".join(self.providers)
            if name != _NOBODY:
                raise RequestError(f"no provider {name!r}: there are {known}")
            raise RequestError(
                f"no provider is known for the model {model!r}: name one {_WHERE[where.asked.name]}; there are {known}"
            )
        if where.dialect is where.client:
            raise RequestError(
                f"{where.provider.name!r} speaks {', '.join(where.provider.dialects)}, which is not translated"
            )
        own = f"{where.provider.name}/"
        return model.removeprefix(own) if where.bare and model.startswith(own) else model

    def _find_host(self, host: str) -> Provider | None:
        return next((row for row in self.providers.values() if row.serves(host)), None)

    def _reroute(
        self, request: Request, where: Destination, model: str
    ) -> tuple[Request, Destination, str]:
        for pattern, destination in self._routes.items():
            if fnmatchcase(model, pattern):
                name, _, renamed = destination.partition("/")
                provider = self._provider(name, f"the route {pattern!r}")
                where = _at(provider, where, f"the route {pattern!r}")
                if renamed and where.asked is GOOGLE_GEMINI:
                    # The model stands in the path alone; a translation makes its own.
                    streaming = ":stream" in request.target
                    target = GOOGLE_GEMINI.target(renamed, streaming=streaming).partition("?")[0]
                    _, mark, query = where.target.partition("?")
                    return request, replace(where, target=target + mark + query), renamed
                if renamed and renamed != model:
                    body = json_body(request)
                    named = body.get("model")
                    body["model"] = {**named, "id": renamed} if is_object(named) else renamed
                    request, model = replace(request, body=dump(body)), renamed
                return request, where, model
        return request, where, model

    def _provider(self, name: str, what: str) -> Provider:
        if name not in self.providers:
            known = ", ".join(self.providers)
            raise ConfigurationError(
                f"{what} leads to {name!r}, which is no provider: add it to providers,"
                f" or take one of {known}"
            )
        return self.providers[name]

    def _known_routes(self) -> str:
        paths = ", ".join(dialect.path for dialect in DIALECTS.values() if dialect.path)
        return (
            f"there are {paths}, also below /PROVIDER, such as /anthropic/v1/messages;"
            " others go through where passthrough names them"
        )


def _check_background(request: Request) -> None:
    # Clients in this process reach the provider's other routes, too.
    if request.caller.frontend == "server":
        raise NotOffered(
            'a background response ("background": true) is not served here:'
            ' leave "background" out, with "stream": true for a long answer'
        )


def classify(request: Request) -> Classified:
    """What the request was, by the providers known from the start. Never raises."""
    where = _ROUTER.destination(request)
    model, streaming = _wanted(request, where.dialect, _peek_or_nothing(request))
    return Classified(where.provider.name, where.dialect.name, model or None, streaming)


def _named(found: re.Match[str] | None) -> str:
    return unquote(found[1] or found[2]) if found else ""


def _wanted(request: Request, asked: Dialect, peek: _Peek) -> tuple[str, bool]:
    """The model, and whether a stream is wanted, as path or body say it."""
    if asked is GOOGLE_GEMINI and (named := operation(request.target)):
        return named
    named_in_path = _IN_PATH.search(request.path)
    model = model_id(peek.model) or _named(named_in_path)
    return model, peek.stream is True or asked.name in PROXIES


def _peek_or_nothing(request: Request) -> _Peek:
    try:
        return _peek(request.body)
    except ValueError:
        return _Peek()


_ROUTER = Router()


def _at(provider: Provider, where: Destination, what: str) -> Destination:
    """The same question at another provider, in a dialect that it speaks."""
    asked = where.asked
    if asked.name in provider.dialects:
        return replace(where, provider=provider, dialect=asked, client=None)
    dialect = spoken_by(provider, asked.name) if asked.name in SETTINGS else None
    if dialect is None:
        raise NotFound(
            f"{what} leads to {provider.name!r}, which does not speak {asked.name}:"
            f" it speaks {', '.join(provider.dialects)}"
        )
    target = _below(provider, dialect.path)
    return replace(where, provider=provider, dialect=dialect, target=target, client=asked)


def _spoken_instead(provider: Provider, asked: Dialect) -> Dialect | None:
    """What a provider speaks that is asked, by its name, in a dialect that it does not speak."""
    if asked.name in provider.dialects or asked.name not in SETTINGS:
        return None
    return spoken_by(provider, asked.name)


def _below(provider: Provider, path: str) -> str:
    """The path below the provider's base URL; clients write a version where the base URL has another prefix."""
    if provider.prefix and path.startswith(provider.prefix + "/"):
        return path[len(provider.prefix) :]
    if {ANTHROPIC_MESSAGES.name, GOOGLE_GEMINI.name}.intersection(provider.dialects):
        return path
    return _VERSION.sub("", path)


def _dialect(method: str, target: str, provider: Provider) -> Dialect:
    if method.upper() == "POST":
        if operation(target):
            return GOOGLE_GEMINI
        own = ((DIALECTS[name].path, name) for name in provider.dialects if name in PROXIES)
        for ending, name in (*provider.aliases.items(), *own, *_POSTS):
            if target.endswith(ending):
                return DIALECTS[name]
    return OPENAI_MODELS if _MODELS.search(target) else OPAQUE


def _meant(path: str) -> str:
    """What somebody wants who comes here; empty where nothing says."""
    if any(dialect.path == f"/v1{path}" for dialect in DIALECTS.values()):
        return f"is it /v1{path}? The base URL has to end in /v1"
    if path.startswith("/model-proxy/") or path.removeprefix("/api") in ("/web", "/crawl"):
        return "Calliope's proxy is off, switch it on with Bridge(calliope=Calliope(...))"
    if path == "/metrics":
        return "counters are off, start with --metrics, in Python Bridge(store=MeteredStore())"
    return ""


def _read(request: Request, dialect: Dialect) -> _Peek:
    if dialect in (OPAQUE, OPENAI_MODELS) or (dialect is COUNT_TOKENS and not request.body):
        return _Peek()
    if not request.body.lstrip().startswith(b"{"):
        raise RequestError("the body is not a JSON object: send one, with content-type JSON")
    try:
        return _peek(request.body)
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from None


def _label(host: str) -> str:
    """`api.example.ai` is called `example`."""
    labels = host.partition(":")[0].split(".")
    return labels[-2] if len(labels) > 1 and not labels[-1].isdigit() else "unknown"
