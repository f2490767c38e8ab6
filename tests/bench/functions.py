"""What a stream function gives a second: ours beside tinyagent's Rust binding and the OpenAI SDK, from one fake provider."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import openai
import tinyagent
from tinyagent.alchemy_provider import (
    OpenAICompatModel,
    stream_alchemy_openai_completions,
)

from llmbridge import streams
from tests.bench.programs import BenchError, fake_provider
from tests.bench.table import Plan, Table

RUST = "tinyagent's Rust binding"
NOTE = "Higher is better. Our functions and the SDK make a client for each reply."
HI: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": "hi"}]}

Reading = Callable[[str, str], Awaitable[int]]
"""Asks a base URL for a model, and tells how many pieces of text came."""


def functions(plan: Plan) -> Table:
    """Replies of some lengths, each piece taken as it comes, the provider as fast as the reader."""
    figures: dict[str, dict[str, float]] = {name: {} for name in READINGS}
    with fake_provider() as provider:
        url = f"http://127.0.0.1:{provider.port}/v1"
        for deltas in (200, 2_000):
            for name, seen in asyncio.run(rates(url, deltas, plan)).items():
                figures[name][f"{deltas:,} pieces a reply"] = seen
    return Table("Stream functions, events/s", figures, baseline=RUST, note=NOTE)


async def rates(url: str, deltas: int, plan: Plan) -> Mapping[str, float]:
    """Pieces of text a second, the median of the rounds, in turns."""
    seen: dict[str, list[float]] = {name: [] for name in READINGS}
    for _ in range(plan.rounds):
        for name, reading in READINGS.items():
            seen[name].append(await rate(reading, url, deltas, plan.seconds))
    return {name: statistics.median(found) for name, found in seen.items()}


async def rate(reading: Reading, url: str, deltas: int, seconds: float) -> float:
    model = f"bench-{deltas}-0-16"
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds or not count:
        got = await reading(url, model)
        if got != deltas:
            raise BenchError(f"{got} pieces of text came, not {deltas}")
        count += got
    return count / took


async def by_rust(url: str, model: str) -> int:
    asked = OpenAICompatModel(
        provider="openai", id=model, api="openai-completions", base_url=f"{url}/chat/completions"
    )
    context = tinyagent.Context(messages=[tinyagent.UserMessage(**HI)])
    options = tinyagent.SimpleStreamOptions(api_key="sk-bench")
    response = await stream_alchemy_openai_completions(asked, context, options)
    return await counted(response, lambda event: event.type == "text_delta")


async def by_llmbridge(url: str, model: str, *, read: bool) -> int:
    asked = streams.OpenAICompatModel("openai", model, base_url=url)
    response = await streams.stream_openai_compat(
        asked, {"messages": [HI]}, {"api_key": "sk-bench"}
    )

    def is_text(event: streams.StreamEvent) -> bool:
        return event["type"] == "text_delta" and (not read or bool(event["partial"]))

    return await counted(response, is_text)


async def by_sdk(url: str, model: str) -> int:
    async with openai.AsyncOpenAI(base_url=url, api_key="sk-bench") as client:
        chunks = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hi"}], stream=True
        )
        return await counted(chunks, lambda chunk: bool(chunk.choices[0].delta.content))


async def counted(events: AsyncIterable[Any], is_text: Callable[[Any], bool]) -> int:
    return sum([is_text(event) async for event in events])


READINGS: Mapping[str, Reading] = {
    RUST: by_rust,
    "OpenAI SDK, no message so far": by_sdk,
    "llmbridge": partial(by_llmbridge, read=False),
    "llmbridge, each message read": partial(by_llmbridge, read=True),
}
