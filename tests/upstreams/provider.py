"""A provider that answers as it is told, without a network, and remembers what it was asked."""

import json
from collections.abc import AsyncIterator
from typing import Any

from llmbridge.bridge import Bridge
from llmbridge.errors import StreamTruncated
from llmbridge.exchange.call import Call, Headers, Reply, Request

CHAT = "https://api.openai.com/v1/chat/completions"
SSE = Headers((("content-type", "text/event-stream"),))
DONE = b"data: [DONE]\n\n"


def request(url: str = CHAT, **body: Any) -> Request:
    body = {"model": "m", "stream": True, **body}
    return Request("POST", url, Headers(), json.dumps(body).encode())


def says(text: str) -> bytes:
    """One event of a chat stream."""
    return b"data: %b\n\n" % json.dumps({"choices": [{"delta": {"content": text}}]}).encode()


class Provider:
    """Answers with these replies in order, the last one again and again; each is a status or the pieces of a stream."""

    spends_keys = True

    def __init__(self, *answers: int | tuple[bytes, ...], cut: bool = False) -> None:
        self.asked: list[Call] = []
        self.closed = 0
        self._answers = answers or ((says("live"), DONE),)
        self._cut = cut

    async def __call__(self, call: Call) -> Reply:
        answer = self._answers[min(len(self.asked), len(self._answers) - 1)]
        self.asked.append(call)
        if isinstance(answer, int):
            kind = Headers((("content-type", "application/json"),))
            return Reply(answer, kind, self._pieces((b'{"error":{"message":"no"}}',)))
        return Reply(200, SSE, self._pieces(answer))

    async def aclose(self) -> None:
        self.closed += 1

    async def _pieces(self, pieces: tuple[bytes, ...]) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        if self._cut:
            raise StreamTruncated("the connection broke")


async def heard(bridge: Bridge, request: Request) -> tuple[int, list[bytes]]:
    """Status and pieces of what the bridge answers."""
    reply = await bridge.handle(request)
    return reply.status, [chunk async for chunk in reply]


async def text(bridge: Bridge, request: Request) -> str:
    """What a stream says, or the status of what is none."""
    status, pieces = await heard(bridge, request)
    if status != 200:
        return str(status)
    events = [piece.removeprefix(b"data: ") for piece in pieces if piece != DONE]
    return "".join(json.loads(event)["choices"][0]["delta"]["content"] for event in events)
