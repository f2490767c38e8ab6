"""`POST /api/stream`: the proxy protocol of pi and tinyagent, deltas without snapshots.

Source: `proxy.ts` of pi's agent package and `proxy.py` of tinyagent. Two clients, two spellings: whoever asks in
camel case is pi. The stream ends with exactly one `done` or `error`, and never with `[DONE]`, over which pi fails.
A filtered answer is an `error`: neither client has a word for it.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

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
    Block,
    JsonObject,
    StopReason,
    Text,
    Thinking,
    ToolCall,
)
from llmbridge.errors import BridgeError
from llmbridge.wire import proxy_context
from llmbridge.wire.dialect import Decoder, Encoder, Verdict
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.fast_json import loads, loads_object
from llmbridge.wire.loose_json import camel, is_object, objects, text
from llmbridge.wire.sse import SSE

_KINDS: dict[str, type[Block]] = {"text": Text, "thinking": Thinking, "toolcall": ToolCall}
_NAMES: dict[type[Block], str] = {kind: name for name, kind in _KINDS.items()}
_REASONS: dict[str, StopReason] = {
    "stop": "stop",
    "complete": "stop",
    "length": "length",
    "toolUse": "tool_use",
    "tool_use": "tool_use",
    "tool_calls": "tool_use",
}
_FILTERED = "the provider's filter stopped the answer"


class ApiStream:
    """The dialect of `POST /api/stream`."""

    name = "proxy.api_stream"
    path = "/api/stream"
    terminated = True
    markers = (b'"done"', b'"error"')

    def verdict(self, sse: SSE) -> Verdict | None:
        """`done` completes; `error` is the last one too."""
        match loads_object(sse.data).get("type"):
            case "done":
                return "completed"
            case "error":
                return "error"
            case _:
                return None

    def streaming(self, body: JsonObject) -> bool:
        """Always."""
        return True

    def decode_request(self, body: JsonObject) -> Ask:
        """The request in canon; options are those of the client, the provider's name and the level of thinking."""
        model = body.get("model")
        model = model if is_object(model) else {}
        asked = body.get("options")
        options = {**asked} if is_object(asked) else {}
        for name in ("provider", "api", "thinking_level", "cost"):
            if name in model:
                options[name] = model[name]
        options["spelling"] = "pi" if _is_camel(body) else "tinyagent"
        context = proxy_context.decode_context(body, text(model.get("provider")))
        return Ask(text(model.get("id")), context, True, options)

    def target(self, model: str, *, streaming: bool) -> str:
        """The path: the rest stands in the body."""
        return self.path

    def encode_request(self, ask: Ask) -> JsonObject:
        """The request as tinyagent sends it; without the option `provider` it stands before a slash in the model."""
        options = dict(ask.options)
        named, slash, rest = ask.model.partition("/")
        provider = options.pop("provider", named if slash else "")
        model = {
            "provider": provider,
            "id": rest if slash and provider == named else ask.model,
            "api": options.pop("api", ""),
            "thinking_level": options.pop("thinking_level", "off"),
        }
        sent = {"temperature": None, "maxTokens": None, "reasoning": None, **options}
        context = proxy_context.encode_context(ask.context, provider, model["id"])
        return {"model": model, "context": context, "options": sent}

    def decode_reply(self, body: bytes, status: int = 200) -> Iterable[Delta]:
        """An error's JSON object."""
        value = loads(body)
        if not is_object(value):
            raise ValueError("the answer is not a JSON object")
        return (Start(), Fail("api_error", text(value.get("error")) or "the proxy refused"))

    def decoder(self) -> Decoder:
        """A fresh decoder."""
        return _Decoder()

    def encode_reply(self, message: AssistantMessage) -> bytes:
        """Clients of this protocol only stream."""
        return dump(
            {"error": message.error}
            if message.error
            else proxy_context.encode_message(message, "", "")
        )

    def encoder(self, ask: Ask) -> Encoder:
        """A fresh encoder in the client's spelling."""
        prices = ask.options.get("cost")
        return _Encoder(ask.options.get("spelling") == "pi", prices if is_object(prices) else {})

    def encode_error(self, error: BridgeError) -> bytes:
        """`{"error": text}`."""
        return dump({"error": error.message})

    def encode_error_event(self, error: BridgeError, last: bytes = b"") -> SSE:
        """The event that ends the stream; usage in both spellings agrees when nothing is known."""
        wire = {"type": "error", "reason": "error", "errorMessage": error.message}
        return _sse({**wire, "usage": proxy_context.encode_usage(None)})


