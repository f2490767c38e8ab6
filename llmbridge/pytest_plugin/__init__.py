"""The pytest plugin: recorded and scripted providers for tests. Loaded in every run, so what is heavy is imported late."""

import os

import pytest

from llmbridge.pytest_plugin import options
from llmbridge.pytest_plugin.fixtures import (
    OF_SESSION,
    fake_llm,
    llm_bridge,
    llm_cassette,
    session_fake_llm,
    session_llm_bridge,
    session_llm_cassette,
)
from llmbridge.pytest_plugin.hooks import Hooks
from llmbridge.pytest_plugin.run import Run

__all__ = [
    "fake_llm",
    "llm_bridge",
    "llm_cassette",
    "session_fake_llm",
    "session_llm_bridge",
    "session_llm_cassette",
]

_HOOKS: pytest.StashKey[Hooks] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    options.add(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Cover the run before any conftest is imported: it may import the application, and that make clients."""
    _prepare(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Take part in the run."""
    config.addinivalue_line(
        "markers",
        f"{options.MARKER}(name, mode, match, ignore, normalize, strict, speed, unused): "
        "answer the test's LLM calls from its cassette.",
    )
    hooks = _prepare(config)
    config.stash[OF_SESSION] = hooks.of_session
    config.pluginmanager.register(hooks, "llmbridge-hooks")


def _prepare(config: pytest.Config) -> Hooks:
    if _HOOKS not in config.stash:
        run = Run(options.Settings.read(config))
        config.stash[_HOOKS] = Hooks(run)
        config.add_cleanup(run.close)
        if run.settings.covering and not _only_distributes(config):
            run.cover()
    return config.stash[_HOOKS]


def _only_distributes(config: pytest.Config) -> bool:
    """True in the controller of pytest-xdist, whose workers inherit its environment and run the tests."""
    options = config.known_args_namespace
    wanted = getattr(options, "numprocesses", None) or getattr(options, "tx", None)
    return bool(wanted) and "PYTEST_XDIST_WORKER" not in os.environ
