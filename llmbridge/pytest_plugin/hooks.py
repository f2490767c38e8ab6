"""What happens around each test, and at the end of the run."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmbridge.pytest_plugin.fixtures import TURN
from llmbridge.pytest_plugin.options import MARKER
from llmbridge.pytest_plugin.run import FIXTURES, Run
from llmbridge.pytest_plugin.summary import Tally

if TYPE_CHECKING:
    from llmbridge.pytest_plugin.orphans import Orphans
    from llmbridge.pytest_plugin.turn import Turn

_NAMES = tuple(name.encode() for name in (*FIXTURES, MARKER))
_SENT = "llmbridge"


class LLMBridgeWarning(pytest.PytestWarning):
    """Recordings were left over, or are not what the provider says today."""


def _check_that_vcrpy_leaves_it(item: pytest.Item, turn: "Turn") -> None:
    from llmbridge.pytest_plugin.places import clash  # noqa: PLC0415  # starting stays light

    problem = clash(item, turn.path, writing=turn.may_record)
    if problem:
        pytest.fail(problem, pytrace=False)


def _watching() -> "Orphans":
    from llmbridge.pytest_plugin.orphans import Orphans  # noqa: PLC0415  # few runs ask for it

    return Orphans()


class Hooks:
    """Gives each test its turn, and fails those that pass with a call unanswered or a recording unplayed."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.tally = Tally()
        self.orphans: Orphans | None = _watching() if run.settings.orphans else None
        self._of_session: dict[str, Turn] = {}

    def pytest_pycollect_makemodule(self, module_path: Path) -> None:
        """Clients made by a module that is about to be imported are covered, too."""
        source = module_path.read_bytes()
        if any(name in source for name in _NAMES):
            self.run.cover()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """From here on each test sees to itself."""
        if self.orphans is not None:
            self.orphans.look(session.items, session.config.args)
        if not self.run.settings.covering:
            self.run.environment.restore()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """A test that is not ours runs as if we were not there."""
        if self.run.concerns(item):
            return (yield)
        with self.run.left_alone():
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """The test's turn begins before its fixtures."""
        if self.run.concerns(item):
            try:
                item.stash[TURN] = self.run.begin(item)
            except pytest.UsageError as error:
                raise pytest.fail.Exception(str(error), pytrace=False) from None

    @contextmanager
    def of_session(self, root: Path, *names: str) -> "Generator[Turn]":
        """A turn for the fixtures that name one of these. A part of the tests may play a part of its cassette."""
        turn = self.run.of_session(root)
        self._of_session.update(dict.fromkeys(names, turn))
        try:
            yield turn
        finally:
            for name in names:
                del self._of_session[name]
            verdict = turn.verdict()
            turn.passed = turn.passed and not turn.misses
            self.run.let_go(turn)
            self.tally.add(turn, turn.finish())
        if verdict:
            pytest.fail(verdict, pytrace=False)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """What a fixture asks while it is made is answered by the one of the session's that it names."""
        turn = next(filter(None, map(self._of_session.get, fixturedef.argnames)), None)
        if turn is None:
            return (yield)
        with self.run.lent(turn):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """A test that passed is asked what it missed."""
        turn = item.stash.get(TURN, None)
        if turn is None:
            return (yield)
        _check_that_vcrpy_leaves_it(item, turn)
        try:
            result = yield
        except BaseException as error:
            verdict = self._verdict(turn)
            if verdict and not isinstance(error, pytest.skip.Exception):
                error.add_note(verdict)
            raise
        verdict = self._verdict(turn) or self._leftovers(item)
        if verdict:
            pytest.fail(verdict, pytrace=False)
        turn.passed = True
        for drift in turn.drift:
            item.warn(LLMBridgeWarning(drift))
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """The test's turn ends after its fixtures."""
        turn = item.stash.get(TURN, None)
        if turn is None:
            return (yield)
        try:
            result = yield
        except BaseException:
            turn.passed = False
            raise
        finally:
            verdict = self._verdict(turn)
            turn.passed = turn.passed and not verdict
            self.run.end(turn)
            recording = turn.finish()
            self.tally.add(turn, recording)
            del item.stash[TURN]
        if verdict:
            pytest.fail(verdict, pytrace=False)
        return result

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A worker of pytest-xdist tells what it counted."""
        if self.orphans is not None:
            self.orphans.close()
            self.tally.look(self.orphans)
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_SENT] = self.tally.plain()

    def pytest_deselected(self) -> None:
        """What a test that does not run would have opened is not known."""
        if self.orphans is not None:
            self.orphans.partly = True

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """And the controller adds it up."""
        sent = getattr(node, "workeroutput", {}).get(_SENT)
        if sent is not None:
            self.tally.take(sent)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line, where there is something to tell; -v says more."""
        for line in self.tally.orphans(terminalreporter.config.invocation_params.dir):
            terminalreporter.write_line(line)
        line = self.tally.line()
        if not line or terminalreporter.verbosity < -1:
            return
        terminalreporter.write_line(line)
        if terminalreporter.verbosity > 0:
            for note in self.tally.notes:
                terminalreporter.write_line(f"  {note}")

    def _verdict(self, turn: "Turn") -> str | None:
        """What the test missed, and what the session's fixtures did since this was asked last."""
        turns = dict.fromkeys((turn, *self._of_session.values()))
        return "\n".join(filter(None, (each.verdict() for each in turns))) or None

    def _leftovers(self, item: pytest.Item) -> str | None:
        turn = item.stash[TURN]
        found = turn.leftovers()
        if found and turn.wanted.unused == "warn":
            item.warn(LLMBridgeWarning(found))
            return None
        return found
