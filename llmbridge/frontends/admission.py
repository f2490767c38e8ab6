"""Who may come in over HTTP: Host, Origin, token. No I/O.

Pages in the user's browser reach any port of this machine. A name that resolves here gives itself away by its Host, a
page of another site by its Origin; anybody else on the machine lacks the token.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from hmac import compare_digest
from secrets import token_urlsafe

from llmbridge.errors import (
    ConfigurationError,
    Forbidden,
    RequestError,
    Unauthorized,
    Unsupported,
)
from llmbridge.frontends.passing import CREDENTIALS, credential
from llmbridge.frontends.variables import PLACEHOLDER_KEY

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})

_SINGLE = frozenset({*CREDENTIALS, "host", "origin", "content-length"})
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?")


class Door:
    """The rules of one server. Fields come by name, in lower case."""

    def __init__(
        self,
        token: str | None,
        allowed_hosts: Collection[str] | None,
        allowed_origins: Collection[str] = (),
    ) -> None:
        if token is not None and not token.strip():
            raise ConfigurationError("the token is empty: give a real one, or None for no token")
        self._token = token.encode() if token is not None else None
        self._hosts = None if allowed_hosts is None else {name.lower() for name in allowed_hosts}
        self._origins = {name.lower() for name in allowed_origins}

    def check_origin(self, fields: Mapping[str, str]) -> None:
        """Let only known hosts and pages through.

        Raises:
            Forbidden: the Host or the Origin is not allowed.
        """
        host = fields.get("host", "")
        if self._hosts is not None and host_name(host) not in self._hosts:
            raise Forbidden(
                f"this host is not served here: {host[:200]!r}; use the address that the bridge printed, "
                "or name it in allowed_hosts"
            )
        origin = fields.get("origin")
        if origin is not None and origin.lower() not in self._origins:
            raise Forbidden(
                f"web pages of {origin[:200]!r} may not call this bridge; name them in allowed_origins"
            )

    def check_caller(
        self,
        method: str,
        fields: Mapping[str, str],
        *,
        bare: bool = False,
        also: Collection[str] = (),
    ) -> tuple[str, ...]:
        """Let only holders of the token through, pages only with JSON, and no compressed bodies.

        `bare` takes a token without `Bearer` in front, too; fields named in `also` may hold it as well.

        Returns the names of the credentials that were meant for the bridge and go no further.

        Raises:
            Unauthorized: the token is missing or wrong; which of both is not said.
            Unsupported: the content type or encoding is not taken.
        """
        consumed = self._check_token(fields, bare, also)
        if fields.get("content-encoding", "identity").lower() != "identity":
            raise Unsupported("compressed request bodies are not taken: send the body as it is")
        if "origin" in fields and method not in _BODILESS:
            kind = fields.get("content-type", "").partition(";")[0]
            if kind.strip().lower() != "application/json":
                raise Unsupported("web pages must send application/json")
        return consumed

    def _check_token(
        self, fields: Mapping[str, str], bare: bool, also: Collection[str]
    ) -> tuple[str, ...]:
        names = (*CREDENTIALS, *also) if self._token is not None else CREDENTIALS
        sent = [(name, credential(name, fields, bare=bare)) for name in names if name in fields]
        if self._token is None:
            return tuple(name for name, value in sent if value == PLACEHOLDER_KEY)
        # Each credential is compared in full, whichever of them is right.
        held = tuple(
            name
            for name, value in sent
            if compare_digest(value.encode("latin-1", "replace"), self._token)
        )
        if not held:
            raise Unauthorized(
                "the bridge's token is missing or wrong: send it as the API key "
                "('Authorization: Bearer TOKEN' or 'x-api-key: TOKEN')"
                + "".join(f", or in the header {name!r}" for name in also)
            )
        return tuple(name for name in held if name not in also)


def token_for(asked: str | None, *, spends_keys: bool) -> str | None:
    """The token of a server: as asked, or with `auto` a random one where a provider's key could be spent.

    Raises:
        ConfigurationError: it is empty.
    """
    if asked == "":
        raise ConfigurationError("token='' is no token: leave it out, or say token=None")
    if asked != "auto":
        return asked
    return f"llmb_{token_urlsafe(32)}" if spends_keys else None


def fields_by_name(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The fields of a request by name, where names are in lower case.

    Raises:
        RequestError: one that decides who may come in is there twice.
    """
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs if name in _SINGLE]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise RequestError(f"the request repeats {', '.join(twice)}: send it once")
    return fields


@lru_cache(maxsize=256)
def host_name(authority: str) -> str:
    """The host of a Host field without its port, in lower case; empty when it is none."""
    match = _AUTHORITY.fullmatch(authority.lower())
    return (match[1] or match[2]) if match else ""
