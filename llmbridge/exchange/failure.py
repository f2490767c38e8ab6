"""A refusal, made by hand: a status with the body and the fields that clients read.

Source: the "Errors" and "Rate limits" pages of the Anthropic and OpenAI API references.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from llmbridge.errors import (
    BridgeError,
    ConfigurationError,
    Forbidden,
    Kind,
    NotFound,
    Overloaded,
    RequestError,
    RequestTimeout,
    TooLarge,
    Unauthorized,
    UpstreamError,
    UpstreamTimeout,
)
from llmbridge.exchange.call import Headers, Reply, once
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.error_bodies import error_fields

LONGEST_WAIT_S = 60.0
"""SDKs that are told to wait longer do not: they try again at once."""

NOT_AGAIN = ("x-should-retry", "false")
"""What keeps SDKs from trying again."""


class RateLimited(UpstreamError):
    """The provider has had enough of this client for now."""

    status: ClassVar[int] = 429
    kind: ClassVar[Kind] = "rate_limit"


Told = RequestError | UpstreamError | Overloaded

_BY_STATUS: Mapping[int, type[Told]] = MappingProxyType(
    {
        401: Unauthorized,
        403: Forbidden,
        404: NotFound,
        408: RequestTimeout,
        413: TooLarge,
        429: RateLimited,
        503: Overloaded,
        504: UpstreamTimeout,
        529: Overloaded,
    }
)
_BY_KIND: Mapping[str, type[Told]] = MappingProxyType(
    {kind.kind: kind for kind in (RequestError, UpstreamError, *_BY_STATUS.values())}
)
_MESSAGES: Mapping[int, str] = MappingProxyType(
    {429: "Rate limit reached", 500: "Internal server error", 529: "Overloaded"}
)


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that says no; `retry_after` in seconds, for `retry-after` and `retry-after-ms`.

    Raises:
        ConfigurationError: the status is none of an error, or the time is negative.
    """

    status: int
    message: str = ""
    retry_after: float | None = None

    def __post_init__(self) -> None:
        if self.status not in range(400, 600):
            raise ConfigurationError(f"status {self.status!r} is no error: give 400 to 599")
        if self.retry_after is not None and not 0 <= self.retry_after < math.inf:
            raise ConfigurationError(f"retry_after={self.retry_after!r}: give seconds, 0 or more")

    def reply(self, dialect: Dialect) -> Reply:
        """The answer as this dialect's providers give it."""
        message = self.message or _MESSAGES.get(self.status, f"Status {self.status}")
        body = dialect.encode_error(error_with(self.status, message))
        fields = [("content-type", "application/json"), ("content-length", str(len(body)))]
        return Reply(self.status, Headers([*fields, *self._limits(dialect)]), once(body))

    def _limits(self, dialect: Dialect) -> list[tuple[str, str]]:
        """What tells a client to wait, and that its share is used up."""
        fields: list[tuple[str, str]] = []
        if self.retry_after is not None:
            fields += retry_after_fields(self.retry_after)
        if self.status == 429 and dialect.name.startswith("anthropic."):
            fields.append(("anthropic-ratelimit-requests-limit", "50"))
            fields.append(("anthropic-ratelimit-requests-remaining", "0"))
        elif self.status == 429:
            fields.append(("x-ratelimit-limit-requests", "500"))
            fields.append(("x-ratelimit-remaining-requests", "0"))
            fields.append(("x-ratelimit-reset-requests", f"{self.retry_after or 1:g}s"))
        return fields


def error_reply(dialect: Dialect, error: BridgeError) -> Reply:
    """An error as a whole answer. SDKs are told when to try again, and not to try what cannot succeed."""
    body = dialect.encode_error(error)
    fields = error_fields(body)
    if error.retry_after_s is not None:
        fields += retry_after_fields(error.retry_after_s)
    if _is_hopeless(error):
        fields.append(NOT_AGAIN)
    reply = Reply(error.status, Headers(fields), once(body), at_once=True)
    reply.settled, reply.error = error.end, error
    return reply


def _is_hopeless(error: BridgeError) -> bool:
    if error.final:
        return True
    if error.retry_after_s is not None:
        return error.retry_after_s > LONGEST_WAIT_S
    return error.status < 500 or isinstance(error, RequestError)


def retry_after_fields(seconds: float) -> list[tuple[str, str]]:
    """Whole seconds are all that HTTP knows; both SDKs read the other field first."""
    return [
        ("retry-after", str(math.ceil(seconds))),
        ("retry-after-ms", f"{seconds * 1000:.0f}"),
    ]


def error_with(status: int, message: str) -> Told:
    """The error that goes with this status."""
    return _BY_STATUS.get(status, RequestError if status < 500 else UpstreamError)(message)


def error_of(kind: str, message: str) -> Told:
    """The error of this kind, in our word or a provider's: `overloaded` or `overloaded_error`.

    Raises:
        ConfigurationError: there is no such kind.
    """
    name = kind.removesuffix("_error")
    if name not in _BY_KIND:
        raise ConfigurationError(f"no error {kind!r}: there are {', '.join(_BY_KIND)}")
    return _BY_KIND[name](message or name.replace("_", " ").capitalize())
