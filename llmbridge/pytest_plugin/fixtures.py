"""The fixtures: a test's bridge, its cassette, and a provider that says what the test wants; the same for the session."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llmbridge.pytest_plugin.asked import FakeLLM, LLMCassette
    from llmbridge.pytest_plugin.session_bridge import SessionBridge
    from llmbridge.pytest_plugin.turn import Turn

TURN: "pytest.StashKey[Turn]" = pytest.StashKey()
OF_SESSION: "pytest.StashKey[Callable[..., AbstractContextManager[Turn]]]" = pytest.StashKey()
"""Gives a turn to the fixtures of these names, from the folder of the configuration on."""


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


@pytest.fixture(scope="session")
def session_llm_cassette(request: pytest.FixtureRequest) -> "Generator[LLMCassette]":
    """The cassette of the fixtures that name it: what they ask while they are made is answered from it."""
    from llmbridge.pytest_plugin.asked import LLMCassette  # noqa: PLC0415

    with _of_session(request, "session_llm_cassette", "session_llm_bridge") as turn:
        yield LLMCassette(turn)


@pytest.fixture(scope="session")
def session_llm_bridge(session_llm_cassette: "LLMCassette") -> "SessionBridge":
    """The bridge of that cassette; its clients are answered from there whenever they ask."""
    return session_llm_cassette.bridge


@pytest.fixture(scope="session")
def session_fake_llm(request: pytest.FixtureRequest) -> "Generator[FakeLLM]":
    """A provider for the fixtures that name it: it says what it is told while they are made."""
    from llmbridge.pytest_plugin.asked import FakeLLM  # noqa: PLC0415

    with _of_session(request, "session_fake_llm") as turn:
        yield FakeLLM(turn)


def _turn(request: pytest.FixtureRequest) -> "Turn":
    turn: Turn = request.node.stash[TURN]
    return turn


def _of_session(request: pytest.FixtureRequest, *names: str) -> "AbstractContextManager[Turn]":
    return request.config.stash[OF_SESSION](request.config.rootpath, *names)
