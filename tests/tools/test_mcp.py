"""llmbridge.tools.mcp: servers of the official SDK, in processes of their own."""

import gc
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest

from llmbridge import Bridge, Script, calls
from llmbridge.canon.messages import AssistantMessage, Text, ToolCall, ToolResult
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.toolbox import ToolLimits
from llmbridge.tools.mcp import McpServer, mcp_server

PROGRAM = str(Path(__file__).with_name("mcp_program.py"))
STDIO = (sys.executable, PROGRAM, "stdio")
KEY = {"x-key": "open sesame"}


def clock() -> str:
    """Tell the time."""
    return "noon"


def stdio(name: str = "sky", **settings: Any) -> McpServer:
    return mcp_server(name, STDIO, **settings)


def bound_to(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


@contextmanager
def serving(port: int = 0, *options: str) -> Iterator[int]:
    """The program on loopback; it listens before it runs, so that nobody has to wait for it."""
    with bound_to(port) as bound:
        bound.listen()
        number = bound.fileno()
        command = [sys.executable, PROGRAM, "http", str(number), *options]
        running = subprocess.Popen(command, pass_fds=[number])
        port = bound.getsockname()[1]
    try:
        yield port
    finally:
        running.kill()
        running.wait()


@contextmanager
def reserved() -> Iterator[int]:
    """A port that is nobody else's while servers on it come and go; who connects in between is refused."""
    with bound_to(0) as held:
        yield held.getsockname()[1]


def ask(bridge: Bridge) -> str:
    with bridge.anthropic(max_retries=0) as client:
        message = client.messages.create(
            model="claude-sonnet-5",
            max_tokens=100,
            messages=[{"role": "user", "content": "What is the weather?"}],
        )
    return "".join(block.text for block in message.content if block.type == "text")


def told(bridge: Bridge) -> ToolResult:
    """The last result that the model was told."""
    said = bridge.records[-1].ask()
    assert said is not None
    result = said.context.messages[-1]
    assert isinstance(result, ToolResult)
    return result


def once(name: str, server: McpServer, limits: ToolLimits | None = None, **arguments: Any) -> Any:
    """What the model is told after one call."""
    script = Script(calls(name, **arguments), "Done.")
    with Bridge(script, tools=[server], tool_limits=limits) as bridge:
        assert ask(bridge) == "Done."
        return told(bridge)


def listed(server: McpServer, count: int) -> list[str]:
    """The names on offer, once there are so many of them."""
    names: list[str] = []
    deadline = monotonic() + 40
    while len(names) != count and monotonic() < deadline:
        names = [spec.name for spec in server.specs()]
        Event().wait(0.01)
    return names


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def children() -> set[str]:
    """The processes that this one has started and that are still there."""
    found: set[str] = set()
    for each in Path("/proc/self/task").glob("*/children"):
        # A thread may have ended since it was listed.
        with suppress(OSError):
            found.update(each.read_text().split())
    return found


def is_there(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.feature("aibridge", 16)
def test_a_server_and_a_function_are_offered_together_and_run():
    script = Script(calls("bmcp_sky_weather", city="Oslo"), calls("clock"), "Sun at noon.")
    with Bridge(script, tools=[stdio(allow="^weather"), clock]) as bridge:
        answer = ask(bridge)
        rows = bridge.frames.tool_calls()[["name", "injected", "result"]]
        kept = [tuple(row) for row in rows.itertuples(index=False)]
        asked = bridge.records[0].ask()

    assert answer == "Sun at noon."
    assert kept == [("bmcp_sky_weather", True, "sun in Oslo"), ("clock", True, "noon")]
    assert asked is not None
    [weather, _] = asked.context.tools
    assert (weather.name, weather.description) == ("bmcp_sky_weather", "Tell the weather.")
    assert weather.parameters["required"] == ["city"]


@pytest.mark.feature("gateway", 24)
def test_two_servers_may_have_the_same_tools_and_names_that_providers_refuse():
    servers = [stdio(name, allow="^(path|weather)") for name in ("sky", "sea")]
    script = Script(calls("bmcp_sea_weather", city="Oslo"), "One.", "Two.")
    with Bridge(script, tools=servers) as bridge:
        ask(bridge)
        found = told(bridge)
        names = [spec.name for spec in script.asked[0].context.tools]
        [long, _] = [name for name in names if "long" in name]
    again = once(long, stdio("sea"))

    assert found.content == (Text("sun in Oslo"),)
    assert [name for name in names if "long" not in name] == [
        "bmcp_sea_weather",
        "bmcp_sky_weather",
    ]
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)
    assert again.content == (Text("long"),)


@pytest.mark.feature("aibridge", 16)
@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ({"allow": "r.f"}, ["refuse"]),
        ({"deny": "^(c|h|p)"}, ["environment", "grow", "much", "refuse", "weather"]),
        ({"allow": "^(c|w)", "deny": "crash"}, ["weather"]),
    ],
)
@pytest.mark.feature("gateway", 24)
def test_patterns_say_which_tools_are_offered_in_order(patterns: Any, left: list[str]):
    server = stdio(**patterns)
    with Bridge(Script("Hello"), tools=[server]):
        names = [spec.name for spec in server.specs()]

    assert names == [f"bmcp_sky_{name}" for name in left]


