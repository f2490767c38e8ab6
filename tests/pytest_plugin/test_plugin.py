import os
import sys

import pytest

from tests.pytest_plugin.project import outcomes

pytest_plugins = ["pytester"]


# Answers


def test_an_agent_made_at_import_is_answered_from_the_cassette_of_its_test(project):
    project.cassette("test_noon")
    project.tests("""
@pytest.mark.llm_cassette
def test_noon():
    assert ask("What time is it?") == "It is noon."
""")

    result = project.run()

    assert outcomes(result) == {"passed": 1}
    result.stdout.fnmatch_lines(["llmbridge: 1 played, 7 tokens and less than $0.0001 not spent"])


def test_clients_of_the_fixtures_need_no_variables(project):
    project.cassette("test_noon")
    project.tests("""
def test_noon(llm_bridge, llm_cassette):
    reply = llm_bridge.openai().responses.create(model="gpt-5-mini", input="What time is it?")

    assert reply.output_text == "It is noon."
    assert len(llm_cassette.played) == len(llm_bridge.records) == len(llm_cassette.recordings) == 1
    assert llm_cassette.path.name == "test_noon.yaml" and llm_cassette.mode == "none"
    llm_cassette.assert_called_with({"input": "What time is it?"})
    with pytest.raises(AssertionError, match="the last request differs: .*input"):
        llm_cassette.assert_called_with({"input": "What day is it?"})
""")

    assert outcomes(project.run()) == {"passed": 1}


def test_programs_that_a_test_starts_are_answered(project):
    project.cassette("test_noon")
    project.tests("""
import subprocess, sys

@pytest.mark.llm_cassette
def test_noon():
    code = "from agent import ask; print(ask('What time is it?'))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "It is noon.\\n"
""")

    assert outcomes(project.run()) == {"passed": 1}


def test_each_test_has_its_own_cassette(project):
    project.cassette("test_hour[early]", {"What time is it?": "It is six."})
    project.cassette("test_hour[late]", {"What time is it?": "It is ten."})
    project.cassette("TestClock.test_hour")
    project.cassette("shared")
    project.cassette(f"test_long[{'long' * 60}]")
    project.cassette("test_odd[what- is-it-]")
    project.tests("""
@pytest.mark.llm_cassette
@pytest.mark.parametrize("hour", ["six", "ten"], ids=["early", "late"])
def test_hour(hour):
    assert ask("What time is it?") == f"It is {hour}."

class TestClock:
    @pytest.mark.llm_cassette
    def test_hour(self):
        assert ask("What time is it?") == "It is noon."

@pytest.mark.llm_cassette("shared")
def test_shared(llm_bridge):
    assert ask("What time is it?") == "It is noon."
    assert len(llm_bridge.records) == 1

@pytest.mark.llm_cassette
@pytest.mark.parametrize("text", ["text"], ids=["long" * 60])
def test_long(text):
    assert ask("What time is it?") == "It is noon."

@pytest.mark.llm_cassette
@pytest.mark.parametrize("text", ["what: is/it?"])
def test_odd(text):
    assert ask("What time is it?") == "It is noon."
""")

    assert outcomes(project.run()) == {"passed": 6}


def test_a_scripted_provider_says_its_lines_to_every_client(project):
    project.tests("""
from llmbridge import calls

def test_lines(fake_llm):
    fake_llm("Hello.", calls("clock", zone="Asia/Tokyo"))
    question = {"role": "user", "content": "Time?"}

    assert ask("Hello?") == "Hello."
    message = fake_llm.anthropic().messages.create(
        model="claude-sonnet-5", max_tokens=99, messages=[question]
    )
    assert message.content[0].input == {"zone": "Asia/Tokyo"}
    fake_llm("Bye.")
    assert ask("Bye?") == "Bye."
    assert [asked.model for asked in fake_llm.asks] == ["gpt-5-mini", "claude-sonnet-5", "gpt-5-mini"]
    fake_llm.assert_called(3)
    fake_llm.assert_called_with({"model": ..., "input": "Bye?"})
""")

    result = project.run()

    assert outcomes(result) == {"passed": 1}
    result.stdout.fnmatch_lines(["llmbridge: 3 scripted"])


# Strictness


@pytest.mark.feature("replay", 7)
def test_a_miss_fails_the_test_of_an_agent_that_swallows_it(project):
    project.cassette("test_noon")
    project.tests("""
@pytest.mark.llm_cassette(unused="ignore")
def test_noon():
    assert ask("What day is it?") == "I do not know."
""")

    result = project.run()

    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(
        [
            "2 LLM calls found no answer:",
            "*no recording answers*differs in $.input: *time*day*(2 times)",
            f"cassette: {project.path}/cassettes/test_agent/test_noon.yaml",
            "record:   pytest 'test_agent.py::test_noon' --llm-record=rewrite",
        ]
    )


