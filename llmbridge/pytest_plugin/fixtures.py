"""The fixtures: a test's bridge, its cassette, and a provider that says what the test wants."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llmbridge.pytest_plugin.asked import FakeLLM, LLMCassette
    from llmbridge.pytest_plugin.session_bridge import SessionBridge
    from llmbridge.pytest_plugin.turn import Turn

TURN: "pytest.StashKey[Turn]" = pytest.StashKey()


@pytest.fixture
def llm_bridge(request: pytest.FixtureRequest) -> "SessionBridge":
    """The bridge that answers this test: clients, records and frames of its calls, `url` and `env()` of the server."""
    return _turn(request).bridge


@pytest.fixture
def llm_cassette(request: pytest.FixtureRequest) -> "LLMCassette":
    """This test's cassette: `path`, `records`, `assert_called_with(...)`."""
    from llmbridge.pytest_plugin.asked import LLMCassette  # noqa: PLC0415

    return LLMCassette(_turn(request))


@pytest.fixture
def fake_llm(request: pytest.FixtureRequest) -> "FakeLLM":
    """A provider that says what it is told: `fake_llm("Hello", calls("clock"))`."""
    from llmbridge.pytest_plugin.asked import FakeLLM  # noqa: PLC0415

    return FakeLLM(_turn(request))


def _turn(request: pytest.FixtureRequest) -> "Turn":
    turn: Turn = request.node.stash[TURN]
    return turn