def test_a_server_over_http_is_told_its_headers():
    with serving() as port:
        server = mcp_server("sky", f"http://127.0.0.1:{port}/mcp", headers=KEY)
        result = once("bmcp_sky_weather", server, city="Rome")

    assert result.content == (Text("sun in Rome"),)


def test_a_program_that_died_is_started_anew():
    weather = calls("bmcp_sky_weather", city="Bonn")
    script = Script(calls("bmcp_sky_crash"), "Gone.", weather, "Sun.")
    with Bridge(script, tools=[stdio()]) as bridge:
        ask(bridge)
        crashed = told(bridge)
        ask(bridge)
        after = told(bridge)

    lost = Text("Error: the MCP server 'sky' says: Connection closed")
    assert (crashed.content, crashed.is_error) == ((lost,), True)
    assert after.content == (Text("sun in Bonn"),)


def test_a_session_that_a_server_forgot_is_opened_anew_within_the_call():
    script = Script(calls("bmcp_sky_process"), "One.", calls("bmcp_sky_process"), "Other.")
    with reserved() as port:
        server = mcp_server("sky", f"http://127.0.0.1:{port}/mcp", headers=KEY)
        with serving(port, "legacy"):
            bridge = Bridge(script, tools=[server])
            ask(bridge)
            first = told(bridge)
        with bridge, serving(port, "legacy"):
            ask(bridge)
            second = told(bridge)

    pids = [part.text for part in (*first.content, *second.content) if isinstance(part, Text)]
    assert ([pid.isdigit() for pid in pids], len(set(pids))) == ([True, True], 2)


def test_a_failure_of_the_tool_is_told_as_one():
    result = once("bmcp_sky_refuse", stdio())

    assert (result.content, result.is_error) == ((Text("Error: no such city"),), True)


def test_a_tool_that_hangs_is_left():
    result = once("bmcp_sky_hang", stdio(), ToolLimits(tool_timeout_s=0.2))

    late = "Error: the tool 'bmcp_sky_hang' did not answer within 0.2 s"
    assert result.content == (Text(late),)


def test_a_long_result_is_cut():
    result = once("bmcp_sky_weather", stdio(), ToolLimits(result_chars=6), city="Oslo")

    assert result.content == (Text("sun in\n[5 more characters were left out]"),)


def test_a_result_of_ten_megabytes_is_cut_too():
    result = once("bmcp_sky_much", stdio())

    [text] = result.content
    assert text.text.endswith("\n[9,900,000 more characters were left out]")
    assert len(text.text) == 100_000 + len("\n[9,900,000 more characters were left out]")


@pytest.mark.parametrize("options", [(), ("legacy",)], ids=["http", "sessions"])
def test_a_tool_that_a_server_adds_is_offered_from_the_next_request_on(options: tuple[str, ...]):
    script = Script(calls("bmcp_sky_grow"), "One.", calls("bmcp_sky_forecast", city="Rom"), "Two.")
    with serving(0, *options) as port:
        server = mcp_server("sky", f"http://127.0.0.1:{port}/mcp", headers=KEY, allow="grow|cast")
        with Bridge(script, tools=[server]) as bridge:
            ask(bridge)
            listed(server, 2)
            ask(bridge)
            offered = [tuple(spec.name for spec in each.context.tools) for each in script.asked]
            result = told(bridge)

    assert offered[0] == ("bmcp_sky_grow",)
    assert offered[2] == ("bmcp_sky_forecast", "bmcp_sky_grow")
    assert result.content == (Text("sun in Rom"),)


def test_a_tool_that_a_program_adds_is_offered_too():
    script = Script(calls("bmcp_sky_grow"), "One.")
    server = stdio(allow="grow|cast")
    with Bridge(script, tools=[server]) as bridge:
        ask(bridge)

        assert listed(server, 2) == ["bmcp_sky_forecast", "bmcp_sky_grow"]


def test_a_server_that_dies_in_the_middle_of_a_call_is_told_and_asked_again_later():
    weather = calls("bmcp_sky_weather", city="Bonn")
    script = Script(calls("bmcp_sky_crash"), "Gone.", weather, "Away.", weather, "Sun.")
    with reserved() as port:
        server = mcp_server("sky", f"http://127.0.0.1:{port}/mcp", headers=KEY)
        with serving(port):
            bridge = Bridge(script, tools=[server])
            ask(bridge)
            crashed = told(bridge)
        with bridge:
            ask(bridge)
            away = told(bridge)
            with serving(port):
                ask(bridge)
                back = told(bridge)

    assert (crashed.is_error, away.is_error, back.is_error) == (True, True, False)
    assert back.content == (Text("sun in Bonn"),)


