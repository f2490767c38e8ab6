"""What the library tells the standard library's logging."""

import logging
import re

import httpx2
import pytest

from llmbridge.bridge import Bridge
from llmbridge.exchange.call import Call
from llmbridge.exchange.rewrite import Body, append_text
from llmbridge.upstreams.lines import fail, repeat
from llmbridge.upstreams.script import Script

KEY = "sk-ant-api03-0123456789abcdefghijklmnopqrstuvwxyz"


def post(bridge: Bridge, content: bytes, path: str = "/v1/messages", **headers: str) -> None:
    with httpx2.Client(transport=bridge.transport()) as client:
        client.post(f"http://localhost{path}", content=content, headers=headers)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Without ids and durations, which differ."""
    lines = [f"{record.levelname} {record.name} {record.getMessage()}" for record in caplog.records]
    return [re.sub(r"\b[0-9a-f]{32}\b", "ID", re.sub(r"\d\.\d{3}s", "TIME", x)) for x in lines]


QUESTION = b'{"model":"claude-x","max_tokens":9,\n"messages":[{"role":"user","content":"Hi"}]}'


def test_a_call_is_one_line_at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "llmbridge")

    with Bridge(Script("Hello"), environ={}) as bridge:
        post(bridge, QUESTION)

    assert said(caplog) == [
        "INFO llmbridge.calls ID POST /v1/messages anthropic claude-x 200 completed TIME"
    ]


def test_a_refused_call_is_a_line_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "llmbridge")

    with Bridge(Script(fail(429, message="slow\ndown")), environ={}) as bridge:
        post(bridge, QUESTION)
        post(bridge, b"not JSON")

    assert said(caplog) == [
        "INFO llmbridge.calls ID POST /v1/messages anthropic claude-x 429 upstream_error TIME",
        (
            "INFO llmbridge.calls ID POST /v1/messages anthropic - 400 bridge_limit TIME:"
            " the body is not a JSON object: send one, with content-type JSON"
        ),
    ]


@pytest.mark.feature("anthropic-proxy", 5)
def test_debug_shows_the_request_the_changed_body_and_the_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "llmbridge")

    with Bridge(Script("Hello"), environ={}) as bridge:
        bridge.rewrite(append_text(", briefly"))
        post(bridge, QUESTION)

    received, sends, answered, ended = said(caplog)
    assert received.startswith(
        "DEBUG llmbridge.bodies ID received POST http://localhost/v1/messages ["
    )
    assert received.endswith(
        '{"model":"claude-x","max_tokens":9, "messages":[{"role":"user","content":"Hi"}]}'
    )
    assert sends.startswith("DEBUG llmbridge.bodies ID sends to anthropic /v1/messages [")
    assert sends.endswith('"messages":[{"role":"user","content":"Hi, briefly"}]}')
    assert answered.startswith("DEBUG llmbridge.bodies ID answered 200 [content-type: ")
    assert ended.startswith("INFO llmbridge.calls ID POST ")


def test_a_body_that_nothing_changed_is_shown_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "llmbridge")

    with Bridge(Script("Hello"), environ={}) as bridge:
        post(bridge, QUESTION)

    assert "DEBUG llmbridge.bodies ID sends it as received to anthropic" in said(caplog)


def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    # Not the client's own, which says its whole address.
    caplog.set_level(logging.WARNING, "httpx2")
    caplog.set_level(logging.DEBUG)

    def leak(body: Body, call: Call) -> None:
        body["metadata"] = {"user_id": KEY}

    with Bridge(Script(repeat("Hello")), environ={"ANTHROPIC_API_KEY": KEY}) as bridge:
        bridge.rewrite(leak)
        hidden = {"x-api-key": KEY, "authorization": f"Bearer {KEY}", "cookie": f"a={KEY}"}
        post(bridge, QUESTION.replace(b"Hi", KEY.encode()), f"/v1/messages?key={KEY}", **hidden)

    assert len(caplog.records) == 4
    assert KEY not in caplog.text


def test_a_request_can_forge_no_line_and_fill_no_disk(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    with Bridge(Script("Hello"), environ={}) as bridge:
        post(
            bridge, b'{"model":"m\xe2\x80\xa8INFO forged\\u001b[2J", "x":"' + b"y" * 99_999 + b'"}'
        )

    assert not any(re.search("[\n\r\x1b\u2028]", record.getMessage()) for record in caplog.records)
    assert all(len(record.getMessage()) < 21_000 for record in caplog.records)
