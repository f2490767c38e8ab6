"""Replies written by hand, in whichever dialect the client speaks, as a stream or whole."""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from threading import Lock
from typing import Any

from llmbridge.canon.events import BlockDelta, Delta, Snapshot, unfold
from llmbridge.canon.messages import Ask, AssistantMessage, Block, Text, ToolCall, Usage
from llmbridge.canon.strict_json import loads_strict
from llmbridge.errors import ConfigurationError, RequestError, ScriptExhausted
from llmbridge.exchange.call import Call, Headers, Reply, once
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.sse import encode_sse

Line = str | AssistantMessage | Callable[[Ask], "str | AssistantMessage"]
"""One reply: its text, a whole message, or a function of the request."""

_WORD = re.compile(r"\s*\S+\s*$|\s*\S+|\s+")


def reply(*blocks: str | Block, stop_reason: Any = None) -> AssistantMessage:
    """A reply of these blocks; a string is a block of text."""
    content = tuple(Text(block) if isinstance(block, str) else block for block in blocks)
    wants_tools = any(isinstance(block, ToolCall) for block in content)
    return AssistantMessage(
        content, stop_reason=stop_reason or ("tool_use" if wants_tools else "stop")
    )


def calls(name: str, /, **arguments: Any) -> AssistantMessage:
    """A reply that calls one tool."""
    return reply(ToolCall("", name, arguments))


class Script:
    """An upstream that says its lines in order, one for each call; the same ids and token counts every time.

    Usage is counted in words, since there is no tokenizer here.
    """

    spends_keys = False

    def __init__(self, *lines: Line) -> None:
        for line in lines:
            if not isinstance(line, str | AssistantMessage) and not callable(line):
                raise ConfigurationError(
                    f"{line!r} is no line: give text, reply(...), calls(...) or a function of the request"
                )
        self._lines = lines
        self._said = 0
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"Script({len(self._lines)} lines, {self._said} said)"

    async def __call__(self, call: Call) -> Reply:
        """The next line.

        Raises:
            ScriptExhausted: all lines were said.
        """
        with self._lock:
            turn = self._said
            if turn >= len(self._lines):
                raise ScriptExhausted(
                    f"the script's lines are all said ({len(self._lines)}) and it was asked once more:"
                    " add one"
                )
            self._said += 1
        ask = _ask(call)
        line = self._lines[turn]
        said = line(ask) if callable(line) else line
        message = _dress(reply(said) if isinstance(said, str) else said, ask, turn)
        if call.streaming:
            return Reply(200, _headers("text/event-stream"), _stream(call.dialect, ask, message))
        body = call.dialect.encode_reply(message)
        length = ("content-length", str(len(body)))
        return Reply(200, Headers((*_headers("application/json").pairs, length)), once(body))


def _ask(call: Call) -> Ask:
    if call.dialect.name not in call.provider.dialects:
        raise RequestError(
            f"a script cannot answer {call.dialect.name}: it speaks {', '.join(call.provider.dialects)}"
        )
    return call.dialect.decode_request(loads_strict(call.request.body))


def _headers(content_type: str) -> Headers:
    return Headers((("content-type", content_type),))


def _dress(message: AssistantMessage, ask: Ask, turn: int) -> AssistantMessage:
    """The message with the ids, the model and the usage that a provider would add."""
    content = tuple(
        replace(block, id=block.id or f"call_{turn}_{place}")
        if isinstance(block, ToolCall)
        else block
        for place, block in enumerate(message.content)
    )
    return replace(
        message,
        content=content,
        model=message.model or ask.model,
        response_id=message.response_id or f"resp_{turn}",
        stop_reason=message.stop_reason or "stop",
        usage=message.usage or _usage(ask, message),
    )


def _usage(ask: Ask, message: AssistantMessage) -> Usage:
    heard = [ask.context.system]
    for turn in ask.context.messages:
        heard += [part.text for part in turn.content if isinstance(part, Text)]
    asked = sum(len(text.split()) for text in heard)
    said = sum(len(block.text.split()) for block in message.content)
    return Usage(asked, None, None, said, None, asked + said)


async def _stream(dialect: Dialect, ask: Ask, message: AssistantMessage) -> AsyncIterator[bytes]:
    snapshot, encoder = Snapshot(), dialect.encoder(ask)
    for delta in _deltas(message):
        for sse in encoder.feed(snapshot.apply(delta)):
            yield encode_sse(sse)


def _deltas(message: AssistantMessage) -> Iterator[Delta]:
    """The message's deltas, text cut into words."""
    for delta in unfold(message):
        if isinstance(delta, BlockDelta):
            for word in _WORD.findall(delta.text):
                yield BlockDelta(delta.index, word)
        else:
            yield delta