def test_a_picture_reaches_the_model():
    result = once("bmcp_sky_picture", stdio())

    [note, picture] = result.content
    assert "image/png" in note.text
    assert (picture.mime_type, picture.data) == ("image/png", "aGVsbG8=")


def test_a_program_gets_no_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server = stdio(env={"CITY": "Oslo"})
    wanted = [
        ToolCall(name, "bmcp_sky_environment", {"name": name})
        for name in ("OPENAI_API_KEY", "CITY")
    ]
    script = Script(AssistantMessage(wanted, stop_reason="tool_use"), "Done.")
    with Bridge(script, tools=[server]) as bridge:
        ask(bridge)
        results = bridge.frames.tool_calls()["result"].tolist()

    assert results == ["not set", "Oslo"]


async def test_an_async_client_on_its_own_loop_reaches_the_server():
    script = Script(calls("bmcp_sky_weather", city="Rom"), "Sun.")
    async with Bridge(script, tools=[stdio()]) as bridge, bridge.async_openai() as client:
        response = await client.responses.create(model="gpt-5-mini", input="Weather?")
        result = told(bridge)

    assert (response.output_text, result.content) == ("Sun.", (Text("sun in Rom"),))


def test_nothing_is_left_when_the_bridge_is_closed():
    gc.collect()
    threads, files = threading.active_count(), open_files()
    with Bridge(Script(calls("bmcp_sky_process"), "Done."), tools=[stdio()]) as bridge:
        ask(bridge)
        [process] = told(bridge).content

    assert isinstance(process, Text)
    assert not is_there(process.text)
    assert (threading.active_count() <= threads, open_files() <= files) == (True, True)


def test_a_server_that_cannot_be_reached_is_left_out_and_logged(caplog: Any):
    script = Script(calls("bmcp_sky_weather", city="Ulm"), "Sun.")
    gone = mcp_server("gone", ["/no/such/program"])
    with Bridge(script, tools=[gone, stdio()]) as bridge:
        answer = ask(bridge)

    [line] = [r.getMessage() for r in caplog.records if "gone" in r.getMessage()]
    assert answer == "Sun."
    assert line.startswith(
        "the MCP server 'gone' cannot be reached: FileNotFoundError: there is no command '/no/such/program'"
    )


def test_a_server_that_says_nothing_is_given_up(caplog: Any):
    silent = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with Bridge(
        Script("Hello."), tools=[mcp_server("mute", silent, start_timeout_s=0.3)]
    ) as bridge:
        assert ask(bridge) == "Hello."

    assert "'mute' cannot be reached: it did not answer within 0.3 s" in caplog.text


def test_a_required_server_that_cannot_be_reached_ends_the_bridge_before_it_is_one():
    before = threading.active_count()
    gone = mcp_server("gone", ["/no/such/program"], required=True)

    with pytest.raises(ConfigurationError, match="'gone' cannot be reached"):
        Bridge(Script("Hello."), tools=[gone, stdio()])

    assert threading.active_count() <= before


def test_servers_that_are_still_starting_when_all_is_given_up_leave_no_process(caplog: Any):
    before = children()
    silent = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    starting = [mcp_server(f"mute{number}", silent) for number in range(4)]

    gone = mcp_server("gone", ["/no/such/program"], required=True)

    with pytest.raises(ConfigurationError, match="'gone' cannot be reached"):
        Bridge(Script("Hello."), tools=[gone, *starting])

    assert (children() - before, "mute" in caplog.text) == (set(), False)


def test_two_servers_of_one_name_are_refused():
    with pytest.raises(ConfigurationError, match="two tools are called 'bmcp_sky_crash'"):
        Bridge(Script("Hello."), tools=[stdio(), stdio()])


def test_a_server_belongs_to_one_bridge():
    server = stdio(allow="weather")
    with (
        Bridge(Script("Hello."), tools=[server]),
        pytest.raises(ConfigurationError, match="make one for each"),
    ):
        Bridge(Script("Hello."), tools=[server])


@pytest.mark.parametrize(
    ("name", "target", "settings", "words"),
    [
        ("a b", STDIO, {}, "cannot be called 'a b'"),
        ("sky", "npx server", {}, "'npx server' is no URL"),
        ("sky", [], {}, "an empty command"),
        ("sky", STDIO, {"headers": {}}, "headers do nothing"),
        ("sky", "http://localhost/", {"env": {}}, "env and cwd do nothing"),
        ("sky", STDIO, {"allow": "("}, "'\\(' is no regular expression"),
    ],
)
def test_what_cannot_be_is_refused(name: str, target: Any, settings: Any, words: str):
    with pytest.raises(ConfigurationError, match=words):
        mcp_server(name, target, **settings)
