"""The benchmarks' own tools: what is measured is a whole reply in a real wire form."""

import shutil
import urllib.request
from collections.abc import Iterator

import pytest

from llmbridge.canon.events import fold
from llmbridge.canon.messages import AssistantMessage
from llmbridge.providers import dialect_named
from llmbridge.wire.sse import SSEDecoder
from tests.bench.aimock import AimockMissing, installed
from tests.bench.programs import BenchError, Load, Program, fake_provider, measure
from tests.bench.punctuality import arrivals
from tests.bench.relay import WIRES
from tests.bench.sessions import STREAMS, pieces

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None, reason="needs a C compiler: install gcc"
)


@pytest.fixture(scope="module")
def provider() -> Iterator[Program]:
    with fake_provider() as program:
        yield program


def message_of(dialect: str, body: bytes) -> AssistantMessage:
    decoder = dialect_named(dialect).decoder()
    deltas = [delta for sse in SSEDecoder().feed(body) for delta in decoder.feed(sse)]
    return fold([*deltas, *decoder.close()])


@needs_compiler
@pytest.mark.parametrize("dialect", STREAMS)
def test_fake_provider_streams_a_whole_message(provider: Program, dialect: str) -> None:
    url = f"http://127.0.0.1:{provider.port}{dialect_named(dialect).path}"

    with urllib.request.urlopen(url, Load("bench-7-100-2").body.encode()) as reply:
        message = message_of(dialect, reply.read())

    assert (message.stop_reason, message.content[0].text.count(" lorem ipsum")) == ("stop", 7)


@pytest.mark.parametrize("dialect", STREAMS)
def test_generated_stream_is_a_whole_message(dialect: str) -> None:
    message = message_of(dialect, b"".join(STREAMS[dialect](40)))

    assert (message.stop_reason, message.content[0].text) == ("stop", "".join(pieces(40)))


@pytest.mark.feature("replay", 8)
@needs_compiler
@pytest.mark.parametrize("wire", WIRES)
def test_load_counts_every_event(provider: Program, wire: str) -> None:
    figures = measure(provider, WIRES[wire], seconds=0.1)

    assert figures["all_events"] >= WIRES[wire].events * figures["all_requests"] > 0


@pytest.mark.feature("replay", 8)
def test_an_event_comes_with_the_write_that_makes_it_whole() -> None:
    came = [(1.0, b"ab"), (2.0, b"cd"), (3.0, b"e")]

    assert list(arrivals(came, [b"a", b"bcd", b"e"])) == [1.0, 2.0, 3.0]


@pytest.mark.feature("replay", 8)
def test_other_bytes_have_no_lateness() -> None:
    with pytest.raises(ValueError, match="byte by byte"):
        list(arrivals([(1.0, b"ab")], [b"a", b"c"]))


def test_missing_npm_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(AimockMissing, match="needs node and npm, not found here"):
        installed()


@needs_compiler
def test_a_reply_that_is_not_whole_is_no_measurement(provider: Program) -> None:
    with pytest.raises(BenchError, match="not the expected number of events"):
        measure(provider, Load("bench-5-0-1", events=11), seconds=0.1)