def test_a_call_that_was_added_to_a_test_can_be_added_to_its_cassette(project):
    project.cassette("test_noon")
    project.tests("""
@pytest.mark.llm_cassette
def test_noon():
    ask("What time is it?")
    ask("What day is it?")
""")

    result = project.run()

    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(
        ["record:   pytest 'test_agent.py::test_noon' --llm-record=new_episodes"]
    )


def test_a_client_of_the_fixtures_raises_a_miss_where_it_happens(project):
    project.tests("""
def test_noon(llm_bridge):
    with llm_bridge.openai() as client:
        try:
            client.responses.create(model="gpt-5-mini", input="What time is it?")
        except Exception:
            pass
    raise ValueError("never comes here")
""")

    result = project.run()

    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(["E *: no recording answers POST /responses*"])
    result.stdout.no_fnmatch_line("E *never comes here*")


def test_a_miss_in_an_async_client_fails_only_its_test(project):
    project.cassette("test_noon")
    project.tests("""
pytestmark = [pytest.mark.llm_cassette, pytest.mark.anyio]

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.parametrize("text", ["What day is it?"])
async def test_miss(llm_bridge, text):
    async with llm_bridge.async_openai() as client:
        await client.responses.create(model="gpt-5-mini", input=text)

async def test_noon(llm_bridge):
    async with llm_bridge.async_openai() as client:
        reply = await client.responses.create(model="gpt-5-mini", input="What time is it?")
    assert reply.output_text == "It is noon."
""")

    assert outcomes(project.run()) == {"failed": 1, "passed": 1}


def test_a_miss_is_told_beside_another_failure(project):
    project.tests("""
@pytest.mark.llm_cassette
def test_noon():
    assert ask("What time is it?") == "It is noon."
""")

    result = project.run()

    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(
        ["*AssertionError*", "*2 LLM calls found no answer:", "*test_noon.yaml (not there)"]
    )


def test_a_miss_in_a_fixture_that_ends_is_an_error(project):
    project.tests("""
@pytest.fixture
def diary():
    yield
    ask("What was today?")

@pytest.mark.llm_cassette
def test_noon(diary):
    pass
""")

    assert outcomes(project.run()) == {"passed": 1, "errors": 1}


def test_a_recording_answers_once(project):
    project.cassette("test_noon")
    project.cassette("test_lax")
    project.tests("""
@pytest.mark.llm_cassette
def test_noon():
    assert [ask("What time is it?") for _ in range(2)] == ["It is noon.", "I do not know."]

@pytest.mark.llm_cassette(strict=False)
def test_lax():
    assert [ask("What time is it?") for _ in range(2)] == ["It is noon."] * 2
""")

    result = project.run()

    assert outcomes(result) == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(["every recording of POST /responses*was played (1)*"])


UNPLAYED = """
{marker}
def test_noon():
    {body}
"""


@pytest.mark.parametrize(
    ("marker", "body", "arguments", "expected"),
    [
        ("@pytest.mark.llm_cassette", "pass", [], {"failed": 1}),
        ("@pytest.mark.llm_cassette", "pass", ["--llm-unused=warn"], {"passed": 1}),
        ("@pytest.mark.llm_cassette", "pass", ["--llm-unused=ignore"], {"passed": 1}),
        ("@pytest.mark.llm_cassette(unused='ignore')", "pass", [], {"passed": 1}),
        ("@pytest.mark.llm_cassette(mode='live')", "pass", [], {"passed": 1}),
        ("", "pass", ["--llm-record=none"], {"failed": 1}),
        ("@pytest.mark.llm_cassette", "pytest.skip('today')", [], {"skipped": 1}),
    ],
    ids=["fail", "warn", "ignore", "marker", "live", "unmarked", "skipped"],
)
def test_a_recording_that_was_not_played(project, marker, body, arguments, expected):
    project.cassette("test_noon")
    project.tests(UNPLAYED.format(marker=marker, body=body))

    result = project.run(*arguments)

    assert outcomes(result) == expected
    assert ("holds what was not played" in result.stdout.str()) == (
        expected == {"failed": 1} or "--llm-unused=warn" in arguments
    )


def test_what_was_not_played_is_told_by_its_place_and_its_question(project):
    long = "What day is it? " * 9
    project.cassette("test_noon", {"What time is it?": "It is noon.", long: "It is Monday."})
    project.tests("""
@pytest.mark.llm_cassette
def test_noon():
    assert ask("What time is it?") == "It is noon."
""")

    result = project.run()

    assert outcomes(result) == {"failed": 1}
    told = (
        f"  test_noon.yaml#1, '{long[:77]}...': Record(openai openai.responses 'gpt-5-mini': 200 "
    )
    assert told in result.stdout.str()


