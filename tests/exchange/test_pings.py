"""What a silent stream is kept alive with, and that the official SDKs read over it."""

import anthropic
import httpx2
import openai
import pytest

from llmbridge.exchange.call import Call, Request
from llmbridge.exchange.pings import ping
from llmbridge.providers import DIALECTS, PROVIDERS
from tests.upstreams.asking import ANTHROPIC, OPENAI

COMMENT = b": ping\n\n"
EVENT = b'event: ping\ndata: {"type": "ping"}\n\n'


def call(dialect: str, client: str | None = None) -> Call:
    request = Request("POST", "http://x/")
    asked = DIALECTS[client] if client else None
    return Call("i", request, PROVIDERS[1], DIALECTS[dialect], "/", client_dialect=asked)


@pytest.mark.parametrize(
    ("dialect", "client", "said"),
    [
        ("anthropic.messages", None, EVENT),
        ("openai.chat", None, COMMENT),
        ("openai.responses", None, COMMENT),
        ("openai.completions", None, COMMENT),
        ("openai.chat", "anthropic.messages", EVENT),
        ("anthropic.messages", "openai.chat", COMMENT),
        ("google.gemini", None, b""),
        ("opaque", None, b""),
    ],
)
def test_each_client_gets_what_its_dialect_reads_over(
    dialect: str, client: str | None, said: bytes
) -> None:
    assert ping(call(dialect, client)) == said


def test_an_injected_silence_stays_silent() -> None:
    faulty = call("openai.chat")
    faulty.faults.append("stall(after_events=1)")

    assert ping(faulty) == b""


def pinged(body: bytes, said: bytes) -> httpx2.MockTransport:
    """Answers with this stream, a ping at every border of its events."""
    filled = said + body.replace(b"\n\n", b"\n\n" + said)
    fields = {"content-type": "text/event-stream"}
    return httpx2.MockTransport(
        lambda request: httpx2.Response(200, headers=fields, content=filled)
    )


@pytest.mark.feature("gateway", 28)
def test_the_anthropic_sdk_reads_over_pings() -> None:
    transport = pinged(ANTHROPIC.fixture("text.sse"), EVENT)

    with (
        httpx2.Client(transport=transport) as http,
        anthropic.Anthropic(api_key="none", http_client=http) as client,
        client.messages.stream(model="m", max_tokens=9, messages=[]) as stream,
    ):
        assert stream.get_final_text() == ANTHROPIC.text_of("text.sse")


@pytest.mark.feature("gateway", 28)
def test_the_openai_sdk_reads_over_comments() -> None:
    transport = pinged(OPENAI.fixture("text.sse"), COMMENT)

    with (
        httpx2.Client(transport=transport) as http,
        openai.OpenAI(api_key="none", http_client=http) as client,
        client.chat.completions.create(model="m", messages=[], stream=True) as stream,
    ):
        said = [choice.delta.content or "" for chunk in stream for choice in chunk.choices]

    assert "".join(said) == OPENAI.text_of("text.sse")
