"""OpenRouter, and any other endpoint that speaks Chat Completions."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from llmbridge.bridge import Bridge
from llmbridge.canon.messages import Ask, AssistantMessage, Thinking
from llmbridge.exchange.call import Caller, Headers, Request
from llmbridge.providers import PROVIDERS, Provider
from llmbridge.streams.response import Response
from llmbridge.streams.spelling import Spelling, context_of, option
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.openai_chat import OPENAI_CHAT

R = TypeVar("R", bound=Response)

_REASONS = {"stop": "complete", "tool_use": "tool_calls"}
_ENDS = {"tool_use": "tool_calls"}
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass
class OpenRouterModel:
    """A model at OpenRouter."""

    provider: str = "openrouter"
    id: str = "anthropic/claude-3.5-sonnet"
    api: str = "openrouter"
    thinking_level: str = "off"


@dataclass
class OpenAICompatModel:
    """A model at an endpoint that speaks Chat Completions; `base_url` may end in `/chat/completions`.

    `headers` are sent with each request; `max_tokens` counts where the options say none. `reasoning` may be an effort.
    """

    provider: str = "openrouter"
    id: str = "moonshotai/kimi-k2.5"
    api: str = "openai-completions"
    thinking_level: str = "off"
    base_url: str = "https://openrouter.ai/api/v1/chat/completions"
    name: str | None = None
    headers: dict[str, str] | None = field(default=None, repr=False)
    context_window: int = 128_000
    max_tokens: int = 4096
    reasoning: bool | str = False


class OpenRouterStreamResponse(Response):
    """An answer of OpenRouter."""


class AlchemyStreamResponse(Response):
    """An answer of an endpoint that speaks Chat Completions."""


async def stream_openrouter(model: Any, context: Any, options: Any) -> OpenRouterStreamResponse:
    """Stream from OpenRouter, each piece as it comes.

    The key is `options["api_key"]`, else `OPENROUTER_API_KEY`. `options["bridge"]` may be a `Bridge` to ask through.

    Raises:
        ValueError: there is no key.
        TypeError: a message is neither a dict nor has `model_dump`.
    """
    row = next(row for row in PROVIDERS if row.name == "openrouter")
    base_url = option(model, "base_url")
    row = row.at(_without_operation(base_url)) if base_url else row
    key = option(options, "api_key") or os.environ.get("OPENROUTER_API_KEY")
    if not key and option(options, "bridge") is None:
        raise ValueError(
            'OpenRouter API key required: give options["api_key"] or set OPENROUTER_API_KEY'
        )
    wanted = _settings(options, max_tokens=option(options, "max_tokens"))
    return _ask(
        OpenRouterStreamResponse, row, key, model, context, options, wanted, "OpenRouter error"
    )


async def stream_openai_compat(model: Any, context: Any, options: Any) -> AlchemyStreamResponse:
    """Stream from any endpoint that speaks Chat Completions, images included.

    The key is `options["api_key"]`, else the environment's `NAME_API_KEY` for the model's provider; an endpoint on this
    machine needs none. `options["bridge"]` may be a `Bridge` to ask through.

    Raises:
        ValueError: there is no key, or no base URL.
        TypeError: a message is neither a dict nor has `model_dump`.
    """
    base_url = (option(model, "base_url") or "").strip()
    if not base_url:
        raise ValueError("the model has no base_url: give the endpoint's address")
    name = option(model, "provider") or "openai"
    variable = f"{name.upper().replace('-', '_')}_API_KEY"
    key = option(options, "api_key") or os.environ.get(variable)
    local = urlsplit(base_url).hostname in _LOCAL
    if not key and not local and option(options, "bridge") is None:
        raise ValueError(f'API key required for {name}: give options["api_key"] or set {variable}')
    row = Provider(name, "http://localhost", keyless=local).at(_without_operation(base_url))
    most = option(options, "max_tokens") or option(model, "max_tokens")
    wanted = _settings(options, max_tokens=most)
    reasoning = option(model, "reasoning")
    if isinstance(reasoning, str) and reasoning:
        wanted["reasoning_effort"] = reasoning
    return _ask(AlchemyStreamResponse, row, key, model, context, options, wanted, f"{name} error")


stream_alchemy_openai_completions = stream_openai_compat
"""tinyagent's name for it."""


def _without_operation(base_url: str) -> str:
    return base_url.rstrip("/").removesuffix("/chat/completions")


def _settings(options: Any, *, max_tokens: int | None) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    if (temperature := option(options, "temperature")) is not None:
        wanted["temperature"] = temperature
    if max_tokens:
        wanted["max_tokens"] = max_tokens
    return wanted


def _ask(  # noqa: PLR0913  # what the two kinds of endpoint differ in
    kind: type[R],
    row: Provider,
    key: str | None,
    model: Any,
    context: Any,
    options: Any,
    wanted: Mapping[str, Any],
    refused: str,
) -> R:
    row = Provider(
        row.name, row.base_url, ("openai.chat",), auth=row.auth, key=key, keyless=row.keyless
    )
    said = context_of(context, row.name)
    messages = tuple(_spoken(message) for message in said.messages)
    said = type(said)(said.system, messages, said.tools)
    ask = Ask(option(model, "id") or "", said, True, wanted)
    headers: dict[str, str] = option(model, "headers") or {}
    fields = {"content-type": "application/json", **headers}
    request = Request(
        "POST",
        f"http://localhost/{row.name}{OPENAI_CHAT.path}",
        Headers(fields),
        dump(OPENAI_CHAT.encode_request(ask)),
        Caller("stream"),
    )
    spelling = Spelling(
        option(model, "api") or "",
        row.name,
        ask.model,
        time.time_ns() // 1_000_000,
        _REASONS,
        _ENDS,
    )
    bridge = option(options, "bridge")
    return kind(
        bridge or Bridge(providers=[row], environ={}),
        request,
        spelling,
        OPENAI_CHAT.name,
        own=bridge is None,
        signal=option(options, "signal"),
        refused=refused + " {status}: {text}",
    )


def _spoken(message: Any) -> Any:
    """Thinking is signed for whoever thought it: it does not go back to an endpoint of this kind."""
    if not isinstance(message, AssistantMessage):
        return message
    blocks = tuple(block for block in message.content if not isinstance(block, Thinking))
    return AssistantMessage(blocks)
