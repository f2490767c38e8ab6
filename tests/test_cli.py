"""The program as a user runs it: `python -m llmbridge` in a process of its own."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from llmbridge import Cassette, __version__
from llmbridge.cli import main
from llmbridge.cli.demonstration import SESSIONS
from llmbridge.frontends.people import hashed
from tests.certified import Certified

PROGRAM = (sys.executable, "-m", "llmbridge")
ANTHROPIC = SESSIONS / "anthropic.yaml"
OPENAI = SESSIONS / "openai_chat.yaml"
JSON = {"content-type": "application/json"}


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **environ},
        timeout=30,
        check=False,
    )


@contextmanager
def running(*arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """The program under way; killed where a test leaves it."""
    with subprocess.Popen(
        [*PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, **environ},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ready_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    found = re.fullmatch(
        r"llmbridge listening on (https?://127\.0\.0\.1:\d+)\n", process.stdout.readline()
    )
    assert found, process.communicate(timeout=30)
    return found[1]


def stopped(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it has written, until the end that a signal asked for."""
    process.send_signal(signal.SIGTERM)
    return process.communicate(timeout=30)


def client(url: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, trust_env=False, timeout=20, headers=JSON)


def bodies(path: Path) -> list[bytes]:
    return [record.request.body for record in Cassette.load(path) if record.request]


def in_terminal(*arguments: str, **environ: str) -> tuple[int, str]:
    """Exit code and everything written to a terminal of 80 columns."""
    here, there = pty.openpty()
    environ = {**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm", **environ}
    with subprocess.Popen(
        [*PROGRAM, *arguments], stdout=there, stderr=there, env=environ
    ) as process:
        os.close(there)
        written = b""
        try:
            while piece := os.read(here, 65536):
                written += piece
        except OSError:
            pass  # Linux says EIO when the other end has closed.
        finally:
            os.close(here)
    return process.returncode, written.decode(environ.get("PYTHONIOENCODING", "utf-8"))


def test_a_server_says_where_calls_are_kept(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'calls.db'}"
    said: list[str] = []
    for options in ([], ["--store", database]):
        with running("serve", "--no-token", *options) as server:
            ready_url(server)
            lines = stopped(server)[1].splitlines()
        said += [line for line in lines if line.startswith("calls are kept")]

    assert said == [
        "calls are kept in memory, the newest 256 MB, until it ends: --store keeps them",
        f"calls are kept in {database}",
    ]


def test_a_server_that_records_says_where(tmp_path: Path) -> None:
    file = str(tmp_path / "noon.yaml")

    with running("serve", "--no-token", "--record", file) as server:
        ready_url(server)
        lines = stopped(server)[1].splitlines()

    assert f"what providers answer is recorded in {file}" in lines


def test_the_demo_in_a_pipe_prints_every_reply_and_both_tables_without_control_codes() -> None:
    done = run("demo", "--speed", "0", FORCE_COLOR="1")

    assert (done.returncode, done.stderr) == (0, "")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stdout)
    for line in (
        "anthropic / claude-sonnet-5, POST /anthropic/v1/messages",
        "openai / gpt-4o-mini, POST /openai/v1/chat/completions",
        "openai / gpt-5-mini, POST /openai/v1/responses",
        "  thinking: Two questions in one.",
        '  tool get_weather: {"city": "Lisbon", "unit": "celsius"}',
        '  tool get_time: {"zone": "Asia/Tokyo"}',
        "  text: It is 10:00 in Lisbon and 19:00 in Tokyo",
        "bridge.frames.interceptions()\nprovider",
        "bridge.frames.token_usage()\nmodel",
        "5 replies, 4,897 tokens, $",
        "llmbridge serve --help",
    ):
        assert line in done.stdout


def test_the_demo_in_a_terminal_draws_panels_that_grow() -> None:
    code, screen = in_terminal("demo", "--speed", "10")

    assert code == 0
    assert "╭─" in screen
    assert screen.count("Two questions in") > 1, "drawn again while it grew"
    assert screen.endswith("\r\n")
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l"), "the cursor is shown again"


