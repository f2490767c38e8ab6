from typing import Any

import pytest

from llmbridge import Cassette, calls
from tests.pytest_plugin.project import KEY, outcomes

pytest_plugins = ["pytester"]

NOON = """
@pytest.mark.llm_cassette
def test_noon():
    assert ask("What time is it?") == "1: What time is it?"
"""
ECHO = """
@pytest.mark.llm_cassette{marker}
def test_noon():
    for question in {asked}:
        assert ask(question, tries=1).endswith(question)
    {end}
"""


def questions(path: Any) -> Any:
    asks: Any = [record.ask() for record in Cassette.load(path)]
    return [ask.context.messages[-1].content[0].text for ask in asks]


def test_once_records_what_none_plays(project, provider):
    project.tests(NOON)

    recorded = project.run("--llm-record=once", "-v")
    played = project.run("--llm-block-network")

    path = project.path / "cassettes/test_agent/test_noon.yaml"
    assert [outcomes(recorded), outcomes(played)] == [{"passed": 1}, {"passed": 1}]
    assert len(provider.records) == 1
    assert KEY not in path.read_text()
    recorded.stdout.fnmatch_lines(["llmbridge: 1 recorded", f"  recorded {path}"])
    played.stdout.fnmatch_lines(["llmbridge: 1 played, *"])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("mode", "asked", "live", "kept"),
    [
        ("once", ["a", "b"], [], ["a"]),
        ("new_episodes", ["a", "b"], ["b"], ["a", "b"]),
        ("all", ["a", "b"], ["a", "b"], ["a", "a", "b"]),
        ("rewrite", ["b"], ["b"], ["b"]),
        ("live", ["a", "b"], ["a", "b"], ["a"]),
        ("verify", ["a"], ["a"], ["a"]),
        ("none", ["a", "b"], [], ["a"]),
    ],
)
def test_each_mode_records_what_it_does_for_vcrpy(project, provider, mode, asked, live, kept):
    path = project.cassette("test_noon", {"a": "0: a"})
    project.tests(ECHO.format(marker="", asked=asked, end=""))

    result = project.run(f"--llm-record={mode}")

    missed = mode in ("none", "once")
    assert outcomes(result) == ({"failed": 1} if missed else {"passed": 1})
    assert [asked.context.messages[-1].content[0].text for asked in provider.upstream.asked] == live
    assert questions(path) == kept


def test_a_failing_test_leaves_its_cassette_and_sets_the_new_one_aside(project, provider):
    path = project.cassette("test_noon", {"a": "0: a"})
    project.tests(ECHO.format(marker="", asked=["a", "b"], end="assert not 'so'"))

    result = project.run("--llm-record=new_episodes", "-v")

    aside = path.with_name("test_noon.yaml.failed")
    assert outcomes(result) == {"failed": 1}
    assert questions(path) == ["a"]
    assert "input" in aside.read_text()
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, aside.name]
    result.stdout.fnmatch_lines([f"  set aside {aside}"])


@pytest.mark.feature("replay", 6)
@pytest.mark.parametrize("end", ["", "assert not 'so'"], ids=["passed", "failed"])
def test_neither_a_cassette_nor_what_is_set_aside_holds_a_secret(project, provider, end):
    project.tests(ECHO.format(marker="", asked=[KEY], end=end))

    project.run("--llm-record=once")

    (path,) = (project.path / "cassettes").rglob("test_noon*")
    assert path.name == ("test_noon.yaml.failed" if end else "test_noon.yaml")
    assert KEY not in path.read_text()
    assert "<redacted:openai-key>" in path.read_text()


@pytest.mark.parametrize(
    ("marker", "setting", "arguments", "live"),
    [
        ("(mode='once')", "", [], 0),
        ("", "llm_record = once", [], 0),
        ("", "", ["--llm-record=once"], 1),
    ],
    ids=["marker", "ini", "option"],
)
def test_in_ci_only_the_command_line_goes_live(
    project, provider, monkeypatch, marker, setting, arguments, live
):
    monkeypatch.setenv("CI", "true")
    project.write("pytest.ini", f"[pytest]\n{setting}\n")
    project.tests(ECHO.format(marker=marker, asked=["a"], end=""))

    result = project.run(*arguments)

    assert outcomes(result) == ({"passed": 1} if live else {"failed": 1})
    assert len(provider.records) == live


def test_where_a_key_could_be_spent_strangers_are_refused(project, provider):
    project.tests("""
import httpx2

def status(url, key):
    body = {"model": "gpt-5-mini", "input": "a"}
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.post(f"{url}/openai/v1/responses", json=body, headers=headers).status_code

def test_live(llm_bridge):
    keys = ["a-strangers", llm_bridge.env()["OPENAI_API_KEY"]]
    assert [status(llm_bridge.url, key) for key in keys] == [401, 200]
""")

    assert outcomes(project.run("--llm-record=live")) == {"passed": 1}
    assert len(provider.records) == 1


@pytest.mark.parametrize("mode", ["new_episodes", "all", "rewrite"])
def test_a_cassette_that_tests_share_keeps_what_each_of_them_recorded(project, provider, mode):
    if mode == "rewrite":
        project.cassette("shared", {"old": "0: old"})
    project.tests("""
@pytest.mark.llm_cassette("shared", unused="ignore")
@pytest.mark.parametrize("letter", "ab")
def test_letters(letter):
    assert letter in ask(letter)
""")

    recorded = project.run(f"--llm-record={mode}")
    played = project.run()

    assert [outcomes(recorded), outcomes(played)] == [{"passed": 2}, {"passed": 2}]
    assert questions(project.path / "cassettes/test_agent/shared.yaml") == ["a", "b"]


def test_a_cassette_that_somebody_else_recorded_meanwhile_keeps_both(project, provider):
    elsewhere = project.cassette("elsewhere", {"b": "0: b"})
    project.tests(f"""
@pytest.mark.llm_cassette
def test_noon(llm_cassette):
    assert ask("a") == "1: a"
    os.rename({str(elsewhere)!r}, llm_cassette.path)
""")

    result = project.run("--llm-record=once")

    assert outcomes(result) == {"passed": 1}
    assert questions(elsewhere.with_name("test_noon.yaml")) == ["b", "a"]


def test_verify_tells_what_has_changed_since(project, provider):
    project.cassette("test_noon", {"a": calls("clock")})
    project.tests("""
@pytest.mark.llm_cassette
def test_noon(llm_bridge):
    reply = llm_bridge.openai().responses.create(model="gpt-5-mini", input="a")
    assert reply.output[0].name == "clock"
""")

    result = project.run("--llm-record=verify")

    assert outcomes(result) == {"passed": 1}
    result.stdout.fnmatch_lines(["*LLMBridgeWarning: *", "llmbridge: 1 verified"])
