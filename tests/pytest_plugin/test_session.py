import pytest

from llmbridge import Bridge, Script
from tests.pytest_plugin.project import Project, outcomes

pytest_plugins = ["pytester"]

NOTES = """
import pytest

@pytest.fixture(scope="session")
def notes(session_llm_cassette):
    from agent import ask
    return ask("What day is it?")
"""

TESTS = """
@pytest.mark.llm_cassette
@pytest.mark.parametrize("place", [1, 2])
def test_noon(notes, place):
    assert (notes, ask("What time is it?")) == ("It is Monday.", "It is noon.")
"""


@pytest.fixture
def suite(project: Project) -> Project:
    project.write("conftest.py", NOTES)
    project.tests(TESTS)
    for name in ("test_noon[1]", "test_noon[2]"):
        project.cassette(name)
    return project


def record(suite: Project) -> None:
    with Bridge(Script("It is Monday."), store=suite.path / "cassettes" / "session.yaml") as bridge:
        bridge.openai().responses.create(model="gpt-5-mini", input="What day is it?")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((), {"passed": 2}), (("-k", "noon and 2"), {"passed": 1, "deselected": 1})],
    ids=["all", "a part"],
)
def test_a_fixture_of_the_session_is_answered_from_a_cassette_of_its_own(
    suite: Project, arguments: tuple[str, ...], expected: dict[str, int]
) -> None:
    record(suite)

    assert outcomes(suite.run(*arguments)) == expected


def test_it_is_recorded_and_replayed_as_a_tests_is(suite: Project, provider: Bridge) -> None:
    suite.tests("""
def test_day(notes):
    assert notes == "1: What day is it?"
""")

    first, second = suite.run("--llm-record=once"), suite.run("--llm-block-network")

    assert outcomes(first) == outcomes(second) == {"passed": 1}
    first.stdout.fnmatch_lines(["llmbridge: 1 recorded"])
    second.stdout.fnmatch_lines(["llmbridge: 1 played*"])


def test_a_miss_fails_the_test_that_came_first_and_no_other(suite: Project) -> None:
    suite.tests(TESTS.replace("It is Monday.", "I do not know."))

    result = suite.run()

    assert outcomes(result) == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(["cassette: *session.yaml (not there)"])


def test_what_is_recorded_by_a_fixture_that_fails_is_set_aside(
    suite: Project, provider: Bridge
) -> None:
    suite.write("conftest.py", NOTES.replace("return ask", "assert not ask"))

    assert outcomes(suite.run("--llm-record=once")) == {"errors": 2}

    assert [path.name for path in (suite.path / "cassettes").glob("session*")] == [
        "session.yaml.failed"
    ]


def test_clients_of_its_bridge_ask_it_whenever_they_ask(suite: Project) -> None:
    record(suite)
    suite.write("conftest.py", NOTES.replace("session_llm_cassette", "session_llm_bridge"))
    suite.tests("""
def test_day(session_llm_bridge):
    reply = session_llm_bridge.openai().responses.create(model="gpt-5-mini", input="What day is it?")
    assert reply.output_text == "It is Monday."
""")

    assert outcomes(suite.run()) == {"passed": 1}


def test_a_scripted_provider_of_the_session_leaves_that_of_the_test_alone(suite: Project) -> None:
    suite.write(
        "conftest.py",
        NOTES.replace("session_llm_cassette", "session_fake_llm").replace(
            "    return", '    session_fake_llm("It is Monday.")\n    return'
        ),
    )
    suite.tests("""
def test_noon(fake_llm, notes):
    fake_llm("It is noon.")
    assert (notes, ask("What time is it?")) == ("It is Monday.", "It is noon.")

def test_asked(session_fake_llm, fake_llm):
    session_fake_llm.assert_called(1)
    fake_llm.assert_called(0)
""")

    assert outcomes(suite.run()) == {"passed": 2}


def test_a_test_that_asks_for_it_on_the_way_sees_the_environment_as_it_was(suite: Project) -> None:
    record(suite)
    suite.write(
        "test_agent.py",
        """
import os

def test_day(request):
    before = dict(os.environ)
    assert request.getfixturevalue("notes") == "It is Monday."
    assert dict(os.environ) == before
""",
    )

    assert outcomes(suite.run()) == {"passed": 1}
