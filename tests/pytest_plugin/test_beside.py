"""The plugin among others, in processes of their own."""

import sys

import pytest
import yaml

from llmbridge import Bridge, Script
from tests.pytest_plugin.project import KEY, outcomes

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


BOTH = """
import urllib.request

@pytest.fixture
def vcr_config():
    return {{"ignore_localhost": True, "ignore_hosts": ["127.0.0.2"]}}

@pytest.mark.vcr
@pytest.mark.llm_cassette{name}
def test_both():
    assert ask("What time is it?") == "It is noon."
    with urllib.request.urlopen({health!r}) as answer:
        assert answer.status == 200
"""


@pytest.fixture
def elsewhere(monkeypatch):
    """A provider at a host that vcrpy would record, and the address of something else at another."""
    provider, other = Bridge(Script("It is noon.")), Bridge(Script())
    with (
        provider,
        other,
        provider.serve("127.0.0.2") as server,
        other.serve("127.0.0.3") as health,
    ):
        monkeypatch.setenv("OPENAI_BASE_URL", server.env()["OPENAI_BASE_URL"])
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield f"{health.url}/healthz"


def test_a_test_may_be_vcrpys_for_what_it_asks_of_others(project, elsewhere):
    project.tests(BOTH.format(name='("test_both.llm")', health=elsewhere))

    recorded = project.run_apart("--record-mode=once", "--llm-record=once")
    played = project.run_apart("--block-network", "--allowed-hosts=127.0.0.1")

    assert outcomes(recorded) == outcomes(played) == {"passed": 1}
    folder = project.path / "cassettes" / "test_agent"
    asked = {
        file.name: [entry["request"]["uri"].rpartition("/")[2] for entry in entries(file)]
        for file in folder.iterdir()
    }
    assert asked == {"test_both.yaml": ["healthz"], "test_both.llm.yaml": ["responses"]}


def entries(path):
    return yaml.safe_load(path.read_text())["interactions"]


@pytest.mark.parametrize("mode", ["--record-mode=once", "--llm-record=once"])
def test_a_file_that_vcrpy_would_write_as_well_is_refused_before_anybody_asks(
    project, elsewhere, mode
):
    project.tests(BOTH.format(name="", health=elsewhere))

    result = project.run_apart(mode)

    assert outcomes(result) == {"failed": 1}
    told = "@pytest.mark.vcr and @pytest.mark.llm_cassette would both write *test_both.yaml: "
    remedy = "*@pytest.mark.llm_cassette('test_both.llm')*ignore_hosts*"
    result.stdout.fnmatch_lines([told + remedy])
    assert not (project.path / "cassettes").exists()


def test_a_file_that_both_read_is_as_vcrpy_recorded_it(project):
    project.cassette("test_both")
    project.tests("""
@pytest.mark.vcr(ignore_localhost=True)
@pytest.mark.llm_cassette
def test_both():
    assert ask("What time is it?") == "It is noon."
""")

    assert outcomes(project.run_apart("--llm-record=once")) == {"passed": 1}


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
