from collections.abc import Iterator

# Imported first inside a project it would be forgotten with it, and be another module for later tests.
import httpcore2 as httpcore2
import pytest

from llmbridge import Bridge, Script
from tests.pytest_plugin.project import KEY, Project

VARIABLES = ("CI", "OPENAI_BASE_URL", "OPENAI_API_KEY", "NO_PROXY", "no_proxy")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return Project(pytester)


@pytest.fixture
def provider(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bridge]:
    """Where a live call arrives: `1: What time is it?`, `2: ...` and so on; the variables lead there."""
    count = iter(range(1, 99))

    def echo(ask):
        return f"{next(count)}: {ask.context.messages[-1].content[0].text}"

    with Bridge(Script(*[echo] * 20)) as bridge, bridge.serve() as server:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield bridge
