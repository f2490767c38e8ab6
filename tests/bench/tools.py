"""What the tool loop costs: one streamed answer read in process, with and without a tool on offer."""

import asyncio
import json

from llmbridge import Bridge, Script, repeat
from llmbridge.exchange.call import Headers, Request
from tests.bench.table import Plan, Table
from tests.bench.timing import Costs

WORDS = 500


def clock() -> str:
    """Tell the time."""
    return "noon"


async def _read(bridge: Bridge) -> None:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    labelled = Headers((("content-type", "application/json"),))
    url = "http://localhost/v1/chat/completions"
    reply = await bridge.handle(Request("POST", url, labelled, json.dumps(body).encode()))
    async for _ in reply:
        pass


def tools(plan: Plan) -> Table:
    """CPU time of one event, relayed as it came and written anew by the loop."""
    costs = Costs(plan)
    with asyncio.Runner() as runner:
        line = repeat("word " * WORDS)
        plain, offering = Bridge(Script(line)), Bridge(Script(line), tools=[clock])
        works = {
            "plain relay": lambda: runner.run(_read(plain)),
            "tool on offer": lambda: runner.run(_read(offering)),
        }
        costs.measure("us/event", WORDS, works)
    return Table("Tool loop, in process", costs.figures, baseline="plain relay")
