"""What `Live` expects of whoever sends its requests, and the words for what goes wrong there."""

from collections.abc import Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import Protocol

from llmbridge.errors import (
    StreamTruncated,
    Unreachable,
    UpstreamError,
    UpstreamLimit,
    UpstreamTimeout,
)
from llmbridge.exchange.call import Headers

Fields = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, repr=False)
class Outgoing:
    """A request as the provider gets it, key and all; `tls` where the usual certificates will not do."""

    method: str
    url: str
    fields: Fields
    body: bytes
    tls: SSLContext | None = None


class Answer(Protocol):
    """An HTTP answer whose body is still to come.

    Where it is `resumable`, a `read` that was cancelled has lost nothing and may be called again. It is `whole` when all
    of it has come already.
    """

    status: int
    headers: Headers
    resumable: bool
    whole: bool

    async def read(self) -> bytes:
        """The next bytes; none at the end.

        Raises:
            UpstreamError: the connection broke, or nothing came in time.
        """
        ...

    async def aclose(self) -> None:
        """Let go of the connection. Twice is fine."""
        ...


class Sender(Protocol):
    """Sends requests from any event loop."""

    async def send(self, request: Outgoing, *, fresh: bool = False) -> Answer:
        """The answer's head, body to come; `fresh` asks for a new connection.

        Raises:
            Unanswered: the connection closed before the head; another may do.
            UpstreamError: no answer came.
        """
        ...

    async def aclose(self) -> None:
        """Close this loop's connections, if none is in use."""
        ...


class Unanswered(Unreachable):
    """The connection closed before anything came back."""


@dataclass(frozen=True, slots=True)
class Times:
    """Limits in seconds: to connect, without a byte, for the whole call."""

    connect_s: float
    idle_s: float
    total_s: float

    def no_connection(self, url: str) -> UpstreamTimeout:
        """Connecting took too long."""
        return UpstreamTimeout(
            f"could not connect to {place(url)} within {self.connect_s:g} s:"
            " check the network, or allow more with Live(connect_s=...)"
        )

    def silent(self, url: str) -> UpstreamTimeout:
        """Nothing came for too long."""
        return UpstreamTimeout(
            f"{place(url)} sent nothing for {self.idle_s:g} s: allow more with Live(idle_s=...)"
        )

    def too_long(self, url: str) -> UpstreamTimeout:
        """The call as a whole took too long."""
        return UpstreamTimeout(
            f"{place(url)} took longer than {self.total_s:g} s: allow more with Live(total_s=...)"
        )


def place(url: str) -> str:
    """The address without its query, which may hold a key."""
    return url.partition("?")[0]


def unreachable(url: str, why: str) -> Unreachable:
    """There is no way to the provider."""
    return Unreachable(f"could not reach {place(url)}: {why}; check the base URL and the network")


def unanswered(url: str) -> Unanswered:
    """The connection closed instead of an answer."""
    return Unanswered(f"{place(url)} closed the connection without an answer: try again")


def not_http(url: str, why: str) -> UpstreamError:
    """What came is no HTTP answer."""
    return UpstreamError(f"{place(url)} did not answer in HTTP ({why}): check the base URL")


def head_too_large(url: str) -> UpstreamLimit:
    """The answer's head is more than anybody needs."""
    return UpstreamLimit(f"{place(url)} answered with a head that is too large")


def broke(url: str) -> StreamTruncated:
    """The answer had begun."""
    return StreamTruncated(f"the connection to {place(url)} broke before the end of the answer")
