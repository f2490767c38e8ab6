"""The people who may use a bridge, each with a token that names them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from secrets import token_urlsafe

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.actors import checked_name
from llmbridge.exchange.call import Caller
from llmbridge.exchange.options import all_of

HASHED = "sha256:"
SHORTEST = 16
"""How long a token must be: a hash keeps a longer one secret, and a shorter one can be guessed."""

_HEX = re.compile(r"[0-9a-f]{64}")
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may come in, named by a token; never shown.

    `token` is the token itself, or `sha256:` and its SHA-256 in hex; several may be given while one is exchanged for
    another. Calls are made for `name`, unless the token `acts_for_others`, as that of an application that serves many
    people: then for whom the request names, and `via` in the call's metadata says who asked. `metadata` is kept with
    each call.

    Raises:
        ConfigurationError: a name or a token that cannot be.
    """

    name: str
    token: str | tuple[str, ...] = field(repr=False)
    acts_for_others: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        checked_name(self.name)
        if not self.digests:
            raise ConfigurationError(
                f"{self.name!r} has no token: make one with 'llmbridge token NAME'"
            )

    @property
    def digests(self) -> tuple[bytes, ...]:
        """The hashes of the tokens.

        Raises:
            ConfigurationError: one is no token, or no hash of one.
        """
        tokens = (self.token,) if isinstance(self.token, str) else self.token
        return tuple(_digest(token, self.name) for token in tokens)

    def speaking(self, claimed: Caller) -> Caller:
        """Who asks, where a request with this person's token claims to be of `claimed`."""
        if self.acts_for_others and claimed.actor:
            return replace(claimed, metadata={**claimed.metadata, "via": self.name})
        return replace(claimed, actor=self.name, metadata=self.metadata)


class People:
    """Finds who holds a token: by its hash, so it takes as long for a thousand people as for one.

    Raises:
        ConfigurationError: a name or a token is there twice.
    """

    def __init__(self, people: Iterable[Person] = ()) -> None:
        self._by_digest: dict[bytes, Person] = {}
        names: set[str] = set()
        for person in all_of("people", people, Person):
            if person.name in names:
                raise ConfigurationError(
                    f"{person.name!r} is there twice: give several tokens to one person"
                )
            names.add(person.name)
            for digest in person.digests:
                other = self._by_digest.setdefault(digest, person)
                if other is not person:
                    raise ConfigurationError(
                        f"{person.name!r} has the token of {other.name!r}: make one for each"
                    )
        self.names = tuple(sorted(names))

    def __len__(self) -> int:
        return len(self.names)

    def holder(self, token: str) -> Person | None:
        """Whose token it is."""
        # Where the table's comparison stops tells something of a hash, and so nothing of a token.
        return self._by_digest.get(sha256(token.encode("utf-8", "surrogatepass")).digest())


def make_token() -> str:
    """A token that nobody can guess."""
    return f"llmb_{token_urlsafe(32)}"


def hashed(token: str) -> str:
    """How a token may stand in a file: whoever reads it there cannot use it."""
    return HASHED + sha256(token.encode()).hexdigest()


def _digest(token: str, name: str) -> bytes:
    if token.startswith(HASHED):
        if not _HEX.fullmatch(digest := token.removeprefix(HASHED).lower()):
            raise ConfigurationError(
                f"the hash of {name!r} is none: give {HASHED!r} and 64 hex digits,"
                " as 'llmbridge token NAME' prints them"
            )
        return bytes.fromhex(digest)
    if not _TOKEN.fullmatch(token) or len(token) < SHORTEST:
        raise ConfigurationError(
            f"the token of {name!r} is shorter than {SHORTEST} characters, or has one that no header"
            " can carry: make one with 'llmbridge token NAME'"
        )
    return sha256(token.encode()).digest()
