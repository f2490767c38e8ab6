"""What goes to the provider: the client's request without what was meant for the bridge, and the provider's key."""

import re
from collections.abc import Awaitable
from dataclasses import replace
from functools import lru_cache
from urllib.parse import parse_qs, quote

from llmbridge.errors import MissingKey, RequestError
from llmbridge.exchange.call import Call, Caller, Handler, Reply
from llmbridge.exchange.secret_names import masked
from llmbridge.providers import Provider
from llmbridge.upstreams.answer import Fields
from llmbridge.wire.google_gemini import GOOGLE_GEMINI

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OF_THE_CLIENTS_CONNECTION = frozenset(
    {
        "accept-encoding",
        "content-length",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "origin",
        "referer",
        "via",
        "x-real-ip",
    }
)
_CREDENTIALS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
_DROPPED = HOP_BY_HOP.union(_OF_THE_CLIENTS_CONNECTION, _CREDENTIALS)
_ACTOR_PREFIX = "x-ai-bridge-actor-"
_DROPPED_PREFIXES = ("x-forwarded-", "x-llmbridge-", _ACTOR_PREFIX, "sec-fetch-")

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_PLAIN = "".join(map(chr, range(0x20, 0x7F)))
_BAD_TARGET = re.compile(r"[^\x21-\x7e]")


def outgoing_url(call: Call) -> str:
    """Where the call goes, at its provider's base URL.

    Raises:
        RequestError: the path or the query cannot be sent.
    """
    if _BAD_TARGET.search(call.target):
        raise RequestError(f"the path {call.target!r} has a character that must be percent-encoded")
    return call.provider.url(call.target)


def outgoing_fields(call: Call, client_keys: bool, actor_headers: bool = False) -> Fields:
    """The fields to send; what a client itself says of an actor is not among them.

    Raises:
        RequestError: a field of the client's cannot be sent.
        MissingKey: there is no key to send.
    """
    connection = ""
    fields: list[tuple[str, str]] = []
    has_version = False
    for pair in call.request.headers.pairs:
        name, value = pair
        if _BAD_VALUE.search(value):
            raise RequestError(f"the header {name!r} has a line break or another control character")
        if _passes(name):
            has_version = has_version or name.lower() == "anthropic-version"
            fields.append(pair)
        elif name.lower() == "connection":
            connection = f"{connection},{value.lower()}"
    if connection:
        named = {name.strip() for name in connection.split(",")}
        fields = [pair for pair in fields if pair[0].lower() not in named]
    fields.append(("accept-encoding", "identity"))
    fields += _credentials(call, client_keys)
    if call.provider.auth == "x-api-key" and not has_version:
        fields.append(("anthropic-version", "2023-06-01"))
    if actor_headers:
        fields += _actor(call.request.caller)
    return fields


def clients_key_first(call: Call, forward: Handler) -> Awaitable[Reply]:
    """Forward a call whose client brought a key without the bridge's own: it gets one try, with that."""
    if call.provider.key and _clients_own(call):
        call = replace(call, provider=replace(call.provider, key=None, keys=()))
    return forward(call)


def key_hint(fields: Fields) -> str | None:
    """Which key is among the fields, masked; None where none is."""
    sent = next((value for name, value in reversed(fields) if name in _CREDENTIALS), None)
    return None if sent is None else masked(sent.rpartition(" ")[2])


def _actor(caller: Caller) -> Fields:
    """Who asks, in aibridge's fields; what no field can hold is percent-encoded."""
    if caller.actor is None:
        return []
    more = [
        (f"{_ACTOR_PREFIX}metadata-{quote(key)}", quote(value, safe=_PLAIN))
        for key, value in caller.metadata.items()
    ]
    return [(f"{_ACTOR_PREFIX}id", quote(caller.actor, safe=_PLAIN)), *more]


@lru_cache(maxsize=512)
def _passes(name: str) -> bool:
    """True for a field that the provider may see; those that are asked again and again are remembered."""
    if not _NAME.fullmatch(name):
        raise RequestError(f"{name!r} is no name of a header")
    lower = name.lower()
    return lower not in _DROPPED and not lower.startswith(_DROPPED_PREFIXES)


def _credentials(call: Call, client_keys: bool) -> Fields:
    provider = call.provider
    if provider.key:
        return [_key_field(provider, provider.key.strip())]
    if provider.keyless:
        return []
    if client_keys and (own := _clients_own(call)):
        return own
    needed = _remedy(provider, "give its row a key, key_env or keyless")
    raise MissingKey(
        f"no key for {provider.name!r}: {needed} before the bridge starts, or let clients bring theirs:"
        " client_keys: true in its configuration file, Live(client_keys=True) in Python"
    )


def _clients_own(call: Call) -> Fields:
    headers = call.request.headers
    own: list[tuple[str, str]] = [(name, headers[name]) for name in _CREDENTIALS if name in headers]
    if not own and GOOGLE_GEMINI.name in call.provider.dialects:
        # Google's REST clients put it in the address, where logs would show it: it goes on as a header.
        keys = parse_qs(call.request.target.partition("?")[2]).get("key", [])
        if any(_BAD_VALUE.search(key) for key in keys):
            raise RequestError("the key in the address has a line break or a control character")
        own = [("x-goog-api-key", key) for key in keys[:1]]
    return own


def _key_field(provider: Provider, key: str) -> tuple[str, str]:
    if _BAD_VALUE.search(key):
        raise MissingKey(
            f"the key for {provider.name!r} has a line break or a control character:"
            f" {_remedy(provider, 'write it')} anew"
        )
    if provider.auth == "bearer":
        return "authorization", f"Bearer {key}"
    return provider.auth, key


def _remedy(provider: Provider, otherwise: str) -> str:
    variables = " or ".join(provider.key_env)
    return f"set {variables}" if variables else otherwise
