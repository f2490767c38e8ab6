"""Stream functions in tinyagent's spelling, built on `Bridge`: events are dicts, each with the message so far.

Source: tinyagent's `docs/api/providers.md`. A stream function takes a model, a context and options (objects or dicts with
these attributes) and gives a `StreamResponse`; failures are its last event. `for_tinyagent` adapts one to newer releases.
"""

from llmbridge.streams.compat import (
    AlchemyStreamResponse,
    OpenAICompatModel,
    OpenRouterModel,
    OpenRouterStreamResponse,
    stream_alchemy_openai_completions,
    stream_openai_compat,
    stream_openrouter,
)
from llmbridge.streams.parsing import parse_streaming_json
from llmbridge.streams.proxy import (
    ProxyStreamOptions,
    ProxyStreamResponse,
    create_proxy_stream,
    stream_proxy,
)
from llmbridge.streams.response import Response, StreamFn, StreamResponse
from llmbridge.streams.spelling import StreamEvent
from llmbridge.streams.tinyagent import for_tinyagent

__all__ = [
    "AlchemyStreamResponse",
    "OpenAICompatModel",
    "OpenRouterModel",
    "OpenRouterStreamResponse",
    "ProxyStreamOptions",
    "ProxyStreamResponse",
    "Response",
    "StreamEvent",
    "StreamFn",
    "StreamResponse",
    "create_proxy_stream",
    "for_tinyagent",
    "parse_streaming_json",
    "stream_alchemy_openai_completions",
    "stream_openai_compat",
    "stream_openrouter",
    "stream_proxy",
]
