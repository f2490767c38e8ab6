"""A server that speaks `POST /api/stream`, such as a bridge, as a stream function."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llmbridge.bridge import Bridge
from llmbridge.canon.messages import Ask
from llmbridge.exchange.call import Caller, Headers, Request
from llmbridge.providers import Provider
from llmbridge.streams.response import Response, Signal
from llmbridge.streams.spelling import Spelling, context_of, option
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.proxy_api_stream import API_STREAM


@dataclass
class ProxyStreamOptions:
    """Whom to ask and how; `signal` returns True, or is an event that is set, once the user wants no more."""

    auth_token: str = field(repr=False)
    proxy_url: str
    temperature: float | None = None
    max_tokens: int | None = None
    reasoning: Any = None
    signal: Signal | None = None


class ProxyStreamResponse(Response):
    """An answer that came through a proxy."""


async def stream_proxy(
    model: Any, context: Any, options: ProxyStreamOptions | dict[str, Any]
) -> ProxyStreamResponse:
    """Ask `{proxy_url}/api/stream`, which keeps the keys and chooses the provider by the model.

    Raises:
        ConfigurationError: the address is none.
        TypeError: a message is neither a dict nor has `model_dump`, or an option is missing or unknown.
    """
    if isinstance(options, dict):
        options = ProxyStreamOptions(**options)
    row = Provider("proxy", "http://localhost", (API_STREAM.name,), key=options.auth_token or None)
    row = Provider(
        "proxy",
        row.at(options.proxy_url.rstrip("/")).base_url,
        row.dialects,
        key=row.key,
        keyless=not row.key,
    )
    provider, api = option(model, "provider") or "", option(model, "api") or ""
    level = option(model, "thinking_level") or "off"
    wanted = {
        "provider": provider,
        "api": api,
        "thinking_level": getattr(level, "value", level),
        "temperature": options.temperature,
        "maxTokens": options.max_tokens,
        "reasoning": options.reasoning,
    }
    ask = Ask(option(model, "id") or "", context_of(context, provider), True, wanted)
    request = Request(
        "POST",
        f"http://localhost/proxy{API_STREAM.path}",
        Headers({"content-type": "application/json"}),
        dump(API_STREAM.encode_request(ask)),
        Caller("stream"),
    )
    spelling = Spelling(api, provider, ask.model, time.time_ns() // 1_000_000, {}, {})
    bridge = Bridge(providers=[row], environ={})
    return ProxyStreamResponse(
        bridge,
        request,
        spelling,
        API_STREAM.name,
        own=True,
        signal=options.signal,
        refused="Proxy error: {text}",
    )


async def create_proxy_stream(  # noqa: PLR0913  # the options, one by one
    model: Any,
    context: Any,
    auth_token: str,
    proxy_url: str,
    *,
    temperature: float | None = None,
    max_tokens: int | None = None,
    reasoning: Any = None,
    signal: Callable[[], bool] | None = None,
) -> ProxyStreamResponse:
    """`stream_proxy` with its options one by one."""
    options = ProxyStreamOptions(auth_token, proxy_url, temperature, max_tokens, reasoning, signal)
    return await stream_proxy(model, context, options)