def test_the_demo_keeps_to_a_terminal_without_colours_or_unicode() -> None:
    code, screen = in_terminal("demo", "--speed", "0", NO_COLOR="1", PYTHONIOENCODING="ascii")

    assert code == 0
    assert "+-" in screen
    assert not re.search(r"\x1b\[(\d+;)*[349]\d", screen)


def test_the_demo_writes_plain_lines_to_a_terminal_when_asked() -> None:
    code, screen = in_terminal("demo", "--speed", "0", "--plain")

    assert (code, "\x1b" in screen) == (0, False)


def test_an_interrupted_demo_leaves_quietly() -> None:
    with running("demo", "--speed", "0.1") as process:
        assert process.stdout is not None
        process.stdout.readline()

        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)

    assert (process.returncode, error) == (130, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_answers_from_all_its_recordings_and_stops_at_a_signal(
    number: signal.Signals,
) -> None:
    with running("serve", "--replay", str(ANTHROPIC), "--replay", str(OPENAI)) as process:
        with client(ready_url(process)) as http:
            replies = [
                http.post("/anthropic/v1/messages", content=bodies(ANTHROPIC)[0]),
                http.post("/anthropic/v1/messages", content=bodies(ANTHROPIC)[0]),
                http.post("/v1/chat/completions", content=bodies(OPENAI)[0]),
                http.post("/v1/messages", content=b"{}"),
            ]

        process.send_signal(number)
        out, error = process.communicate(timeout=30)

    assert (process.returncode, out) == (0, "")
    assert [reply.status_code for reply in replies] == [200, 200, 200, 400]
    assert replies[0].content == next(iter(Cassette.load(ANTHROPIC))).body
    assert "export ANTHROPIC_API_KEY=llmbridge\n" in error
    said = r"Z POST /anthropic/v1/messages anthropic claude-sonnet-5 200 completed 1231\+127tok [\d.]+s$"
    assert len(re.findall(said, error, re.MULTILINE)) == 2
    assert re.search(r"Z POST /v1/messages anthropic - 400 .*: no recording answers", error)


def test_a_server_that_is_stopped_in_the_middle_of_a_reply_ends_it() -> None:
    with running("serve", "--replay", str(OPENAI), "--speed", "0.7") as process:
        with (
            client(ready_url(process)) as http,
            http.stream("POST", "/v1/chat/completions", content=bodies(OPENAI)[1]) as reply,
        ):
            pieces = reply.iter_raw()
            next(pieces)

            process.send_signal(signal.SIGTERM)
            with pytest.raises(httpx2.RemoteProtocolError):
                list(pieces)
        _, error = process.communicate(timeout=30)

    assert process.returncode == 0
    assert "200 bridge_shutdown" in error


def test_what_passes_is_kept_in_the_store(tmp_path: Path) -> None:
    kept = tmp_path / "kept.yaml"
    with running("serve", "--replay", str(ANTHROPIC), "--store", str(kept)) as process:
        with client(ready_url(process)) as http:
            http.post("/v1/messages", content=bodies(ANTHROPIC)[0])

        stopped(process)

    assert bodies(kept) == bodies(ANTHROPIC)[:1]


def test_a_token_made_for_the_run_is_shown_once_and_asked_for() -> None:
    with running("serve") as process:
        with client(ready_url(process)) as http:
            status = http.post("/v1/messages", content=b"{}").status_code

        _, error = stopped(process)

    assert status == 401
    assert len(re.findall(r"llmb_\S+", error)) == 1
    assert "export OPENAI_API_KEY=$LLMBRIDGE_TOKEN\n" in error


def test_a_token_that_was_made_for_a_person_lets_them_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, made, _ = spoken(monkeypatch, capsys, "token", 'Alice O\'Hara: "me"')
    token, row = made.splitlines()
    config = tmp_path / "bridge.yaml"
    config.write_text(f"people:\n{row}\n", "utf-8")
    with running("serve", "--config", str(config), "--replay", str(ANTHROPIC)) as process:
        with client(ready_url(process)) as http:
            statuses = [
                http.post("/v1/messages", content=bodies(ANTHROPIC)[0], headers=headers).status_code
                for headers in ({}, {"x-api-key": token})
            ]

        _, error = stopped(process)

    assert (statuses, token in row, token in error) == ([401, 200], False, False)
    assert "export OPENAI_API_KEY=$LLMBRIDGE_TOKEN\n" in error


def test_a_budget_outlives_the_server(tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    tokens = [f"llmb_the-token-of-{name}" for name in ("alice", "bob")]
    with running("serve", "--replay", str(ANTHROPIC)) as provider:
        config.write_text(
            f"store: sqlite:///{tmp_path / 'usage.db'}\n"
            f"upstream: {{anthropic: '{ready_url(provider)}'}}\n"
            "people:\n"
            f"  - {{name: alice, token: '{hashed(tokens[0])}'}}\n"
            f"  - {{name: bob, token: '{hashed(tokens[1])}'}}\n"
            "budgets: [{tokens: 1}]\n",
            "utf-8",
        )
        found = []
        for _ in range(2):
            with running("serve", "--config", str(config), ANTHROPIC_API_KEY="k") as process:
                with client(ready_url(process)) as http:
                    found.append(_asked(http, tokens[0]))
                    found.append(_asked(http, tokens[0]))
                stopped(process)
        with (
            running("serve", "--config", str(config), ANTHROPIC_API_KEY="k") as process,
            client(ready_url(process)) as http,
        ):
            found.append(_asked(http, tokens[1]))

    assert found == [200, 429, 429, 429, 200]


def _asked(http: httpx2.Client, token: str) -> int:
    headers = {"x-api-key": token}
    return http.post("/v1/messages", content=bodies(ANTHROPIC)[0], headers=headers).status_code


def test_a_token_that_the_user_gives_is_asked_for_and_never_shown() -> None:
    with running("serve", "--replay", str(ANTHROPIC), LLMBRIDGE_TOKEN="hush") as process:
        with client(ready_url(process)) as http:
            statuses = [
                http.post("/v1/messages", content=bodies(ANTHROPIC)[0], headers=headers).status_code
                for headers in ({}, {"x-api-key": "hush"})
            ]

        _, error = stopped(process)

    assert (statuses, "hush" in error) == ([401, 200], False)


def test_an_upstream_given_by_url_is_asked() -> None:
    with (
        running("serve", "--replay", str(OPENAI)) as provider,
        running(
            "serve",
            "--no-token",
            "--upstream",
            f"openai={ready_url(provider)}",
            OPENAI_API_KEY="k",
        ) as relay,
        client(ready_url(relay)) as http,
    ):
        reply = http.post("/openai/v1/chat/completions", content=bodies(OPENAI)[0])

    assert reply.content == next(iter(Cassette.load(OPENAI))).body


@pytest.mark.parametrize("options", [["--record"], ["--mode", "once", "--replay"]], ids=str)
def test_what_is_asked_may_be_recorded(tmp_path: Path, options: list[str]) -> None:
    path = tmp_path / "session.yaml"
    with running("serve", "--replay", str(OPENAI)) as provider:
        upstream = f"openai={ready_url(provider)}"
        options = ["serve", "--no-token", "--upstream", upstream, *options, str(path)]
        with running(*options, OPENAI_API_KEY="k") as relay, client(ready_url(relay)) as http:
            reply = http.post("/openai/v1/chat/completions", content=bodies(OPENAI)[0])
            relay.send_signal(signal.SIGTERM)
            relay.wait(20)

    assert [record.body for record in Cassette.load(path)] == [reply.content]


def test_a_file_says_what_the_options_leave_open(tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text(
        "replay: ${RECORDED}\ntoken: sesame\nspeed: 1\nlog: debug\nrewrite: [{append_text: ' Hi.'}]\n"
    )
    options = ["serve", "--config", str(config), "--speed", "0", "--port", "0"]
    with running(*options, RECORDED=str(ANTHROPIC)) as process:
        with client(ready_url(process)) as http:
            statuses = [
                http.post("/v1/messages", content=bodies(ANTHROPIC)[0], headers=headers).status_code
                for headers in ({}, {"x-api-key": "sesame"})
            ]

        _, error = stopped(process)

    # Nobody recorded the changed request.
    assert statuses == [401, 400]
    assert "DEBUG llmbridge.bodies: " in error
    assert " Hi." in error
    assert "sesame" not in error


def test_https_is_served_under_the_names_that_are_allowed(
    tmp_path: Path, certified: Certified
) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text(f"tls_cert: {certified.chain}\ntls_key: {certified.key}\nno_token: true\n")
    options = ["--config", str(config), "--allowed-host", "llm.example.org"]
    with running("serve", "--replay", str(ANTHROPIC), *options) as process:
        url = ready_url(process)
        with httpx2.Client(verify=certified.trusting(), trust_env=False) as http:
            statuses = [
                http.get(f"{url}/healthz", headers={"host": host}).status_code
                for host in ("llm.example.org", "127.0.0.1", "evil.example.org")
            ]

    assert (url.partition(":")[0], statuses) == ("https", [200, 200, 403])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--tls-key", "a.pem"], "--tls-key is the key of a certificate: give --tls-cert with it"),
        (["--tls-cert", "none.pem"], "'none.pem' cannot be read: No such file or directory"),
    ],
)
def test_a_certificate_that_will_not_do_is_told(options: list[str], complaint: str) -> None:
    done = run("serve", "--replay", str(ANTHROPIC), *options)

    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"llmbridge: {complaint}\n")


