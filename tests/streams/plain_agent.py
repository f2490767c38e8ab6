"""An agent of tinyagent 1.2.0, which takes plain dicts: python plain_agent.py URL WAY. Prints what it said."""

import asyncio
import sys
from typing import Any

import tinyagent

from llmbridge import streams

URL, WAY = sys.argv[1:]


async def clock(call_id: str, arguments: dict[str, Any], *_: object) -> tinyagent.AgentToolResult:
    said: list[Any] = [{"type": "text", "text": f"noon in {arguments['zone']}"}]
    return tinyagent.AgentToolResult(content=said)


async def by_function(model: Any, context: Any, options: Any) -> Any:
    asked = streams.OpenAICompatModel("openai", "gpt-x", base_url=f"{URL}/v1")
    return await streams.stream_openai_compat(asked, context, options)


async def by_proxy(model: Any, context: Any, options: Any) -> Any:
    wanted = tinyagent.ProxyStreamOptions(auth_token="secret-1", proxy_url=URL)
    return await tinyagent.stream_proxy(model, context, wanted)


async def main() -> None:
    stream_fn = {"function": by_function, "proxy": by_proxy}[WAY]
    agent = tinyagent.Agent(tinyagent.AgentOptions(stream_fn=stream_fn))
    agent.set_model(tinyagent.Model(provider="openai", id="gpt-x", api="openai-completions"))
    parameters: dict[str, Any] = {"type": "object", "properties": {"zone": {"type": "string"}}}
    agent.set_tools(
        [tinyagent.AgentTool("clock", "The time", parameters, label="Clock", execute=clock)]
    )
    sys.stdout.write(str(await agent.prompt_text("What time is it in Rome?")))


asyncio.run(main())
