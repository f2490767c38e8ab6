"""The yardstick: the least a server of uvicorn and aiohttp can do, in as few lines as it takes.

    python -m tests.bench.reference relay http://127.0.0.1:PORT
    python -m tests.bench.reference canned FILE

`relay` passes every request on and the reply back. `canned` answers each model's name with the
bytes the JSON file holds for it: {model: [content type, body]}. Neither looks into what it sends.
"""

import json
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

DROPPED = {"connection", "keep-alive", "transfer-encoding"}


async def body_of(receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


class Relay:
    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.session: aiohttp.ClientSession | None = None

    async def __call__(self, scope, receive, send) -> None:
        if self.session is None:
            pool = aiohttp.TCPConnector(limit=0)
            self.session = aiohttp.ClientSession(connector=pool, auto_decompress=False)
        body = await body_of(receive)
        headers = {"content-type": "application/json"}
        async with self.session.post(
            self.upstream + scope["path"], data=body, headers=headers
        ) as reply:
            kept = [
                (k.lower(), v) for k, v in reply.raw_headers if k.decode().lower() not in DROPPED
            ]
            await send({"type": "http.response.start", "status": reply.status, "headers": kept})
            async for piece in reply.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})


class Canned:
    def __init__(self, path: str) -> None:
        replies = json.loads(Path(path).read_bytes())
        self.replies = {
            model: (kind.encode(), body.encode()) for model, (kind, body) in replies.items()
        }

    async def __call__(self, scope, receive, send) -> None:
        kind, body = self.replies[json.loads(await body_of(receive))["model"]]
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
        )
        await send({"type": "http.response.body", "body": body})


def main() -> None:
    kind, source = sys.argv[1:]
    app: Callable[..., Any] = Relay(source) if kind == "relay" else Canned(source)
    # asyncio switches Nagle's algorithm off only where the socket names its protocol.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http="httptools", lifespan="off", log_level="warning", access_log=False
    )
    server = uvicorn.Server(config)

    def end_with_the_input() -> None:
        sys.stdin.read()
        server.force_exit = server.should_exit = True

    threading.Thread(target=end_with_the_input, daemon=True).start()
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
