"""What a person does in a kernel: run cells again, interrupt them, wait in them, shut it down."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 100
WIDGET = "application/vnd.jupyter.widget-view+json"


class Kernel:
    """A kernel of this Python, and the cells that are run in it."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client

    def run(self, code: str, watch: Callable[[str], None] = lambda printed: None) -> str:
        """What the cell prints; the name of its error after that."""
        return self.see(code, watch)[0]

    def see(
        self, code: str, watch: Callable[[str], None] = lambda printed: None
    ) -> tuple[str, list[dict[str, str]]]:
        """What the cell prints, and what it displays."""
        told: list[str] = []
        displayed: list[dict[str, str]] = []

        def see(message: Any) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                told.append(content["text"])
                watch("".join(told))
            elif message["msg_type"] == "error":
                told.append(content["ename"])
            elif message["msg_type"] in ("display_data", "update_display_data", "execute_result"):
                displayed.append(content["data"])

        self.client.execute_interactive(code, output_hook=see, timeout=WAIT_S)
        return "".join(told).strip(), displayed


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    manager, client = start_new_kernel(env=environment, startup_timeout=WAIT_S)
    # A machine under load is slow, and that is no reason to kill.
    manager.shutdown_wait_time = WAIT_S
    yield Kernel(manager, client)
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


SERVE = """
from llmbridge import Bridge, Script

bridges = [Bridge(Script("Hello"), environ={}) for _ in range(2)]
servers, inspectors = [bridge.serve() for bridge in bridges], [bridge.live() for bridge in bridges]
print(*(server.port for server in servers))
"""


def test_a_server_lives_until_its_cell_is_run_again_or_the_kernel_ends(kernel: Kernel) -> None:
    before = [int(port) for port in kernel.run(SERVE).split()]
    again = [int(port) for port in kernel.run(SERVE).split()]
    other = int(kernel.run(f"{SERVE}\nprint()").split()[0])

    assert [answers(port) for port in (*before, *again, other)] == [False, False, True, True, True]
    provisioner: Any = kernel.manager.provisioner
    process = provisioner.process
    kernel.manager.shutdown_kernel()
    assert [answers(port) for port in (*again, other)] == [False, False, False]
    assert process.returncode == 0


LIVE = """
import threading
from llmbridge import Bridge, Context, Model, Script

def watching():
    return {thread for thread in threading.enumerate() if thread.name == "llmbridge live"}

before = watching()
bridge = Bridge(Script("Hello", "Again"), environ={})
inspector = bridge.live()
list(bridge.stream_sync(Model("openai", "gpt-5-mini"), Context()))
inspector
"""


def test_an_inspector_ends_with_its_thread_when_its_cell_is_run_again(kernel: Kernel) -> None:
    kernel.run(LIVE)
    _, (before, shown, *_) = kernel.see(LIVE)
    ended = kernel.run("for thread in before: thread.join(20)\nprint(len(before), len(watching()))")

    assert ended == "1 1"
    # What stays of the first one, should it be seen elsewhere, is its text.
    assert (WIDGET in before, WIDGET in shown) == (False, True)
    assert "Hello" in before["text/html"]


def test_a_closed_inspector_does_not_trouble_the_cells_after_it(kernel: Kernel) -> None:
    kernel.run(LIVE)
    closed = kernel.run("inspector.close()")

    again = kernel.run("_ = list(bridge.stream_sync(Model('openai', 'gpt-5-mini'), Context()))")
    shown = kernel.see("inspector")

    assert (closed, again, shown[0]) == ("", "", "")
    assert [set(data) for data in shown[1]] == [{"text/plain", "text/html"}]


def test_async_and_sync_both_work_in_a_cell(kernel: Kernel) -> None:
    told = kernel.run(
        """
from llmbridge import Bridge, Context, Model, Script, Text, UserMessage

bridge = Bridge(Script("one", "two", "three", "four"), environ={})
asked = Model("openai", "gpt-5-mini"), Context(messages=(UserMessage((Text("Count."),)),))
print((await (await bridge.stream(*asked)).result()).text)
print(list(bridge.stream_sync(*asked))[-1].partial.text)
async with bridge.async_openai() as client:
    print((await client.responses.create(model="gpt-5-mini", input="Count.")).output_text)
print(bridge.openai().responses.create(model="gpt-5-mini", input="Count.").output_text)
"""
    )

    assert told.split() == ["one", "two", "three", "four"]


def test_a_prompt_in_a_cell_shows_its_whole_answer(kernel: Kernel) -> None:
    kernel.run(
        """
from llmbridge import Bridge, Script

bridge = Bridge(Script("word " * 3000 + "end.", "again"), environ={})
%load_ext llmbridge
"""
    )

    _, outputs = kernel.see("%%llm openai/gpt-5-mini\nCount.")
    _, inspected = kernel.see("%%llm openai/gpt-5-mini --live\nCount.")

    assert outputs[-1]["text/html"].count("word ") == 3000
    assert "end." in outputs[-1]["text/html"]
    assert outputs[-1]["text/plain"].startswith(
        "AssistantMessage('gpt-5-mini', stop, 3,001 tokens: 'word"
    )
    assert WIDGET in inspected[0]


def test_interrupting_the_kernel_stops_a_stream_and_keeps_its_record(kernel: Kernel) -> None:
    kernel.run(
        """
import anyio
from llmbridge import Bridge, Reply, Script

async def endless(call):
    whole = await Script("one two three")(call)

    async def begun(reply):
        for _ in range(3):
            yield await anext(reply)
        print("silent now", flush=True)
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(call)

    return whole.through(begun)

ended = []
bridge = Bridge(endless, environ={})
%load_ext llmbridge
"""
    )

    def interrupt(printed: str) -> None:
        if "silent now" in printed:
            kernel.manager.interrupt_kernel()

    stopped = kernel.run("%%llm openai/gpt-5-mini --to answer\nCount.", interrupt)
    left = kernel.run("print(len(ended), answer.text, bridge.records[0].message.text)")

    assert (stopped.split()[-1], left) == ("Stopped", "1 one two one two")
