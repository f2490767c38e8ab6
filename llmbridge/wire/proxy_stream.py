"""`POST /stream`: the proxy protocol of bitop-dev/agent, as its code speaks it, as its documentation has it, or both.

Source: `pkg/ai/providers/proxy` of bitop-dev/agent and its documentation. Its code sends `message_end` and `[DONE]`; its
documentation has a snapshot, `partial`, in every event. Each side passes over what it does not know, so that one stream
serves both; a line above 64 KiB breaks the client in Go and goes without its snapshot. Failures are told in the stream.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from llmbridge.canon.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Delta,
    Event,
    Fail,
    Finish,
    Start,
)
from llmbridge.canon.messages import (
    Ask,
    AssistantMessage,
    JsonObject,
    StopReason,
    Text,
    Thinking,
    ToolCall,
)
from llmbridge.errors import BridgeError, NotFound, RequestError, Unauthorized
from llmbridge.wire import proxy_context
from llmbridge.wire.dialect import Decoder, Encoder, Verdict
from llmbridge.wire.fast_json import loads_object
from llmbridge.wire.loose_json import is_list, is_object, objects, text
from llmbridge.wire.sse import SSE

LINE_BYTES = 64 * 1024 - 1
"""The longest line that the client in Go reads."""

_SHORT = 10_000
"""So many characters fit in a line, however they are escaped."""

Wire = Literal["superset", "wire", "documented"]
"""Which events are sent: both kinds, those of the code, or those of the documentation."""

_REASONS: dict[str, StopReason] = {
    "stop": "stop",
    "length": "length",
    "tool_use": "tool_use",
    "content_filter": "content_filter",
}
_OPTIONS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "max_tokens": (int, "whole number"),
    "temperature": ((int, float), "number"),
    "thinking_level": (str, "text"),
    "cache_retention": (str, "text"),
}
_ESCAPED = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


class ProxyStream:
    """The dialect of `POST /stream`."""

    name = "proxy.stream"
    path = "/stream"
    terminated = True
    markers = (b"[DONE]", b'"message_end"', b'"done"', b'"error"')

    def __init__(self, wire: Wire = "superset") -> None:
        self._wire: Wire = wire

    def verdict(self, sse: SSE) -> Verdict | None:
        """`[DONE]` completes; before it `message_end` or `done` says how."""
        if sse.data == "[DONE]":
            return "completed"
        event = loads_object(sse.data)
        match event.get("type"):
            case "message_end":
                return "error" if event.get("stop_reason") == "error" else "finished"
            case "done":
                return "finished"
            case "error":
                return "error"
            case _:
                return None

    def streaming(self, body: JsonObject) -> bool:
        """Always."""
        return True

    def decode_request(self, body: JsonObject) -> Ask:
        """The request in canon; unknown roles and blocks are passed over, as the original does.

        Raises:
            RequestError: the content of a message is no array, or an option of another type.
        """
        context, options = body.get("context"), body.get("options")
        turns = context.get("messages") if is_object(context) else None
        for place, turn in enumerate(turns if is_list(turns) else ()):
            if is_object(turn) and not is_list(turn.get("content")):
                raise RequestError(f"the content of message {place} is no array: send blocks")
        asked = {**options} if is_object(options) else {}
        for name, (kind, called) in _OPTIONS.items():
            value = asked.get(name)
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                raise RequestError(f"options.{name} is {value!r:.80}, which is no {called}")
        context = proxy_context.decode_context(body, "")
        return Ask(text(body.get("model")), context, True, asked)

    def target(self, model: str, *, streaming: bool) -> str:
        """The path: the rest stands in the body."""
        return self.path

    def encode_request(self, ask: Ask) -> JsonObject:
        """The request as the client in Go sends it, and the tools, which it leaves out."""
        context = proxy_context.encode_context(ask.context, "", "")
        given = {name: value for name, value in ask.options.items() if value not in (None, "")}
        # No temperature and one of 0 are two things; no limit and one of 0 are not.
        options = {name: value for name, value in given.items() if value or name == "temperature"}
        return {"model": ask.model, "context": context, "options": options}

    def decode_reply(self, body: bytes, status: int = 200) -> Iterable[Delta]:
        """A refusal: plain text, told as the original client tells it."""
        said = body.decode("utf-8", "replace")
        return (Start(), Fail("api_error", f"proxy: server {status}: {said}"))

    def decoder(self) -> Decoder:
        """A fresh decoder for either wire."""
        return _Decoder()

    def encode_reply(self, message: AssistantMessage) -> bytes:
        """Clients of this protocol only stream."""
        return _dump(proxy_context.encode_message(message, "", "")).encode()

    def encoder(self, ask: Ask) -> Encoder:
        """A fresh encoder."""
        return _Encoder(self._wire, ask)

    def encode_error(self, error: BridgeError) -> bytes:
        """A line of plain text."""
        match error:
            case Unauthorized():
                line = "unauthorized"
            case NotFound():
                line = "not found"
            case RequestError():
                line = f"bad request: {error.message}"
            case _:
                line = error.message
        return (line + "\n").encode("utf-8", "replace")

    def encode_error_event(self, error: BridgeError, last: bytes = b"") -> SSE:
        """The `message_end` of a failure."""
        return SSE(data=_dump(_failed(error.message[:_SHORT])))


class _Encoder:
    """Events to the wire; each event of canon brings what either kind of client waits for."""

    def __init__(self, wire: Wire, ask: Ask) -> None:
        self._old = wire != "documented"
        self._new = wire != "wire"
        self._capped = wire == "superset"
        self._full = False
        self._ask = ask
        self._tools: dict[int, ToolCall] = {}
        self._kinds: dict[int, str] = {}
        self._over = False

    def feed(self, event: Event) -> Iterable[SSE]:
        if self._over:
            return ()
        self._over = isinstance(event.delta, Finish | Fail)
        lines = list(self._lines(event))
        if self._over:
            lines.append("[DONE]")
        return [SSE(data=line) for line in lines]

    def _lines(self, event: Event) -> Iterator[str]:
        match event.delta:
            case Start():
                if self._new:
                    yield self._with_partial({"type": "start"}, event)
            case BlockStart() | BlockDelta() | BlockEnd():
                yield from self._block(event, event.delta)
            case Finish(stop_reason):
                if self._old:
                    yield _dump(self._ended(event.partial, stop_reason or "stop"))
                if self._new:
                    yield self._with_partial({"type": "done"}, event)
            case Fail(_, error):
                error = (error or "the answer broke off")[:_SHORT]
                if self._old:
                    yield _dump(_failed(error))
                if self._new:
                    yield self._with_partial({"type": "error", "error_message": error}, event)

    def _block(self, event: Event, delta: BlockStart | BlockDelta | BlockEnd) -> Iterator[str]:
        match delta:
            case BlockStart(index, ToolCall() as tool):
                self._tools[index] = tool
                wire = {"type": "tool_call_start", "delta": tool.name if self._new else ""}
                named = {"id": tool.id, "name": tool.name} if self._old else {}
                yield self._with_partial({**wire, **named}, event)
            case BlockStart(index, block):
                self._kinds[index] = "text_delta" if isinstance(block, Text) else "thinking_delta"
            case BlockDelta(index, piece) if index in self._tools:
                for part in self._pieces(piece):
                    yield from self._arguments(self._tools[index].id, part, event)
            case BlockDelta(index, piece):
                for part in self._pieces(piece):
                    yield self._with_partial({"type": self._kinds[index], "delta": part}, event)
            case BlockEnd(index):
                if self._new and index in self._tools:
                    yield self._with_partial({"type": "tool_call_end"}, event)

    def _pieces(self, piece: str) -> Iterator[str]:
        """The piece, cut where it would make a line too long."""
        if not self._old or len(piece) < _SHORT:
            yield piece
        else:
            yield from (piece[at : at + _SHORT] for at in range(0, len(piece), _SHORT))

    def _arguments(self, id: str, piece: str, event: Event) -> Iterator[str]:
        if self._old:
            yield _dump(_said({"type": "tool_call_args_delta", "delta": piece, "id": id}))
        if self._new:
            yield self._with_partial({"type": "tool_call_delta", "delta": piece}, event)

    def _ended(self, message: AssistantMessage, reason: str) -> JsonObject:
        wire: dict[str, Any] = {"type": "message_end", "stop_reason": reason}
        wire["usage"] = proxy_context.encode_usage(message.usage)
        asked = {"model": self._ask.model or message.model, "provider": self._ask.provider}
        return _said({**wire, **asked})

    def _with_partial(self, wire: dict[str, Any], event: Event) -> str:
        bare = _said(wire)
        if not self._new or self._full:
            return _dump(bare)
        partial = proxy_context.encode_message(event.partial, self._ask.provider, self._ask.model)
        line = _dump({**bare, "partial": partial})
        if self._capped and len(line.encode()) + len("data: ") > LINE_BYTES:
            # A message only grows: from here on none would fit.
            self._full = True
            return _dump(bare)
        return line


class _Decoder:
    """Either wire to deltas. Where both stand in one stream, the code's events count and the other's are passed over.

    A tool call that the server lost on the way is an error: its client would wait, or run something else.
    """

    def __init__(self) -> None:
        self._kind = ""
        self._count = 0
        self._tools: dict[str, int] = {}
        self._open: list[int] = []
        self._begun = False
        self._over = False
        self._old = False

    def feed(self, sse: SSE) -> Iterable[Delta]:
        if self._over:
            return ()
        deltas: list[Delta] = []
        for delta in self._read(loads_object(sse.data)):
            deltas.append(delta)
            if isinstance(delta, Finish | Fail):
                self._over = True
                break
        if deltas and not self._begun:
            self._begun = True
            if not isinstance(deltas[0], Start):
                deltas.insert(0, Start())
        return deltas

    def close(self) -> Iterable[Delta]:
        if self._over:
            return ()
        start = () if self._begun else (Start(),)
        cut = Fail("truncated", "the proxy's stream stopped before its end")
        return (*start, *self._shut(), cut)

    def _read(self, event: dict[str, Any]) -> Iterator[Delta]:
        piece = text(event.get("delta"))
        match event.get("type"):
            case "start" if not self._begun:
                yield Start()
            case ("text_delta" | "thinking_delta") as kind:
                if self._kind != kind:
                    yield from self._begin(kind, Text() if kind == "text_delta" else Thinking())
                yield BlockDelta(self._count - 1, piece)
            case "tool_call_start":
                yield from self._call(event, piece)
            case "tool_call_args_delta":
                self._old = True
                yield from self._grow(self._tools.get(text(event.get("id"))), piece)
            case "tool_call_delta" if not self._old:
                yield from self._grow(None, piece)
            case "tool_call_end" if not self._old:
                yield from self._shut()
            case "message_end" | "done" | "error":
                yield from self._shut()
                yield self._ending(event)
            case _:
                pass

    def _call(self, event: dict[str, Any], piece: str) -> Iterator[Delta]:
        self._old = self._old or "name" in event
        id, name = text(event.get("id")), text(event.get("name")) or piece
        if not id and name:
            # The snapshot has the id, or, where the server is late, one of the call before.
            last = _last_call(event)
            late = last.get("name") != name or text(last.get("id")) in self._tools
            id = "" if late else text(last.get("id"))
        if not name or id in self._tools:
            yield Fail("api_error", "the proxy lost the name or the id of a tool call")
            return
        id = id or f"call_{len(self._tools)}"
        # The code's clients may get the arguments of several calls in turn.
        self._tools[id] = self._count
        yield from self._begin("tool", ToolCall(id, name), keep=self._old)

    def _grow(self, index: int | None, piece: str) -> Iterator[Delta]:
        if index is None and self._kind == "tool":
            index = self._count - 1
        if index is None:
            yield Fail("api_error", "the proxy sent arguments of a tool call that never began")
        else:
            yield BlockDelta(index, piece)

    def _begin(
        self, kind: str, block: Text | Thinking | ToolCall, *, keep: bool = False
    ) -> Iterator[Delta]:
        if not (keep and self._kind == kind):
            yield from self._shut()
        self._kind = kind
        self._open.append(self._count)
        yield BlockStart(self._count, block)
        self._count += 1

    def _shut(self) -> Iterator[Delta]:
        self._kind = ""
        closing, self._open = self._open, []
        yield from map(BlockEnd, closing)

    def _ending(self, event: dict[str, Any]) -> Finish | Fail:
        partial = event.get("partial")
        told: dict[str, Any] = {**(partial if is_object(partial) else {}), **event}
        usage = proxy_context.decode_usage(told.get("usage"))
        reason, message = text(told.get("stop_reason")), text(told.get("error_message"))
        if event.get("type") == "error" or reason in ("error", "aborted") or message:
            stop: StopReason = "aborted" if reason == "aborted" else "error"
            return Fail("api_error", message or "the proxy told no reason", stop, usage=usage)
        if reason == "tool_use" and not self._tools:
            return Fail("api_error", "the proxy lost a tool call on the way", usage=usage)
        model = text(told.get("model")) or None
        return Finish(_REASONS.get(reason, "stop"), reason or None, usage, model)


def _last_call(event: dict[str, Any]) -> dict[str, Any]:
    """The newest tool call of the message so far, where there is one."""
    partial = event.get("partial")
    content = objects(partial.get("content")) if is_object(partial) else []
    newest = content[-1] if content else {}
    return newest if newest.get("type") == "tool_call" else {}


def _failed(message: str) -> JsonObject:
    return {"type": "message_end", "stop_reason": "error", "error_message": message}


def _said(wire: JsonObject) -> dict[str, Any]:
    """Without what is empty, as Go leaves it out."""
    return {name: value for name, value in wire.items() if value not in ("", None)}


def _dump(wire: JsonObject) -> str:
    """Compact JSON as Go's encoder writes it."""
    line = json.dumps(wire, ensure_ascii=False, separators=(",", ":"))
    return line.translate(_ESCAPED).encode("utf-8", "surrogatepass").decode("utf-8", "replace")


PROXY_STREAMS: dict[Wire, ProxyStream] = {
    wire: ProxyStream(wire) for wire in ("superset", "wire", "documented")
}
PROXY_STREAM = PROXY_STREAMS["superset"]