def test_what_is_for_no_model_is_told_by_its_address(project):
    project.write(
        "cassettes/test_agent/test_noon.yaml",
        """
interactions:
- request: {method: GET, uri: "https://example.com/weather", body: null, headers: {}}
  response: {status: {code: 200, message: OK}, headers: {}, body: {string: rain}}
version: 1
""",
    )
    project.tests(UNPLAYED.format(marker="@pytest.mark.llm_cassette", body="pass"))

    result = project.run()

    assert "  test_noon.yaml#0, 'GET https://example.com/weather': Record(" in result.stdout.str()


def test_what_was_not_played_is_not_told_on_top_of_a_failure(project):
    project.cassette("test_noon")
    project.tests("""
@pytest.mark.llm_cassette
def test_noon():
    raise ValueError("first things first")
""")

    result = project.run()

    assert outcomes(result) == {"failed": 1}
    result.stdout.no_fnmatch_line("*not played*")


@pytest.mark.parametrize(
    ("lines", "asked", "told"),
    [
        (2, 1, "  'Hello.'"),
        (1, 2, "*the script's lines are all said (1)*"),
        (0, 1, "*was asked once more*"),
    ],
)
def test_a_script_is_said_to_its_end_and_no_further(project, lines, asked, told):
    project.tests(f"""
def test_lines(fake_llm):
    fake_llm(*["Hello."] * {lines})
    for _ in range({asked}):
        ask("Hello?", tries=1)
""")

    result = project.run()

    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines([told])


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("def say(ask): raise AssertionError('no tools')", "*AssertionError('no tools')*"),
        ("def say(ask): return 5", "*gave 5: give text, reply(...) or fail(...)*"),
    ],
)
def test_a_function_in_the_script_fails_the_test_of_an_agent_that_swallows_it(
    project, function, told
):
    project.tests(f"""
def test_lines(fake_llm):
    {function}
    fake_llm(say)
    ask("What time is it?", tries=1)
""")

    result = project.run()

    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines([told])


def test_a_cassette_that_cannot_be_read_fails_the_test(project):
    path = project.cassette("test_noon")
    path.write_text("interactions: [")
    project.tests("""
@pytest.mark.llm_cassette
def test_noon():
    ask("What time is it?")
""")

    result = project.run()

    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(
        [
            "*test_noon.yaml*",
            f"cassette: {path}",
            "record:   pytest 'test_agent.py::test_noon' --llm-record=rewrite",
        ]
    )


# The environment


def test_other_tests_see_the_environment_as_it_was(project, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    project.cassette("test_ours")
    project.tests("""
@pytest.mark.llm_cassette
def test_ours():
    assert os.environ["OPENAI_BASE_URL"] != "http://127.0.0.1:9/v1"
    assert ask("What time is it?") == "It is noon."

def test_other():
    assert os.environ["OPENAI_BASE_URL"] == "http://127.0.0.1:9/v1"
    assert "OPENAI_API_KEY" not in os.environ
""")

    result = project.run()

    assert outcomes(result) == {"passed": 2}
    assert os.environ["OPENAI_BASE_URL"] == "http://127.0.0.1:9/v1"


def test_a_run_without_llm_tests_is_left_alone(project):
    project.tests(
        """
def test_other():
    assert "OPENAI_BASE_URL" not in os.environ
""".replace("from agent import ask", "")
    )
    project.write("agent.py", "def ask(): ...")

    result = project.run()

    assert outcomes(result) == {"passed": 1}
    result.stdout.no_fnmatch_line("*llmbridge*played*")


@pytest.mark.parametrize("said", ["option", "ini"])
def test_an_option_or_a_setting_covers_every_test_from_the_first_conftest_on(project, said):
    project.cassette("test_noon")
    project.write("conftest.py", "import agent")
    project.tests("""
def test_noon():
    assert ask("What time is it?") == "It is noon."

@pytest.mark.vcr
def test_of_vcrpy():
    assert "OPENAI_BASE_URL" not in os.environ
""")
    vcr = "[pytest]\nmarkers = vcr\n"
    project.write("pytest.ini", vcr if said == "option" else f"{vcr}llm_environment = true\n")

    result = project.run(*(["--llm-record=none"] if said == "option" else []))

    assert outcomes(result) == {"passed": 2}
    assert "OPENAI_BASE_URL" not in os.environ


# What cannot be


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ("name='../../elsewhere'", "'../../elsewhere' is no name for a cassette: *"),
        ("mode='sometimes'", "mode='sometimes' is none of none, once, *"),
        ("speed=-1", "*speed=-1: give 0 for instant*"),
        ("max_age='old'", "llm_max_age='old': give a number of days*"),
        ("colour='red'", "@pytest.mark.llm_cassette takes name, *"),
        ("match='loosely'", "match='loosely': give one of default, *"),
        ("ignore='$.user'", "*: give a list of them"),
        ("'one', 'two'", "@pytest.mark.llm_cassette takes name, *"),
    ],
)
def test_a_marker_that_cannot_be_is_one_clear_error(project, marker, told):
    project.tests(f"""
@pytest.mark.llm_cassette({marker})
def test_noon(): ...
""")

    result = project.run()

    assert outcomes(result) == {"errors": 1}
    result.stdout.fnmatch_lines([told])
    assert "another exception" not in result.stdout.str()


