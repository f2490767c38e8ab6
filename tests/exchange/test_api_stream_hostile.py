"""Clients of `/api/stream` get one terminal event or an error's object, whatever provider or client send."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.bridge import Bridge
from llmbridge.errors import BridgeError, UpstreamError
from llmbridge.exchange.call import Call, Handler, Headers, Reply
from llmbridge.upstreams.script import Script

FIXTURES = Path(__file__).parents[2] / "fixtures"
HI = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}
MODELS: dict[str, dict[str, Any]] = {
    "anthropic.messages": {"provider": "anthropic", "api": "anthropic-messages"},
    "openai.chat": {"provider": "openai", "api": "openai-completions"},
    "openai.responses": {"provider": "openai", "api": "openai-responses"},
}
CLIENTS: dict[str, dict[str, Any]] = {
    "tinyagent": {"thinking_level": "off"},
    "pi": {"baseUrl": "http://x.example", "cost": {"input": 3, "output": 15}},
}
TOTAL = {"tinyagent": "total_tokens", "pi": "totalTokens"}


def broken(body: bytes, error: BridgeError | None) -> Handler:
    async def upstream(call: Call) -> Reply:
        async def chunks() -> AsyncIterator[bytes]:
            if body:
                yield body
            if error is not None:
                raise error

        return Reply(200, Headers({"content-type": "text/event-stream"}), chunks())

    return upstream


def posted(upstream: Handler, body: Any) -> httpx2.Response:
    with (
        Bridge(upstream, environ={}) as bridge,
        httpx2.Client(transport=bridge.transport(), base_url="http://localhost") as client,
    ):
        return client.post("/api/stream", json=body)


@pytest.mark.feature("tinyagent", 15, 16)
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("dialect", MODELS)
@given(cut=st.floats(0, 0.98), reset=st.booleans())
def test_a_stream_that_is_cut_anywhere_ends_with_one_error(
    client: str, dialect: str, cut: float, reset: bool
) -> None:
    stream = (FIXTURES / dialect / "text_then_tools.sse").read_bytes()
    error = UpstreamError("gone") if reset else None
    upstream = broken(stream[: int(len(stream) * cut)], error)
    model = {"id": "m", **MODELS[dialect], **CLIENTS[client]}

    answer = posted(upstream, {"model": model, "context": HI})

    if answer.status_code == 200:
        events = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line]
        ends = [event for event in events if event["type"] in ("done", "error")]
        assert (ends, events[-1]["type"]) == (events[-1:], "error")
        assert TOTAL[client] in events[-1]["usage"]
    else:
        assert (answer.status_code, list(answer.json())) == (502, ["error"])


WORDS = ("type", "role", "content", "text", "name", "id", "input", "cost", "provider", "parameters")
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**30) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)
    ),
    max_leaves=8,
)


def maybe(*names: str) -> dict[Any, st.SearchStrategy[Any]]:
    return dict.fromkeys(names, JUNK)


KINDS = st.sampled_from(["text", "thinking", "toolCall", "tool_call", "image", "x"])
BLOCKS = st.fixed_dictionaries(
    {"type": KINDS},
    optional=maybe("text", "thinking", "id", "name", "arguments", "data", "url", "mimeType"),
)
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "toolResult", "tool_result"]) | JUNK},
    optional={
        **maybe("toolCallId", "isError", "usage", "provider"),
        "content": st.lists(BLOCKS | JUNK, max_size=3) | JUNK,
    },
)
BODIES = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries(
            {"provider": st.sampled_from(["anthropic", "openai", "google"]) | JUNK},
            optional=maybe("id", "api", "cost", "thinking_level", "baseUrl"),
        ),
        "context": st.fixed_dictionaries(
            {"messages": st.lists(TURNS | JUNK, max_size=3) | JUNK},
            optional=maybe("tools", "systemPrompt", "system_prompt"),
        ),
    },
    optional={"options": st.dictionaries(st.sampled_from(["maxTokens", "reasoning"]), JUNK)},
)


@given(body=BODIES)
def test_a_request_of_any_kind_is_answered_or_refused(body: dict[str, Any]) -> None:
    answer = posted(Script("Hello"), body)

    if answer.status_code == 200:
        assert json.loads(answer.text.rstrip().rpartition("data: ")[2])["type"] == "done"
    else:
        assert (answer.status_code, list(answer.json())) == (400, ["error"])