class _Encoder:
    """Events to the wire. A block's place is where it stands in the content, without gaps."""

    def __init__(self, camel: bool, prices: JsonObject) -> None:
        self._camel = camel
        self._prices = prices
        self._places: dict[int, int] = {}
        self._kinds: dict[int, str] = {}
        self._redacted: set[int] = set()
        self._over = False

    def feed(self, event: Event) -> Iterable[SSE]:
        return [_sse(wire) for wire in self._wire(event.delta)]

    def _wire(self, delta: Delta) -> Iterator[JsonObject]:
        if self._over:
            return
        match delta:
            case Start():
                yield {"type": "start"}
            case BlockStart(index, block):
                self._places[index] = place = len(self._places)
                self._kinds[index] = kind = _NAMES[type(block)]
                wire: dict[str, Any] = {"type": f"{kind}_start", "contentIndex": place}
                if isinstance(block, Thinking) and block.redacted:
                    self._redacted.add(index)
                if isinstance(block, ToolCall):
                    wire |= {"id": block.id, "toolName": block.name}
                yield wire
            case BlockDelta(index, piece):
                yield {**self._at(index, "delta"), "delta": piece}
            case BlockEnd(index, signature):
                if signature and index in self._redacted:
                    signature = proxy_context.REDACTED + signature
                signed = {"contentSignature": signature} if signature else {}
                yield {**self._at(index, "end"), **signed}
            case Finish():
                self._over = True
                yield self._done(delta)
            case Fail():
                self._over = True
                yield self._error(delta, delta.error or "the answer broke off")

    def _at(self, index: int, step: str) -> dict[str, Any]:
        return {"type": f"{self._kinds[index]}_{step}", "contentIndex": self._places[index]}

    def _done(self, delta: Finish) -> JsonObject:
        if delta.stop_reason in ("content_filter", "error", "aborted"):
            return self._error(delta, _FILTERED)
        said: str = delta.stop_reason or "stop"
        reason = camel(said) if self._camel else said
        return {"type": "done", "reason": reason, "usage": self._usage(delta)}

    def _error(self, delta: Finish | Fail, message: str) -> JsonObject:
        reason = "aborted" if delta.stop_reason == "aborted" else "error"
        wire = {"type": "error", "reason": reason, "errorMessage": message}
        return {**wire, "usage": self._usage(delta)}

    def _usage(self, delta: Finish | Fail) -> JsonObject:
        usage = proxy_context.encode_usage(delta.usage, self._prices)
        return proxy_context.to_camel(usage) if self._camel else usage


class _Decoder:
    """The wire to deltas. What does not fit the block it names ends the stream, as it does in both clients.

    Places that nobody filled are closed up: where tinyagent has holes of null, the blocks move together.
    """

    def __init__(self) -> None:
        self._kinds: dict[int, type[Block]] = {}
        self._places: dict[int, int] = {}
        self._count = 0
        self._begun = False
        self._over = False

    def feed(self, sse: SSE) -> Iterable[Delta]:
        if self._over:
            return ()
        deltas = list(self._read(loads_object(sse.data)))
        if deltas and not self._begun:
            self._begun = True
            if not isinstance(deltas[0], Start):
                deltas.insert(0, Start())
        self._over = any(isinstance(delta, Finish | Fail) for delta in deltas)
        return deltas

    def close(self) -> Iterable[Delta]:
        if self._over:
            return ()
        start = () if self._begun else (Start(),)
        return (*start, Fail("truncated", "the proxy's stream stopped before its last event"))

    def _read(self, wire: dict[str, Any]) -> Iterator[Delta]:
        kind = text(wire.get("type"))
        place = wire.get("contentIndex")
        index = place if isinstance(place, int) and place is not True and place > 0 else 0
        match kind.rpartition("_"):
            case (("text" | "thinking" | "toolcall") as name, _, step):
                yield from self._step(name, step, index, wire)
            case _ if kind == "start":
                yield Start()
            case _ if kind == "done":
                yield Finish(
                    _REASONS.get(text(wire.get("reason")), "stop"),
                    text(wire.get("reason")) or None,
                    proxy_context.decode_usage(wire.get("usage")),
                )
            case _ if kind == "error":
                yield Fail(
                    "api_error",
                    text(wire.get("errorMessage")) or "the proxy told no reason",
                    "aborted" if wire.get("reason") == "aborted" else "error",
                    usage=proxy_context.decode_usage(wire.get("usage")),
                )
            case _:
                pass

    def _step(self, name: str, step: str, index: int, wire: dict[str, Any]) -> Iterator[Delta]:
        kind = _KINDS[name]
        if step == "start":
            self._kinds[index], self._places[index] = kind, self._count
            self._count += 1
            yield BlockStart(self._places[index], _empty(name, wire))
        elif self._kinds.get(index) is not kind:
            if (name, step) != ("toolcall", "end"):
                yield Fail("api_error", f"Received {name}_{step} for non-{name} content")
        elif step == "delta":
            yield BlockDelta(self._places[index], text(wire.get("delta")))
        elif step == "end":
            yield BlockEnd(self._places[index], text(wire.get("contentSignature")) or None)


def _empty(name: str, wire: dict[str, Any]) -> Block:
    if name == "toolcall":
        return ToolCall(text(wire.get("id")), text(wire.get("toolName")))
    return Text() if name == "text" else Thinking()


def _is_camel(body: JsonObject) -> bool:
    """True for pi: tinyagent says `system_prompt` and `thinking_level`, each time."""
    model, context = body.get("model"), body.get("context")
    model, context = model if is_object(model) else {}, context if is_object(context) else {}
    if "system_prompt" in context or "thinking_level" in model:
        return False
    if "systemPrompt" in context or "baseUrl" in model:
        return True
    turns = objects(context.get("messages"))
    return any(
        isinstance(turn.get("content"), str)
        or turn.get("role") == "toolResult"
        or any(part.get("type") == "toolCall" or "mimeType" in part for part in _blocks(turn))
        for turn in turns
    )


def _blocks(turn: dict[str, Any]) -> list[dict[str, Any]]:
    return objects(turn.get("content"))


def _sse(wire: JsonObject) -> SSE:
    return SSE(data=json.dumps(wire, ensure_ascii=True, separators=(",", ":")))


API_STREAM = ApiStream()
