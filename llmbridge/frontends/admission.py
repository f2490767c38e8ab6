"""Who may come in over HTTP: Host, Origin, token. No I/O.

Pages in the user's browser reach any port of this machine. A name that resolves here gives itself away by its Host, a
page of another site by its Origin; anybody else on the machine lacks the token.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hmac import compare_digest

from llmbridge.errors import (
    ConfigurationError,
    Forbidden,
    RequestError,
    Unauthorized,
    Unsupported,
)
from llmbridge.exchange.options import all_of
from llmbridge.frontends.passing import CREDENTIALS, credential
from llmbridge.frontends.people import People, Person, make_token
from llmbridge.frontends.variables import PLACEHOLDER_KEY

NOBODY = People()
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})

_SINGLE = frozenset({*CREDENTIALS, "host", "origin", "content-length"})
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?")


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who came in: `person` is whose token it was, None for the server's own or none at all.

    `consumed` are the names of the credentials that were meant for the bridge and go no further.
    """

    consumed: tuple[str, ...] = ()
    person: Person | None = None


class Door:
    """The rules of one server. Fields come by name, in lower case."""

    def __init__(
        self,
        token: str | None,
        allowed_hosts: Collection[str] | None,
        allowed_origins: Collection[str] = (),
        people: People = NOBODY,
    ) -> None:
        if token is not None and not token.strip():
            raise ConfigurationError("the token is empty: give a real one, or token=None for none")
        self._token = token.encode() if token is not None else None
        self._hosts = None if allowed_hosts is None else {name.lower() for name in allowed_hosts}
        self._origins = {name.lower() for name in allowed_origins}
        self._people = people

    @property
    def guarded(self) -> bool:
        """True where a token is asked for."""
        return self._token is not None or len(self._people) > 0

    def check_origin(self, fields: Mapping[str, str]) -> None:
        """Let only known hosts and pages through.

        Raises:
            Forbidden: the Host or the Origin is not allowed.
        """
        host = fields.get("host", "")
        if self._hosts is not None and host_name(host) not in self._hosts:
            raise Forbidden(
                f"this host is not served here: {host[:200]!r}; use the address that the bridge printed, "
                "or name it with --allowed-host or allowed_hosts"
            )
        origin = fields.get("origin")
        if origin is not None and origin.lower() not in self._origins:
            raise Forbidden(
                f"web pages of {origin[:200]!r} may not call this bridge; bridge.serve(allowed_origins=[...]) lets them in"
            )

    def check_caller(
        self,
        method: str,
        fields: Mapping[str, str],
        *,
        bare: bool = False,
        also: Collection[str] = (),
    ) -> Admitted:
        """Let only holders of a token through, pages only with JSON, and no compressed bodies.

        `bare` takes a token without `Bearer` in front, too; fields named in `also` may hold it as well.

        Raises:
            Unauthorized: the token is missing or wrong; which of both is not said.
            Unsupported: the content type or encoding is not taken.
        """
        admitted = self._check_token(fields, bare, also)
        if fields.get("content-encoding", "identity").lower() != "identity":
            raise Unsupported("compressed request bodies are not taken: send the body as it is")
        if "origin" in fields and method not in _BODILESS:
            kind = fields.get("content-type", "").partition(";")[0]
            if kind.strip().lower() != "application/json":
                raise Unsupported("web pages must send application/json")
        return admitted

    def _check_token(
        self, fields: Mapping[str, str], bare: bool, also: Collection[str]
    ) -> Admitted:
        names = (*CREDENTIALS, *also) if self.guarded else CREDENTIALS
        sent = [(name, credential(name, fields, bare=bare)) for name in names if name in fields]
        if not self.guarded:
            return Admitted(tuple(name for name, value in sent if value == PLACEHOLDER_KEY))
        # Each credential is looked at in full, whichever of them is right.
        own = [name for name, value in sent if self._is_token(value)]
        holders = [(name, self._people.holder(value)) for name, value in sent]
        held = [(name, person) for name, person in holders if person is not None]
        if not own and not held:
            raise Unauthorized(
                "the bridge's token is missing or wrong: send it as the API key "
                "('Authorization: Bearer TOKEN' or 'x-api-key: TOKEN')"
                + "".join(f", or in the header {name!r}" for name in also)
            )
        consumed = [name for name in (*own, *(name for name, _ in held)) if name not in also]
        return Admitted(tuple(consumed), None if own else held[0][1])

    def _is_token(self, value: str) -> bool:
        if self._token is None:
            return False
        return compare_digest(value.encode("latin-1", "replace"), self._token)


def host_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names that `allowed_hosts` gives, as a Host field has them; a port says nothing.

    Raises:
        ConfigurationError: one is no name of a host.
    """
    found = {
        name: host_name(name) or host_name(f"[{name}]")
        for name in all_of("allowed_hosts", names, str)
    }
    for name in found:
        if not found[name]:
            raise ConfigurationError(
                f"the allowed host {name!r} is none: give a name such as llm.example.org, without https:// and path"
            )
    return tuple(found.values())


def token_for(asked: str | None, *, spends_keys: bool, people: People = NOBODY) -> str | None:
    """The token of a server: as asked, or with `auto` a random one where a provider's key could be spent.

    People have tokens of their own: where there are some, `auto` makes no other.

    Raises:
        ConfigurationError: it is empty.
    """
    if asked == "":
        raise ConfigurationError("token='' is no token: leave it out, or say token=None")
    if asked != "auto":
        return asked
    return make_token() if spends_keys and not people else None


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
