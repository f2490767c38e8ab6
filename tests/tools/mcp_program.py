"""An MCP server of the official SDK, in a process of its own: `stdio`, or `http` with the number of its socket."""

import base64
import os
import socket
import sys
from typing import Any

import anyio
import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp_types import CallToolResult, TextContent

server = MCPServer("program", log_level="CRITICAL")


@server.tool()
def weather(city: str) -> str:
    """Tell the weather."""
    return f"sun in {city}"


@server.tool()
def process() -> str:
    return str(os.getpid())


@server.tool()
def environment(name: str) -> str:
    return os.environ.get(name, "not set")


@server.tool()
def crash() -> str:
    os._exit(3)


@server.tool()
async def hang() -> str:
    await anyio.sleep_forever()
    return "never"


@server.tool()
def refuse() -> CallToolResult:
    return CallToolResult(content=[TextContent(text="no such city")], is_error=True)


@server.tool()
def picture() -> Image:
    return Image(data=base64.b64decode("aGVsbG8="), format="png")


@server.tool()
async def grow(context: Context) -> str:
    """Have one tool more."""
    server.add_tool(weather, name="forecast")
    await context.notify_tools_changed()
    await context.session.send_tool_list_changed()
    return "grown"


@server.tool(name="path/" + "long_" * 20)
def long_named() -> str:
    return "long"


@server.tool()
def much() -> str:
    return "much " * 2_000_000


class App:
    """Wants a header; `legacy` knows no way in but `initialize`, and so has sessions."""

    def __init__(self, inner: Any, legacy: bool) -> None:
        self._inner, self._legacy = inner, legacy

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self._inner(scope, receive, send)
        headers = dict(scope["headers"])
        if headers.get(b"x-key") != b"open sesame":
            return await answer(send, 401)
        if self._legacy and headers.get(b"mcp-method") == b"server/discover":
            return await answer(send, 404)
        return await self._inner(scope, receive, send)


async def answer(send: Any, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run()
    else:
        app = App(server.streamable_http_app(), legacy="legacy" in sys.argv)
        config = uvicorn.Config(app, log_level="critical", ws="none")
        uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[2]))])
