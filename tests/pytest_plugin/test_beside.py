"""The plugin among others, in processes of their own."""

import sys

import pytest

from tests.pytest_plugin.project import outcomes

pytest_plugins = ["pytester"]

HEAVY = (
    "anyio",
    "asyncio",
    "httpx",
    "httpx2",
    "msgspec",
    "pandas",
    "sqlalchemy",
    "uvicorn",
    "yaml",
)


def test_starting_loads_nothing_heavy(project, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    project.write("test_it.py", "def test_it(): ...")
    start = "pytest.main(['--collect-only', '-q', '-p', 'llmbridge.pytest_plugin'])"

    run = project.pytester.run(
        sys.executable, "-c", f"import pytest, sys; {start}; print(sorted(sys.modules))"
    )

    assert [name for name in HEAVY if f"'{name}'" in run.stdout.str()] == []


def test_the_plugin_can_be_left_out(project):
    project.write("test_it.py", "def test_it(llm_bridge): ...")

    result = project.run_apart("-p", "no:llmbridge", "-p", "no:asyncio")

    assert outcomes(result) == {"errors": 1}
    result.stdout.fnmatch_lines(["*fixture 'llm_bridge' not found"])


def test_workers_of_xdist_have_a_server_each_and_one_summary(project):
    for number in range(8):
        project.cassette(f"test_hour[{number}]", {"What time is it?": f"It is {number}."})
    project.tests("""
@pytest.mark.parametrize("hour", range(8))
def test_hour(hour):
    assert ask("What time is it?") == f"It is {hour}."

def test_miss():
    ask("What day is it?")
""")

    result = project.run_apart("-n", "2", "--llm-record=none")

    assert outcomes(result) == {"passed": 8, "failed": 1}
    result.stdout.fnmatch_lines(["llmbridge: 8 played, 1 missed, 56 tokens and $0.0001 not spent"])


def test_async_tests_of_pytest_asyncio_and_anyio_are_answered(project):
    for test in ("test_asyncio", "test_anyio"):
        project.cassette(test)
    project.tests("""
import openai

pytestmark = pytest.mark.llm_cassette
QUESTION = {"model": "gpt-5-mini", "input": "What time is it?"}

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.asyncio
async def test_asyncio(llm_bridge):
    async with llm_bridge.async_openai() as client:
        assert (await client.responses.create(**QUESTION)).output_text == "It is noon."

@pytest.mark.anyio
async def test_anyio(anyio_backend):
    async with openai.AsyncOpenAI() as client:
        assert (await client.responses.create(**QUESTION)).output_text == "It is noon."
""")

    assert outcomes(project.run_apart()) == {"passed": 2}


@pytest.mark.feature("replay", 2)
def test_tests_of_pytest_recording_stay_theirs_and_their_cassettes_can_be_ours(project):
    for test in ("test_theirs", "test_ours"):
        project.cassette(test)
    project.tests("""
@pytest.mark.vcr
def test_theirs(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1")
    assert ask("What time is it?") == "It is noon."

@pytest.mark.llm_cassette
def test_ours():
    assert ask("What time is it?") == "It is noon."
""")

    blocked = ("--block-network", "--allowed-hosts=127.0.0.1", "--llm-block-network")
    result = project.run_apart(*blocked)

    assert outcomes(result) == {"passed": 2}
    result.stdout.fnmatch_lines(["llmbridge: 1 played, *"])


def test_unittest_cases_are_covered(project):
    project.cassette("TestClock.test_noon")
    project.tests("""
import unittest

class TestClock(unittest.TestCase):
    def test_noon(self):
        self.assertEqual(ask("What time is it?"), "It is noon.")

    def test_miss(self):
        ask("What day is it?")
""")

    result = project.run_apart("--llm-record=none", "-p", "no:asyncio")

    assert outcomes(result) == {"passed": 1, "failed": 1}