def test_an_unknown_setting_is_one_clear_error(project):
    project.write("pytest.ini", "[pytest]\nllm_unused = perhaps\n")

    result = project.run()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *llm_unused='perhaps' is none of ignore, warn, fail"])


def test_a_blocked_connection_fails_the_test_that_tried(project):
    project.cassette("test_noon")
    project.tests("""
import socket

@pytest.mark.llm_cassette
def test_noon():
    assert ask("What time is it?") == "It is noon."
    with pytest.raises(Exception, match="refused by --llm-block-network"):
        socket.create_connection(("192.0.2.1", 443))

def test_name():
    try:
        socket.getaddrinfo("example.com", 443)
    except Exception:
        pass
""")

    result = project.run_apart("--llm-block-network")

    assert outcomes(result) == {"failed": 2}
    result.stdout.fnmatch_lines(
        ["*connection to '192.0.2.1' refused*", "*connection to 'example.com' refused*"]
    )


@pytest.mark.skipif(
    sys.platform == "win32",
    reason="needs uvloop, which is not made for Windows: run it on Linux or macOS",
)
def test_a_connection_below_python_is_blocked_too(project):
    project.tests("""
import asyncio
import uvloop

async def reach(way):
    with pytest.raises(RuntimeError, match="refused by --llm-block-network"):
        await way(asyncio.get_running_loop())

@pytest.mark.parametrize("way", [
    lambda loop: loop.create_connection(asyncio.Protocol, "192.0.2.1", 443),
    lambda loop: loop.create_connection(asyncio.Protocol, host="192.0.2.1", port=443),
    lambda loop: loop.getaddrinfo("192.0.2.1", 443),
    lambda loop: loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("192.0.2.1", 53)),
])
def test_away(way):
    uvloop.run(reach(way))

def test_home():
    async def serve():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        transport.close()
        server.close()
    uvloop.run(serve())
""")

    result = project.run_apart("--llm-block-network")

    # Whoever tried has failed, whatever it made of the refusal.
    assert outcomes(result) == {"failed": 4, "passed": 1}
    result.stdout.fnmatch_lines(["*connection to '192.0.2.1' refused*"])


# Pace


def test_the_pace_is_the_runs_unless_a_test_has_its_own(project):
    project.cassette("test_as_the_run")
    project.cassette("test_of_its_own")
    project.tests("""
@pytest.mark.llm_cassette
def test_as_the_run(llm_bridge):
    assert "speed=0.5" in repr(llm_bridge.upstream)
    assert ask("What time is it?") == "It is noon."

@pytest.mark.llm_cassette(speed=2)
def test_of_its_own(llm_bridge):
    assert "speed=2" in repr(llm_bridge.upstream)
    assert ask("What time is it?") == "It is noon."
""")

    assert outcomes(project.run("--llm-speed=0.5")) == {"passed": 2}


def test_a_run_is_instant_unless_told(project):
    project.cassette("test_noon")
    project.tests("""
@pytest.mark.llm_cassette
def test_noon(llm_bridge):
    assert "speed=0)" in repr(llm_bridge.upstream)
    assert ask("What time is it?") == "It is noon."
""")

    assert outcomes(project.run()) == {"passed": 1}


@pytest.mark.parametrize("pace", ["fast", "-1", "nan"])
def test_a_pace_that_is_none_ends_the_run_before_it_begins(project, pace):
    project.tests("def test_noon(): pass")

    result = project.run(f"--llm-speed={pace}")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*speed*{pace}*"])


# Age


def test_recordings_past_their_age_are_replayed_with_a_warning_unless_a_test_allows_it(project):
    project.cassette("test_as_the_run")
    project.cassette("test_of_its_own")
    project.write("pytest.ini", "[pytest]\nllm_max_age = 0\n")
    project.tests("""
@pytest.mark.llm_cassette
def test_as_the_run():
    assert ask("What time is it?") == "It is noon."

@pytest.mark.llm_cassette(max_age=1)
def test_of_its_own():
    assert ask("What time is it?") == "It is noon."
""")

    result = project.run()

    assert outcomes(result) == {"passed": 2}
    result.stdout.fnmatch_lines(
        ["test_agent.py::test_as_the_run", "*RecordingsExpired: 1 of the recordings are older*"]
    )
