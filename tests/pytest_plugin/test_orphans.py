"""Which cassettes nobody has any more."""

from itertools import takewhile

import pytest

from tests.pytest_plugin.project import Project, outcomes

pytest_plugins = ["pytester"]

TESTS = """
def test_noon(llm_cassette):
    assert ask("What time is it?") == "It is noon."

@pytest.mark.llm_cassette("shared/noon")
def test_shared():
    assert ask("What time is it?") == "It is noon."

@pytest.mark.vcr("mine.yaml")
def test_of_pytest_recording():
    pass

def test_read():
    open("cassettes/test_agent/read.yaml").close()
"""


@pytest.fixture
def suite(project: Project) -> Project:
    project.tests(TESTS)
    project.write("pytest.ini", "[pytest]\nmarkers = vcr: of pytest-recording\n")
    for name in ("test_noon", "shared/noon", "gone"):
        project.cassette(name)
    for name in ("test_agent/mine", "test_agent/read", "test_away/old", "test_other/kept"):
        project.write(f"cassettes/{name}.yaml", "interactions: []\nversion: 1\n")
    project.write("test_other.py", "def test_kept(): pass\n")
    return project


def lines(result: pytest.RunResult) -> list[str]:
    """The line that counts them, and those that name them."""
    text = result.stdout.lines
    start = next(i for i, line in enumerate(text) if "cassettes that no test has" in line)
    named = takewhile(lambda line: line.startswith("  "), text[start + 1 :])
    return [text[start], *(line.strip() for line in named)]


def run(suite: Project, *arguments: str) -> pytest.RunResult:
    # Apart: what listens to the opening of files cannot be taken off again.
    alone = ("-p", "no:asyncio", "-p", "no:recording", "-p", "no:hypothesispytest")
    return suite.run_apart(*alone, *arguments)


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_what_no_test_has_and_none_opened_is_listed(
    suite: Project, arguments: tuple[str, ...]
) -> None:
    result = run(suite, "--llm-orphans", *arguments)

    assert outcomes(result) == {"passed": 5}
    assert lines(result) == [
        "llmbridge: 3 cassettes that no test has:",
        "cassettes/test_agent/gone.yaml",
        "cassettes/test_away/old.yaml",
        "cassettes/test_other/kept.yaml",
    ]


def test_a_module_that_was_not_collected_keeps_its_own(suite: Project) -> None:
    result = run(suite, "--llm-orphans", "test_agent.py")

    assert lines(result)[1:] == ["cassettes/test_agent/gone.yaml", "cassettes/test_away/old.yaml"]


@pytest.mark.parametrize("arguments", [("-k", "noon"), ("test_agent.py::test_noon",)])
def test_of_a_part_of_the_tests_nothing_is_told(suite: Project, arguments: tuple[str, ...]) -> None:
    result = run(suite, "--llm-orphans", *arguments)

    result.stdout.fnmatch_lines(["llmbridge: no orphans are told*run the whole suite"])


def test_without_the_option_nothing_is_said(suite: Project) -> None:
    assert "no test has" not in run(suite).stdout.str()
