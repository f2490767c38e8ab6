"""The application of the run's server: whose turn it is decides who answers, and whether a token is needed."""

from collections.abc import Callable

from llmbridge.errors import BridgeError, CassetteMiss
from llmbridge.exchange.call import Handle, Reply, Request
from llmbridge.exchange.failure import error_reply
from llmbridge.exchange.intake import shape
from llmbridge.exchange.routing import Router
from llmbridge.frontends.admission import LOOPBACK_HOSTS
from llmbridge.frontends.asgi import ASGIApp, Limits, Scope
from llmbridge.frontends.relay import Receive, Send

# A test may well ask for everything at once.
_LIMITS = Limits(in_flight=4096)


class Gate(ASGIApp):
    """Lets anybody in where nothing can be spent; where a provider's key could be, holders of the token alone."""

    def __init__(self, handle: Handle, token: str | None, may_spend: Callable[[], bool]) -> None:
        super().__init__(
            handle, _encode_error, token=token, allowed_hosts=LOOPBACK_HOSTS, limits=_LIMITS
        )
        self._open = ASGIApp(
            handle, _encode_error, token=None, allowed_hosts=LOOPBACK_HOSTS, limits=_LIMITS
        )
        self._may_spend = may_spend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        if self._may_spend():
            await super().__call__(scope, receive, send)
        else:
            await self._open(scope, receive, send)

    async def shutdown(self) -> None:
        """End what is under way, whoever began it."""
        await self._open.shutdown()
        await super().shutdown()


def nobodys(request: Request) -> Reply:
    """The answer where it is no test's turn."""
    error = CassetteMiss(
        "no test with llmbridge is running: mark it with @pytest.mark.llm_cassette,"
        " or cover all tests with llm_environment = true"
    )
    return error_reply(shape(request, Router().destination(request)), error)


def _encode_error(request: Request, error: BridgeError) -> bytes:
    return shape(request, Router().destination(request)).encode_error(error)
