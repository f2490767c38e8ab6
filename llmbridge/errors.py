"""Every exception of llmbridge.

BridgeError                 status, kind, end: what a client is told and a record keeps
|-- ConfigurationError      the bridge was set up wrongly (also a ValueError)
|-- RequestError            400, the client's fault
|   |-- Unauthorized        401
|   |-- Forbidden           403
|   |-- NotFound            404
|   |-- RequestTimeout      408
|   |-- TooLarge            413
|   |-- Unsupported         415
|   |-- UpgradeRefused      426
|   |-- NotOffered          501
|   |-- CassetteMiss        400, no recording answers
|   |-- ScriptExhausted     400, the script has no reply left
|   `-- ScriptFailed        400, a function in the script raised, or gave no reply
|-- UpstreamError           502, the provider's fault
|   |-- Unreachable         502, nobody answers there
|   |-- MissingKey          401, there is no key to send
|   |-- UpstreamTimeout     504
|   |-- StreamTruncated     502, the answer stopped before its end
|   |   `-- CutOnPurpose    502, a fault was to break the connection
|   `-- UpstreamLimit       502, the answer is larger than the bridge allows
|-- Limited                 429, the caller has had its share for now
|   `-- BudgetSpent         429, nothing is left for today or this month
|-- Overloaded              503, too many calls at once
|   `-- CircuitOpen         503, the provider has failed again and again
|-- StoreUnavailable        503, the start of the call could not be recorded
|-- BridgeShutdown          503, the bridge stops
|-- TooManyRounds           500, the model called tools again and again and has not answered
|-- Stopped                 499, somebody stopped the call
`-- CassetteError           a recording cannot be read or written (also a ValueError)

CassetteMissed              a BaseException: a miss that nobody may swallow
"""

from typing import ClassVar, Literal

End = Literal[
    "completed",
    "truncated",
    "upstream_error",
    "upstream_timeout",
    "client_gone",
    "bridge_limit",
    "bridge_shutdown",
    "interrupted",
]
"""How an exchange ended."""

Kind = Literal[
    "invalid_request",
    "authentication",
    "permission",
    "not_found",
    "too_large",
    "rate_limit",
    "quota",
    "overloaded",
    "timeout",
    "api",
]
"""What went wrong, in words that each dialect has its own name for."""


class BridgeError(Exception):
    """Anything llmbridge raises on purpose; the message says what happened and the next step."""

    status: ClassVar[int] = 500
    kind: ClassVar[Kind] = "api"
    end: ClassVar[End] = "bridge_limit"
    final: bool = False
    """True where clients are not to try again, whatever else the error says."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.loud: type[BaseException] | None = None
        """What frontends in this process raise instead of answering; `except Exception` must not swallow it."""
        self.retry_after_s: float | None = None
        """When to try again, in seconds from now, where that is known."""


class ConfigurationError(BridgeError, ValueError):
    """The bridge, a provider or an option was given wrongly."""


class RequestError(BridgeError):
    """The client's request cannot be served."""

    status: ClassVar[int] = 400
    kind: ClassVar[Kind] = "invalid_request"


class Unauthorized(RequestError):
    """The bridge's token is missing or wrong."""

    status: ClassVar[int] = 401
    kind: ClassVar[Kind] = "authentication"


class Forbidden(RequestError):
    """The Host or Origin of the request is not allowed here."""

    status: ClassVar[int] = 403
    kind: ClassVar[Kind] = "permission"


class NotFound(RequestError):
    """No route, provider or model answers to this name."""

    status: ClassVar[int] = 404
    kind: ClassVar[Kind] = "not_found"


class RequestTimeout(RequestError):
    """The request's body did not come in time."""

    status: ClassVar[int] = 408
    kind: ClassVar[Kind] = "timeout"


class TooLarge(RequestError):
    """The request is larger than the bridge reads."""

    status: ClassVar[int] = 413
    kind: ClassVar[Kind] = "too_large"


class Unsupported(RequestError):
    """The request's content type or encoding is not taken."""

    status: ClassVar[int] = 415


class UpgradeRefused(RequestError):
    """The request wants another protocol than HTTP/1.1; clients take it for a word to fall back."""

    status: ClassVar[int] = 426


class NotOffered(RequestError):
    """The request wants its answer in a way that the bridge has not."""

    status: ClassVar[int] = 501


class CassetteMiss(RequestError):
    """No recording answers the request."""


class CassetteMissed(BaseException):
    """No recording answers, and the code under test must not go on: raised past every `except Exception`."""


class ScriptExhausted(RequestError):
    """The script was asked more often than it has replies."""


class ScriptFailed(RequestError):
    """A function in the script raised, or gave what is no reply."""


class UpstreamError(BridgeError):
    """The provider could not be reached, or broke off."""

    status: ClassVar[int] = 502
    end: ClassVar[End] = "upstream_error"


class Unreachable(UpstreamError):
    """No connection to the provider, or it closed before anything came back."""


class MissingKey(UpstreamError):
    """There is no API key for the provider."""

    status: ClassVar[int] = 401
    kind: ClassVar[Kind] = "authentication"


class UpstreamTimeout(UpstreamError):
    """The provider stayed silent too long."""

    status: ClassVar[int] = 504
    kind: ClassVar[Kind] = "timeout"
    end: ClassVar[End] = "upstream_timeout"


class StreamTruncated(UpstreamError):
    """The answer stopped before its terminal event."""

    end: ClassVar[End] = "truncated"


class CutOnPurpose(StreamTruncated):
    """A fault breaks the connection; a server that can drop it answers nothing."""


class UpstreamLimit(UpstreamError):
    """The provider's answer passed a limit of the bridge."""

    end: ClassVar[End] = "bridge_limit"


class Limited(BridgeError):
    """The caller has asked as much as it may in this minute."""

    status: ClassVar[int] = 429
    kind: ClassVar[Kind] = "rate_limit"


class BudgetSpent(Limited):
    """The caller's budget is spent."""

    kind: ClassVar[Kind] = "quota"


class Overloaded(BridgeError):
    """More calls are under way than the bridge takes at once."""

    status: ClassVar[int] = 503
    kind: ClassVar[Kind] = "overloaded"


class CircuitOpen(Overloaded):
    """The provider has failed again and again, and is left alone for a while."""


class StoreUnavailable(BridgeError):
    """The store did not take the start of the call, so the call was refused."""

    status: ClassVar[int] = 503


class BridgeShutdown(BridgeError):
    """The bridge stops while the answer is under way."""

    status: ClassVar[int] = 503
    kind: ClassVar[Kind] = "overloaded"
    end: ClassVar[End] = "bridge_shutdown"


class TooManyRounds(BridgeError):
    """The model called tools in as many rounds as the bridge allows, and has not answered."""

    final = True


class Stopped(BridgeError):
    """Somebody stopped the call, by `Bridge.stop` or in the inspector."""

    # Clients try 5xx again, and that is not what was wanted.
    status: ClassVar[int] = 499
    end: ClassVar[End] = "interrupted"


class CassetteError(BridgeError, ValueError):
    """A recording cannot be read or written; names the file and the place in it."""