@pytest.mark.parametrize("options", [["--no-token"], ["--token", "other"]], ids=str)
def test_an_option_wins_over_the_file(tmp_path: Path, options: list[str]) -> None:
    config = tmp_path / "bridge.toml"
    config.write_text(f'token = "sesame"\nrecord = "{tmp_path / "made.yaml"}"\nlog = "warning"\n')
    replay = ["--replay", str(ANTHROPIC)]
    with running("serve", "--config", str(config), *replay, *options) as process:
        with client(ready_url(process)) as http:
            headers = {"x-api-key": "other"}
            reply = http.post("/v1/messages", content=bodies(ANTHROPIC)[0], headers=headers)
        _, error = stopped(process)

    assert reply.status_code == 200
    assert not (tmp_path / "made.yaml").exists()
    assert "POST /v1/messages" not in error


def test_a_log_level_given_there_wins_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "bridge.toml"
    config.write_text('log = "debug"\n')
    options = ["--replay", str(ANTHROPIC), "--log", "info"]
    with running("serve", "--config", str(config), *options) as process:
        with client(ready_url(process)) as http:
            http.post("/v1/messages", content=bodies(ANTHROPIC)[0])
        _, error = stopped(process)

    assert ("POST /v1/messages" in error, "DEBUG" in error) == (True, False)


