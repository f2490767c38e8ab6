"""`%%llm`, as cells of a shell."""

import atexit
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import llmbridge
from llmbridge import Bridge, Call, Reply, Script, Text, fail


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    quiet = Config(
        {"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}}
    )
    made = InteractiveShell(config=quiet)
    llmbridge.load_ipython_extension(made)
    yield made
    for value in made.user_ns.values():
        if isinstance(value, Bridge):
            value.close()
    atexit.unregister(made.atexit_operations)
    made.atexit_operations()


@pytest.fixture
def run(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Run a cell; what it shows."""

    def cell(code: str) -> str:
        shell.run_cell(code, store_history=True)
        out, err = capsys.readouterr()
        return f"{out}{err}"

    return cell


def script(shell: InteractiveShell, *lines: Any, name: str = "bridge") -> Bridge:
    made = Bridge(Script(*lines), environ={})
    shell.user_ns[name] = made
    return made


def test_a_cell_is_a_prompt_and_its_answer_is_shown_and_kept(shell: Any, run: Any) -> None:
    bridge = script(shell, "It is noon.")

    shown = run("%%llm openai/gpt-5-mini\nWhat time is it?\n")

    assert shown == "It is noon.\n"
    assert shell.user_ns["_"].text == shell.user_ns["Out"][1].text == "It is noon."
    (record,) = bridge.records
    assert _ask(record).context.messages[0].content == (Text("What time is it?"),)


def test_the_line_says_who_answers_and_how(shell: Any, run: Any) -> None:
    bridge = script(shell, "Noon.", name="fake")
    shell.user_ns["how"] = "brief"

    run(
        "%%llm claude-sonnet-5 --system 'Be {how}.' --max-tokens 7 --temperature 0.5"
        " --bridge fake --to answer\nWhat time is it?"
    )

    ask = _ask(bridge.records[0])
    assert (
        ask.model,
        ask.context.system,
        ask.options["max_tokens"],
        ask.options["temperature"],
    ) == (
        "claude-sonnet-5",
        "Be brief.",
        7,
        0.5,
    )
    assert shell.user_ns["answer"].text == "Noon."


@pytest.mark.parametrize(
    ("said", "provider", "model", "dialect"),
    [
        ("gpt-5-mini", "openai", "gpt-5-mini", "openai.chat"),
        ("gemini-3-flash", "google", "gemini-3-flash", "google.gemini"),
        ("gpt-5-mini --api openai.responses", "openai", "gpt-5-mini", "openai.responses"),
        ("openrouter/openai/gpt-5-mini", "openrouter", "openai/gpt-5-mini", "openai.chat"),
        ("some/model --provider openrouter", "openrouter", "some/model", "openai.chat"),
    ],
)
def test_a_model_is_found_by_its_name(
    shell: Any, run: Any, said: str, provider: str, model: str, dialect: str
) -> None:
    bridge = script(shell, "Noon.")

    run(f"%%llm {said}\nWhat time is it?")

    (record,) = bridge.records
    assert (record.provider, record.model, record.dialect) == (provider, model, dialect)


def test_what_a_line_alone_says_need_not_be_repeated(shell: Any, run: Any) -> None:
    bridge = script(shell, "one", "two")

    run("%llm openai/gpt-5-mini --system Briefly.")
    run("%%llm\nFirst")
    run("%%llm --system Loudly.\nSecond")

    said = [(ask.model, ask.context.system) for ask in map(_ask, bridge.records)]
    assert said == [("gpt-5-mini", "Briefly."), ("gpt-5-mini", "Loudly.")]


def _ask(record: Any) -> Any:
    return record.ask()


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("%%llm\nHi", "who shall answer? Say %%llm openai/gpt-5-mini, for example"),
        ("%%llm nobody\nHi", "whose model is 'nobody'? Say provider/model, or --provider NAME"),
        ("%%llm gpt-5 --speed 3\nHi", "unrecognized arguments: --speed 3; %%llm? tells more"),
        ("%%llm gpt-5 --system 'Be\nHi", '"gpt-5 --system \'Be": No closing quotation'),
        ("%%llm gpt-5\n \n", "the prompt is missing: write it below the line with %%llm"),
        (
            "%%llm gpt-5 --bridge other\nHi",
            "'other' is of int: name a variable with a Bridge, --bridge NAME",
        ),
        ("%%llm x --provider nobody\nHi", "no provider 'nobody': there are anthropic, openai, "),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(
    shell: Any, run: Any, cell: str, shown: str
) -> None:
    script(shell)
    shell.user_ns["other"] = 3

    told = run(cell)

    first = told.splitlines()[0]
    assert (first[: len(shown) + 12], told.count("\n")) == (f"UsageError: {shown}", 1)


def test_an_error_of_the_provider_fails_the_cell(shell: Any, run: Any) -> None:
    script(shell, fail(529))

    result = shell.run_cell("%%llm claude-sonnet-5\nHi")

    assert result.success is False
    assert shell.user_ns["_"].error_type == "overloaded_error"


def test_where_there_is_no_bridge_one_is_made(
    shell: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    told = run("%%llm openai/gpt-5-mini\nHi")

    assert "OPENAI_API_KEY" in told
    assert isinstance(shell.user_ns["bridge"], Bridge)


def test_an_interrupt_stops_the_upstream_and_keeps_what_came(shell: Any, run: Any) -> None:
    let_go: list[bool] = []
    person = threading.main_thread().ident
    assert person is not None

    async def endless(call: Call) -> Reply:
        whole = await Script("one two three four five")(call)

        async def begun(reply: Reply) -> AsyncIterator[bytes]:
            async with aclosing(reply):
                for _ in range(4):
                    yield await anext(reply)
                signal.pthread_kill(person, signal.SIGINT)
                try:
                    await anyio.sleep_forever()
                finally:
                    let_go.append(True)

        return whole.through(begun)

    shell.user_ns["bridge"] = bridge = Bridge(endless, environ={})

    told = run("%%llm openai/gpt-5-mini\nCount")

    assert told.splitlines()[-1] == "Stopped: what came until now is in _"
    assert shell.user_ns["_"].text == "one two three"
    assert (let_go, bridge.inflight, bridge.records[0].end) == ([True], (), "client_gone")
    assert bridge.records[0].message is not None
    assert bridge.records[0].message.text == "one two three"


def test_a_call_that_is_stopped_says_what_an_interrupt_does(shell: Any, run: Any) -> None:
    async def endless(call: Call) -> Reply:
        whole = await Script("one two three four five")(call)

        async def begun() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield await anext(whole)
            bridge.stop(bridge.inflight[0])
            try:
                await anyio.sleep_forever()
            finally:
                await whole.aclose()

        return Reply(whole.status, whole.headers, begun())

    shell.user_ns["bridge"] = bridge = Bridge(endless, environ={})

    told = run("%%llm openai/gpt-5-mini\nCount")
    frame = bridge.frames.interceptions()

    assert told.splitlines()[-1] == "Stopped: what came until now is in _"
    assert shell.user_ns["_"].text == "one two three"
    assert frame[["end", "error_type"]].values.tolist() == [["interrupted", "stopped"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--to 1x", "--to '1x' is no name of a variable: say --to answer"),
        ("--to class", "--to 'class' is no name of a variable: say --to answer"),
        ("--bridge nobridge", "no variable 'nobridge': make it first, nobridge = Bridge()"),
    ],
)
def test_a_name_that_cannot_be_is_refused(shell: Any, run: Any, words: str, said: str) -> None:
    shell.user_ns["bridge"] = bridge = Bridge(Script("One."))

    told = run(f"%%llm openai/gpt-5-mini {words}\nCount")

    assert told.strip().splitlines()[-1] == f"UsageError: {said}"
    assert (len(bridge.records), "nobridge" in shell.user_ns) == (0, False)


def test_a_name_in_the_system_prompt_that_nobody_knows_brings_a_warning(
    shell: Any, run: Any
) -> None:
    shell.user_ns["bridge"] = Bridge(Script("One."))

    with pytest.warns(UserWarning, match="no variable 'unknown', so {unknown} stays as it is"):
        run('%%llm openai/gpt-5-mini --system "Only {unknown} here"\nCount')

    assert shell.user_ns["_"].text == "One."


def test_help_is_shown_in_the_cell(run: Any) -> None:
    assert "--max-tokens N" in run("%llm --help")


def test_the_magic_tells_how_it_is_used(shell: Any, run: Any) -> None:
    told = shell.magics_manager.magics["cell"]["llm"].__doc__

    assert "--max-tokens N" in told
    assert "%%llm anthropic/claude-sonnet-5" in told
