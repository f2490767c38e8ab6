"""A fault that breaks the connection before anything was sent: our own server drops it, without a status line."""

import json
import logging
from collections.abc import Callable

import openai
import pytest

from llmbridge.bridge import Bridge
from llmbridge.errors import CutOnPurpose
from llmbridge.exchange import faults
from llmbridge.exchange.injection import Fault
from llmbridge.frontends.server import Server
from llmbridge.upstreams.lines import repeat
from llmbridge.upstreams.script import Script
from tests.frontends.fakes import WAIT_S, FakeHandle, RawClient, Stillborn
from tests.frontends.test_asgi import Client, app_of

PATH = "/v1/chat/completions"
AT_ONCE = [
    faults.disconnect(),
    faults.disconnect(after_events=0),
    faults.disconnect(after_bytes=0),
    faults.disconnect(after_ms=0),
]


def body(*, stream: bool) -> bytes:
    message = {"role": "user", "content": "Hi"}
    return json.dumps({"model": "gpt-5-mini", "messages": [message], "stream": stream}).encode()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "block"])
@pytest.mark.parametrize("fault", AT_ONCE, ids=repr)
def test_a_connection_that_is_to_break_at_once_brings_nothing(fault: Fault, stream: bool) -> None:
    with Bridge(Script("Fine."), faults=[fault]) as bridge, bridge.serve() as server:
        with RawClient(server.port) as client:
            client.ask(PATH, body=body(stream=stream))
            got = client.rest()

        assert (got, [call.end for call in bridge.interceptions]) == (b"", ["truncated"])


def test_a_slow_answer_that_is_to_break_at_once_brings_nothing_either() -> None:
    faulty = [faults.latency(0.05), faults.disconnect()]
    with Bridge(Script("Fine.", tps=1000), faults=faulty) as bridge, bridge.serve() as server:
        # The first fault hands on to the second one.
        with RawClient(server.port) as client:
            client.ask(PATH, body=body(stream=True))
            got = client.rest()

        assert (got, bridge.interceptions[-1].fault) == (b"", "latency(0.05); disconnect()")


def test_what_was_answered_before_over_the_same_connection_is_whole() -> None:
    fault = faults.disconnect(when=lambda call: call.streaming)
    with Bridge(Script(repeat("Fine.")), faults=[fault]) as bridge, bridge.serve() as server:
        with RawClient(server.port) as client:
            client.ask(PATH, body=body(stream=False))
            client.ask(PATH, body=body(stream=True))
            client.ask(PATH, body=body(stream=False))
            got = client.rest()

        assert (got.count(b"HTTP/1.1 200"), got.count(b"HTTP/1.1"), b"Fine." in got) == (1, 1, True)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "block"])
def test_an_sdk_meets_a_broken_connection_and_tries_again(stream: bool) -> None:
    fault = faults.disconnect(times=1)
    with Bridge(Script(repeat("Fine.")), faults=[fault]) as bridge, bridge.serve() as server:
        client = openai.OpenAI(
            base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=WAIT_S
        )
        with client:
            with pytest.raises(openai.APIConnectionError):
                client.responses.create(model="gpt-5-mini", input="Hi", stream=stream)
            again = client.responses.create(model="gpt-5-mini", input="Hi")

        assert again.output_text == "Fine."


def test_what_is_cut_is_told_in_the_log_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="llmbridge")
    with (
        Bridge(Script("Fine."), faults=[faults.disconnect()]) as bridge,
        bridge.serve() as server,
        RawClient(server.port) as client,
    ):
        client.ask(PATH, body=body(stream=True))
        client.rest()

    told = [entry for entry in caplog.record_tuples if entry[0].startswith("llmbridge.server")]
    cut = f"POST {PATH}: the answer was cut on purpose: disconnect()"
    assert told == [("llmbridge.server", logging.INFO, cut)]


async def test_another_server_cannot_drop_a_connection_and_answers_502() -> None:
    async def handle(request: object) -> None:
        raise CutOnPurpose("the answer was cut on purpose: disconnect()")

    client = await Client().ask(app_of(handle))

    assert (client.status, client.error) == (502, "the answer was cut on purpose: disconnect()")


def test_a_provider_that_hangs_up_stays_a_502(serve: Callable[..., Server]) -> None:
    with RawClient(serve(FakeHandle(Stillborn)).port) as client:
        client.ask()

        assert client.until(b"\r\n").startswith(b"HTTP/1.1 502 ")