def test_a_log_for_programs_is_an_object_a_line() -> None:
    options = ["--replay", str(ANTHROPIC), "--log-format", "json", "--log", "debug"]
    with running("serve", *options) as process:
        with client(ready_url(process)) as http:
            http.post("/v1/messages", content=bodies(ANTHROPIC)[0])
        _, error = stopped(process)

    lines = [json.loads(line) for line in error.splitlines()]
    asked = next(line for line in lines if line["message"] == "interception")
    assert (asked["level"], asked["status"], asked["end"]) == ("info", 200, "completed")
    assert {line.get("logger") for line in lines} >= {None, "llmbridge.bodies"}


@pytest.mark.parametrize("sdk", [None, "sdk_tracer_provider"])
def test_who_wants_spans_is_told_where_nothing_sends_them(sdk: str | None) -> None:
    environ = {"OTEL_PYTHON_TRACER_PROVIDER": sdk} if sdk else {}
    with running("serve", "--replay", str(ANTHROPIC), "--traces", **environ) as process:
        ready_url(process)
        _, error = stopped(process)

    assert error.count("opentelemetry-instrument -- llmbridge serve") == (0 if sdk else 1)


def test_a_served_bridge_counts_when_asked() -> None:
    with (
        running("serve", "--replay", str(ANTHROPIC), "--metrics") as process,
        client(ready_url(process)) as http,
    ):
        http.post("/v1/messages", content=bodies(ANTHROPIC)[0])
        reply = http.get("/metrics")

    assert "interceptions_total{" in reply.text


