"""What every HTTP frontend does alike: fields that end at a hop, who asks."""

import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from llmbridge.errors import BridgeError, UpstreamError
from llmbridge.exchange.actors import acted
from llmbridge.exchange.call import Caller, Headers, Reply, Request
from llmbridge.frontends.guessing import (
    OUR_SESSION,
    client_of,
    first_of,
    session_in_body,
    session_in_fields,
)
from llmbridge.frontends.variables import PLACEHOLDER_KEY

_logger = logging.getLogger("llmbridge.frontends")

CLOSE_LIMIT_S = 5.0
"""How long the end of an abandoned reply may take."""

_ERROR_BYTES = 64 * 1024
"""How much of an error that its client did not read is taken in."""

CREDENTIALS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")

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

_ACTOR_FIELDS = ("x-llmbridge-actor", "x-ai-bridge-actor-id")
_METADATA = "x-ai-bridge-actor-metadata-"
_BAD_NAME = re.compile(r'[^\x21-\x7e]|[()<>@,;:\[\]={}\\"/?]')
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


async def let_go(reply: Reply) -> None:
    """End a reply that its client leaves. What an error says is taken in first: SDKs that try again do not read it."""
    size = 0
    try:
        while reply.status >= 400 and reply.end is None and size < _ERROR_BYTES:
            size += len(await anext(reply, b""))
    except BridgeError as error:
        _logger.debug("an error that nobody reads broke off: %s", error.message)
    finally:
        if reply.end is None:
            await reply.aclose("client_gone")


def check_kind(request: object, kind: type, module: str) -> None:
    """Refuse another library's request, which its client would fail over without a word.

    Raises:
        TypeError: the transport was made for another library.
    """
    if not isinstance(request, kind):
        theirs = type(request).__module__.partition(".")[0]
        raise TypeError(
            f"this transport is for clients of {module}: for {theirs} take bridge.transport({theirs})"
            f" or bridge.async_transport({theirs})"
        )


def caller_of(frontend: str, fields: Mapping[str, str]) -> Caller:
    """Who asks, as the request's own fields (names in lower case) say it."""
    actor = first_of(_ACTOR_FIELDS, fields)
    return Caller(
        frontend=frontend,
        actor=actor,
        client=client_of(fields),
        session_id=session_in_fields(fields),
        keyed=any(credential(name, fields) for name in CREDENTIALS),
        metadata=_metadata(fields) if actor else {},
    )


def with_session(caller: Caller, body: bytes) -> Caller:
    """The caller with the session that its body tells, where it has none."""
    session_id = session_in_body(caller, body)
    return caller if session_id is caller.session_id else replace(caller, session_id=session_id)


def _metadata(fields: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(_METADATA): value
        for name, value in fields.items()
        if name.startswith(_METADATA)
    }


def asked(method: str, url: str, pairs: Sequence[tuple[str, str]], body: bytes) -> Request:
    """A request of a client in this process; names of fields in lower case."""
    fields = dict(pairs)
    unused = [name for name in CREDENTIALS if credential(name, fields) == PLACEHOLDER_KEY]
    passed = request_fields(pairs, fields.get("connection", ""), unused)
    caller = with_session(caller_of("transport", fields), body)
    return Request(method, url, passed, body, acted(caller))


def credential(name: str, fields: Mapping[str, str], *, bare: bool = False) -> str:
    """The key or token in the field of this name; empty where there is none. `bare` says that no scheme is needed."""
    value = fields.get(name, "")
    if name == "authorization":
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer":
            value = token
        elif not bare:
            return ""
    return value.strip()


def request_fields(
    pairs: Iterable[tuple[str, str]], connection: str, consumed: Collection[str] = ()
) -> Headers:
    """The fields of a request (names in lower case) that go further than this hop."""
    dropped = _dropped(connection)
    return Headers(
        [
            pair
            for pair in pairs
            if pair[0] not in dropped
            and pair[0] not in consumed
            and not pair[0].startswith("x-ai-bridge-actor-")
        ]
    )


@lru_cache(maxsize=64)
def _dropped(connection: str) -> frozenset[str]:
    """What ends at this hop: the fixed names, those that `Connection` lists, and ours."""
    named = (token.strip().lower() for token in connection.split(","))
    return HOP_BY_HOP.union(named, _ACTOR_FIELDS, (OUR_SESSION,))


def reply_fields(
    headers: Headers, kept_back: Collection[str] = frozenset({"content-length"})
) -> list[tuple[bytes, bytes]]:
    """The fields of a reply as bytes, names in lower case, without those of this hop and those `kept_back`.

    Raises:
        UpstreamError: a field cannot be sent: it would end the line, or is no Latin-1.
    """
    return [*sendable(headers.pairs, frozenset(kept_back))]


@lru_cache(maxsize=256)
def sendable(
    pairs: tuple[tuple[str, str], ...], kept_back: frozenset[str]
) -> tuple[tuple[bytes, bytes], ...]:
    """The same of a reply's pairs."""
    pairs = tuple((name.lower(), value) for name, value in pairs)
    dropped = HOP_BY_HOP | kept_back
    for name, value in pairs:
        if name == "connection":
            dropped |= _dropped(value)
    return tuple(_sendable(name, value) for name, value in pairs if name not in dropped)


def _sendable(name: str, value: str) -> tuple[bytes, bytes]:
    if not name or _BAD_NAME.search(name) or _BAD_VALUE.search(value):
        raise UpstreamError(f"the answer has a header that cannot be passed on: {name!r}")
    try:
        return name.encode("ascii"), value.encode("latin-1")
    except UnicodeEncodeError:
        raise UpstreamError(f"the answer's header {name!r} is not Latin-1") from None


def read_timeout_s(extensions: Mapping[str, Any]) -> float | None:
    """How long the client is ready to wait for bytes, from the extensions of its request."""
    timeout: Mapping[str, float | None] = extensions.get("timeout") or {}
    return timeout.get("read")
