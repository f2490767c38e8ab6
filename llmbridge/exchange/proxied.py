"""Whom the clients of `/stream` and `/api/stream` want to ask: path, body or the model's name say a provider, never a URL."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from llmbridge.errors import RequestError
from llmbridge.providers import DIALECTS, Provider
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.loose_json import is_object, text
from llmbridge.wire.proxy_api_stream import API_STREAM
from llmbridge.wire.proxy_stream import PROXY_STREAM, PROXY_STREAMS
from llmbridge.wire.settings import SETTINGS

PROXIES = frozenset({"proxy.stream", "proxy.api_stream"})
"""Dialects that clients of any provider speak; there is no answer that is not a stream."""

PATH = re.compile(r"/(?:api/)?stream(?:/(?P<after>[^/]+))?|/(?P<before>[^/]+)/(?:api/)?stream")
"""Where these clients post to; the provider may be named behind or before."""

_APIS: Mapping[str, str] = {
    "anthropic-messages": "anthropic.messages",
    "openai-completions": "openai.chat",
    "openai-responses": "openai.responses",
    "google-generative-ai": "google.gemini",
}
_MAKERS = (
    (re.compile(r"claude"), "anthropic"),
    (re.compile(r"gpt-|chatgpt-|o\d"), "openai"),
    (re.compile(r"gemini"), "google"),
)


def proxy_dialect(path: str, query: str) -> Dialect:
    """What a client speaks that posts here; `?dialect=` says which events of `/stream` it wants."""
    if "/api/stream" in path:
        return API_STREAM
    wanted = parse_qs(query).get("dialect", [""])[-1]
    return next((each for wire, each in PROXY_STREAMS.items() if wire == wanted), PROXY_STREAM)


def check_wire(target: str) -> None:
    """Refuse a `?dialect=` that there is not.

    Raises:
        RequestError: it names neither of the two wires.
    """
    for wanted in parse_qs(target.partition("?")[2]).get("dialect", ()):
        if wanted not in PROXY_STREAMS:
            raise RequestError(
                f"there is no dialect={wanted!r:.80}: give wire or documented, or leave it out for both"
            )


def model_id(model: Any) -> str:
    """The model's name, which `/api/stream` has in an object."""
    return text(model.get("id")) if is_object(model) else text(model)


def provider_name(model: Any, providers: Mapping[str, Provider]) -> str:
    """Who is meant; empty where nothing says."""
    if is_object(model):
        return text(model.get("provider"))
    named = text(model)
    first, slash, _ = named.partition("/")
    if slash and first in providers:
        return first
    return next((maker for pattern, maker in _MAKERS if pattern.match(named)), "")


def spoken_by(provider: Provider, asked: str, model: Any = None) -> Dialect | None:
    """The dialect in which to ask this provider what a client asks in another: the model's own, or its first."""
    if asked in provider.dialects:
        return DIALECTS[asked]
    wanted = _APIS.get(text(model.get("api")), "") if is_object(model) else ""
    names = (wanted, *provider.dialects) if wanted in provider.dialects else provider.dialects
    found = next((name for name in names if name in SETTINGS and name in DIALECTS), None)
    return DIALECTS[found] if found else None