@pytest.fixture
def handlers() -> Iterator[None]:
    """The signal handlers of this process, put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def spoken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[object, str, str]:
    """Exit code, output and errors of the command line in this process."""
    monkeypatch.setattr(sys, "argv", ["llmbridge", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code, *capsys.readouterr()


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            "--replay /nowhere/session.yaml",
            "there is no cassette at '/nowhere/session.yaml': record it with --mode 'once', or give",
        ),
        ("--replay pyproject.toml --upstream openai=http://x", "--upstream would do nothing"),
        ("--host 0.0.0.0", "pass --allow-remote and a token"),
        ("--host 0.0.0.0 --allow-remote --no-token", "pass --allow-remote and a token"),
        ("--upstream openai", "--upstream 'openai' is not NAME=URL"),
        ("--upstream openai=http://a --upstream openai=http://b", "is http://a and http://b: give"),
        ("--upstream openai=127.0.0.1:9000", "'openai' is '127.0.0.1:9000': give http://HOST"),
        ("--upstream nobody=http://127.0.0.1:9000", "--upstream names 'nobody'"),
        ("--token a --no-token", "contradict each other"),
        ("--log loud", "--log is 'loud': give one of warning, info, debug"),
        ("--log-format xml", "--log-format is 'xml': give one of text, json"),
        ("--speed 1", "give --replay PATH with it"),
        ("--mode once", "give --replay PATH with it"),
        ("--record a.yaml --replay b.yaml", "give the one or the other"),
        (
            "--replay tests --mode all",
            "--mode 'all' records into one file, and 'tests' is a folder",
        ),
        ("--replay pyproject.toml --mode some", "--mode 'some': give one of none, once"),
        ("--record x.txt", "a file that ends in .yaml, .yml, .json: give 'x.txt.yaml'"),
        ("--record noext", "'noext' cannot be written: recordings go into a file that ends in"),
        ("--record somedir/", "'somedir' cannot be written: recordings go into a file that ends"),
        ("--record pyproject.toml/x.yaml", "takes no file (Not a directory): give another path"),
        ("--store pyproject.toml/x.yaml", "takes no file (Not a directory): give another path"),
        ("--config nowhere.yaml", "nowhere.yaml cannot be read: No such file or directory"),
        ("--config pyproject.toml", "pyproject.toml: there is no key 'build-system'"),
        ("--store notes.txt", "--store 'notes.txt'"),
        ("--store sqlite:///a.db?mode=ro", "--store 'sqlite:///a.db?mode=ro'"),
        ("--allowed-host https://llm.example.org", "the allowed host 'https://llm.example.org' is"),
        ("--host 192.0.2.1 --allow-remote", "give an address of this machine, or 0.0.0.0"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: str,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("LLMBRIDGE_TOKEN", raising=False)

    code, out, error = spoken(monkeypatch, capsys, "serve", *arguments.split())

    assert (code, out) == (2, "")
    assert error.startswith("llmbridge: ")
    assert complaint in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("handlers")
def test_a_port_that_is_taken_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])

        code, out, error = spoken(monkeypatch, capsys, "serve", "--port", port)

    assert (code, out) == (2, "")
    assert re.fullmatch(rf"llmbridge: .*{port}.*--port 0 .*\n", error)


OPTIONS = {
    "demo": "--speed --plain",
    "prune": "--store --older-than --dry-run --json",
    "usage": "--store --by --since --until --model --actor --provider --json",
    "export": "--store --to --force --since --only --json",
    "token": "--json",
    "serve": "--host --port --token --no-token --replay --mode --record --speed --store --no-bodies --workers --upstream --config --log --log-format --metrics --traces --allow-remote --allowed-host --tls-cert --tls-key",
}


@pytest.mark.parametrize("command", OPTIONS)
def test_help_explains_every_option_and_gives_examples(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = spoken(monkeypatch, capsys, command, "--help")

    explained = re.findall(r"^  (--[a-z-]+) .*\w", out, re.MULTILINE)
    examples = re.findall(rf"^    .*llmbridge {command}\b", out, re.MULTILINE)
    assert (code, explained) == (0, OPTIONS[command].split())
    assert len(examples) > 1


def test_alone_it_shows_its_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = spoken(monkeypatch, capsys)

    assert alone == spoken(monkeypatch, capsys, "--help")
    assert alone[0] == 0


def test_it_tells_its_version() -> None:
    assert run("--version").stdout == f"llmbridge {__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    heavy = "{'aiohttp', 'httpx', 'httpx2', 'pandas', 'rich', 'uvicorn'}"

    code = f"import sys, llmbridge.cli; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
