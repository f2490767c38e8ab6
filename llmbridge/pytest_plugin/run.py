"""One run of pytest: one address, one server, one test's turn after the other."""

import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llmbridge.pytest_plugin.blocking import Blocker
from llmbridge.pytest_plugin.doorway import Doorway
from llmbridge.pytest_plugin.environment import Environment
from llmbridge.pytest_plugin.options import MARKER, Settings, Wanted

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from llmbridge.exchange.call import Handler, Reply, Request
    from llmbridge.frontends.server import Server
    from llmbridge.pytest_plugin.session_bridge import SessionBridge
    from llmbridge.pytest_plugin.turn import Turn

SESSION_FIXTURES = ("session_llm_bridge", "session_llm_cassette", "session_fake_llm")
FIXTURES = ("llm_bridge", "llm_cassette", "fake_llm", *SESSION_FIXTURES)


class Run:
    """What outlives a test. The address is taken when first needed; the server starts when somebody comes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.environment = Environment()
        self.turn: Turn | None = None
        self._rewritten: set[Path] = set()
        self._doorway: Doorway | None = None
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()
        self._key: str | None = None
        self._blocker = Blocker(self._refused) if settings.block_network else None

    def cover(self) -> None:
        """Lead the SDKs here."""
        self.environment.lead_to(self.url, self.key)

    def close(self) -> None:
        """Give everything back."""
        self.environment.restore()
        if self._doorway is not None:
            self._doorway.close()
        self._stack.close()
        self._block(False)

    @property
    def url(self) -> str:
        """Where the server is, or will be."""
        if self._doorway is None:
            self._doorway = Doorway(self._open_server)
        return self._doorway.url

    @property
    def key(self) -> str | None:
        """What SDKs send: the server's token where one may be needed."""
        if self._key is None and self.settings.may_spend:
            import secrets  # noqa: PLC0415

            self._key = f"llmb_{secrets.token_urlsafe(32)}"
        return self._key

    def concerns(self, item: pytest.Item) -> bool:
        """True when the test is ours: it says so, or all are and it is not vcrpy's."""
        names = getattr(item, "fixturenames", ())
        if item.get_closest_marker(MARKER) or any(name in names for name in FIXTURES):
            return True
        return self.settings.covering and item.get_closest_marker("vcr") is None

    def begin(self, item: pytest.Item) -> "Turn":
        """The test's turn; the SDKs are led here until it ends.

        Raises:
            pytest.UsageError: the test's marker says what cannot be.
        """
        from llmbridge.pytest_plugin.places import cassette_of  # noqa: PLC0415
        from llmbridge.pytest_plugin.turn import Turn  # noqa: PLC0415

        wanted = self.settings.wanted(item.get_closest_marker(MARKER))
        _check_matching(wanted)
        path = cassette_of(item, wanted.name)
        if wanted.mode == "rewrite" and path in self._rewritten:
            # Tests that share a cassette write it anew together.
            wanted = replace(wanted, mode="all")
        self.turn = Turn(item.nodeid, path, wanted, self._bridge)
        self.cover()
        self._block(not self.turn.may_spend)
        return self.turn

    def of_session(self, root: Path) -> "Turn":
        """A turn beside those of the tests, with a cassette of its own."""
        from llmbridge.pytest_plugin.turn import Turn  # noqa: PLC0415

        path = root / "cassettes" / "session.yaml"
        turn = Turn(".", path, self.settings.wanted(None), self._bridge)
        turn.passed = True
        return turn

    @contextmanager
    def lent(self, turn: "Turn") -> Generator[None]:
        """It is this one's turn for a while, whoever's it was."""
        before, self.turn = self.turn, turn
        self.cover()
        self._block(not turn.may_spend)
        try:
            yield
        except BaseException:
            turn.passed = False
            raise
        finally:
            self.turn = before
            self._block(before is None or not before.may_spend)
            if before is None and not self.settings.covering:
                self.environment.restore()

    def end(self, turn: "Turn") -> None:
        """Nobody's turn, until the next."""
        self.turn = None
        if turn.passed and turn.wanted.mode == "rewrite":
            self._rewritten.add(turn.path)
        self.let_go(turn)
        self._block(True)
        if not self.settings.covering:
            self.environment.restore()

    def let_go(self, turn: "Turn") -> None:
        """Close the connections that it has on the server's loop."""
        if self._portal is not None and turn.may_spend:
            self._portal.call(turn.let_go)

    @contextmanager
    def left_alone(self) -> Generator[None]:
        """Somebody else's test: the environment as it was."""
        self.environment.restore()
        try:
            yield
        finally:
            if self.settings.covering:
                self.cover()

    async def _handle(self, request: "Request") -> "Reply":
        from llmbridge.pytest_plugin.gate import nobodys  # noqa: PLC0415

        turn = self.turn
        return await turn.bridge.handle(request) if turn is not None else nobodys(request)

    def _bridge(self, upstream: "Handler") -> "SessionBridge":
        from llmbridge.pytest_plugin.session_bridge import SessionBridge  # noqa: PLC0415

        real = self.environment.real()
        return SessionBridge(upstream, self.url, self.key, real)

    def _open_server(self, listener: socket.socket) -> "Server":
        from anyio.from_thread import start_blocking_portal  # noqa: PLC0415

        from llmbridge.frontends.server import Server  # noqa: PLC0415
        from llmbridge.pytest_plugin.gate import Gate  # noqa: PLC0415

        gate = Gate(self._handle, self.key, self._may_spend)
        self._portal = self._stack.enter_context(start_blocking_portal())
        return Server(gate, self._portal, port=listener).start()

    def _may_spend(self) -> bool:
        return self.turn is not None and self.turn.may_spend

    def _block(self, on: bool) -> None:
        if self._blocker is not None:
            self._blocker.on = on

    def _refused(self, message: str) -> None:
        if self.turn is not None:
            self.turn.refused.append(message)


def _check_matching(wanted: Wanted) -> None:
    """Tell a mistake before the first call, to which it would look like a provider's failure."""
    if not wanted.matching:
        return
    from llmbridge.errors import ConfigurationError  # noqa: PLC0415
    from llmbridge.exchange.matching import Matcher  # noqa: PLC0415

    try:
        Matcher(**wanted.matching)
    except ConfigurationError as error:
        raise pytest.UsageError(error.message) from error
