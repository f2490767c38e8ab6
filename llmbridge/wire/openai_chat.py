"""OpenAI Chat Completions: `POST /v1/chat/completions`, and the many hosts that speak it.

Source: OpenAI API reference, "Chat completions"; DeepSeek's `reasoning_content`, OpenRouter's `reasoning` and
`reasoning_details`, Mistral's content parts and Groq's `x_groq` from their own references.

Canon carries the first choice. Annotations, audio, log probabilities, moderation and reasoning that stands in
`reasoning_details` alone are relayed and recorded as they are, and left out of a decoded message; so are the borders
between neighbouring blocks of one kind.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from llmbridge.canon.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Delta,
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
    Usage,
)
from llmbridge.errors import BridgeError
from llmbridge.wire import openai_chat_request
from llmbridge.wire.dialect import Decoder, Encoder, Verdict
from llmbridge.wire.error_bodies import dump, openai_error
from llmbridge.wire.fast_json import loads, typed
from llmbridge.wire.loose_json import is_list, is_object, objects, text
from llmbridge.wire.openai_chat_encoder import (
    STOP_WORDS,
    ChatEncoder,
    encode_failure,
    encode_message,
    encode_usage,
)
from llmbridge.wire.openai_usage import decode_usage
from llmbridge.wire.sse import SSE

STOP_REASONS: Mapping[str, StopReason] = MappingProxyType(
    {
        "stop": "stop",
        "eos": "stop",
        "length": "length",
        "tool_calls": "tool_use",
        "function_call": "tool_use",
        "content_filter": "content_filter",
        "error": "error",
    }
)


class _Chunk(msgspec.Struct):
    """One chunk or one whole completion: both have these keys."""

    id: str | None = None
    model: str | None = None
    choices: list[dict[str, Any]] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    x_groq: dict[str, Any] | None = None


_decode_chunk = typed(_Chunk)
_PROSE = frozenset({"text", "thinking", "refusal"})


class _Decoder:
    """Chunks to deltas. The wire has no block borders: a block ends where another kind begins."""

    def __init__(self) -> None:
        self._model: str | None = None
        self._id: str | None = None
        self._started = False
        self._over = False
        self._blocks = 0
        self._open: dict[object, int] = {}
        self._ids: dict[object, str] = {}
        self._signature: str | None = None
        self._choice: int | None = None
        self._stop: str | None = None
        self._usage: dict[str, Any] | None = None

    def feed(self, sse: SSE) -> Iterable[Delta]:
        if self._over:
            return ()
        if sse.data == "[DONE]":
            return self._finish()
        try:
            return list(self.take(_decode_chunk(sse.data)))
        except ValueError:
            return ()

    def close(self) -> Iterable[Delta]:
        if self._over:
            return ()
        if self._stop is not None:
            # Some hosts never send [DONE]; a finish reason is enough.
            return self._finish()
        return self._fail("truncated", "the stream stopped before its finish reason")

    def take(self, chunk: _Chunk) -> Iterator[Delta]:
        self._model = self._model or chunk.model or None
        self._id = self._id or chunk.id or None
        if not self._started and (self._id or self._model or chunk.choices):
            self._started = True
            yield Start(self._model, self._id)
        for choice in chunk.choices or ():
            if self._is_first(choice):
                yield from self._take_choice(choice)
        usage = chunk.usage or (chunk.x_groq or {}).get("usage")
        self._usage = usage if is_object(usage) and usage else self._usage
        if chunk.error:
            yield from self._fail(*_error(chunk.error))

    def _is_first(self, choice: dict[str, Any]) -> bool:
        index = choice.get("index") or 0
        if self._choice is None:
            self._choice = index
        return bool(index == self._choice)

    def _take_choice(self, choice: dict[str, Any]) -> Iterator[Delta]:
        said = choice.get("delta") or (choice.get("message") if not self._blocks else None)
        if is_object(said):
            yield from self._take_delta(said)
        if choice.get("finish_reason") is not None:
            self._stop = str(choice["finish_reason"]) or self._stop
        usage = choice.get("usage")
        self._usage = usage if is_object(usage) else self._usage
        if choice.get("error"):
            yield from self._fail(*_error(choice["error"]))

    def _take_delta(self, said: dict[str, Any]) -> Iterator[Delta]:
        thought = said.get("reasoning_content") or said.get("reasoning")
        details = said.get("reasoning_details")
        if is_list(details):
            yield from self._take_details(details)
        if isinstance(thought, str) and thought:
            yield from self._write("thinking", Thinking(), thought)
        yield from self._take_content(said.get("content"))
        if refusal := said.get("refusal"):
            yield from self._write("refusal", Text(refusal=True), str(refusal))
        for call in objects(said.get("tool_calls")):
            yield from self._take_call(call)
        if is_object(said.get("function_call")):
            yield from self._take_call({"index": "legacy", "function": said["function_call"]})

    def _take_content(self, content: Any) -> Iterator[Delta]:
        if isinstance(content, str):
            if content:
                yield from self._write("text", Text(), content)
        elif is_list(content):
            # Mistral: parts of text and thinking, plain strings in the same stream.
            for part in content:
                if is_object(part):
                    yield from self._take_content_part(part)

    def _take_content_part(self, part: dict[str, Any]) -> Iterator[Delta]:
        if part.get("type") == "thinking":
            inner = part.get("thinking")
            pieces = inner if is_list(inner) else [{"text": inner}]
            text = "".join(str(p.get("text") or "") for p in pieces if is_object(p))
            yield from self._write("thinking", Thinking(), text)
        elif isinstance(part.get("text"), str):
            yield from self._write("text", Text(), part["text"])

    def _take_details(self, details: list[Any]) -> Iterator[Delta]:
        """Signatures and sealed reasoning; the text of a detail is said again in the plain key."""
        for detail in details:
            if not is_object(detail):
                continue
            if detail.get("type") == "reasoning.encrypted":
                yield from self._redacted(str(detail.get("data") or ""))
            elif detail.get("signature"):
                self._signature = str(detail["signature"])

    def _redacted(self, data: str) -> Iterator[Delta]:
        yield from self._close_blocks()
        yield BlockStart(self._blocks, Thinking(redacted=True))
        yield BlockEnd(self._blocks, data)
        self._blocks += 1

    def _take_call(self, call: dict[str, Any]) -> Iterator[Delta]:
        custom = call.get("type") == "custom" or "function" not in call
        told = call.get("custom" if custom else "function")
        function = told if is_object(told) else {}
        name, call_id = str(function.get("name") or ""), str(call.get("id") or "")
        key = self._call_key(call)
        # Some hosts give every call the same index: a name with another id is another call.
        if key not in self._open or (name and call_id not in ("", self._ids.get(key))):
            if self._open.keys() & _PROSE:
                yield from self._close_blocks()
            if key in self._open:
                yield BlockEnd(self._open.pop(key))
            self._ids[key] = call_id
            yield from self._begin(key, ToolCall(call_id, name, custom=custom))
        arguments = function.get("input" if custom else "arguments")
        if isinstance(arguments, str):
            if arguments:
                yield BlockDelta(self._open[key], arguments)
        elif arguments:
            yield BlockDelta(self._open[key], dump(arguments).decode())

    def _call_key(self, call: dict[str, Any]) -> object:
        """What tells calls apart: the index, else a new id; without both the last call goes on."""
        if isinstance(call.get("index"), int | str):
            return call["index"]
        calls = [key for key in self._open if key not in _PROSE]
        return text(call.get("id")) or (calls[-1] if calls else "")

    def _write(self, kind: str, block: Block, text: str) -> Iterator[Delta]:
        if kind not in self._open:
            yield from self._close_blocks()
            yield from self._begin(kind, block)
        yield BlockDelta(self._open[kind], text)

    def _begin(self, key: object, block: Block) -> Iterator[Delta]:
        self._open[key] = self._blocks
        self._blocks += 1
        yield BlockStart(self._open[key], block)

    def _close_blocks(self) -> Iterator[Delta]:
        for key, index in self._open.items():
            signature = self._signature if key == "thinking" else None
            yield BlockEnd(index, signature)
            self._signature = None if key == "thinking" else self._signature
        self._open.clear()

    def _finish(self) -> Iterable[Delta]:
        self._over = True
        reason = STOP_REASONS.get(self._stop, "stop") if self._stop else None
        ending = Finish(reason, self._stop, self._known(), self._model, self._id)
        return [*self._close_blocks(), ending]

    def _fail(self, error_type: str | None, error: str) -> Iterable[Delta]:
        if self._over:
            return ()
        self._over = True
        ending = Fail(error_type, error, "error", self._stop, self._known(), self._model, self._id)
        return [*self._close_blocks(), ending]

    def _known(self) -> Usage | None:
        return decode_usage(self._usage, "prompt", "completion") if self._usage else None


class OpenAIChat:
    """The dialect of `POST /v1/chat/completions`."""

    name = "openai.chat"
    path = "/v1/chat/completions"
    terminated = True
    markers = (b"[DONE]", b'"error"', b"event: error", b'"finish_reason":"', b'"finish_reason": "')

    def verdict(self, sse: SSE) -> Verdict | None:
        """`[DONE]` completes; an error ends; after a finish reason the end may come at any time."""
        if sse.data == "[DONE]":
            return "completed"
        try:
            chunk = _decode_chunk(sse.data)
        except ValueError:
            return "error" if sse.event == "error" else None
        if chunk.error:
            return "error"
        finished = any(choice.get("finish_reason") for choice in chunk.choices or ())
        return "finished" if finished else None

    def streaming(self, body: JsonObject) -> bool:
        """True with `"stream": true`."""
        return body.get("stream") is True

    def decode_request(self, body: JsonObject) -> Ask:
        """The request in canon."""
        return openai_chat_request.decode(body)

    def target(self, model: str, *, streaming: bool) -> str:
        """The path: the rest stands in the body."""
        return self.path

    def encode_request(self, ask: Ask) -> JsonObject:
        """The request body; a stream asks for its usage."""
        return openai_chat_request.encode(ask)

    def decode_reply(self, body: bytes, status: int = 200) -> Iterable[Delta]:
        """A completion object, or an error object."""
        chunk = _decode_chunk(body)
        if chunk.choices is None and not chunk.error:
            value = loads(body)
            if is_object(value) and value.get("message") and "choices" not in value:
                chunk.error = value
            else:
                raise ValueError("the answer has no 'choices' list")
        # A completion is one chunk with `message` for `delta`.
        decoder = _Decoder()
        deltas = list(decoder.take(chunk))
        return deltas if chunk.error else [*deltas, *decoder.feed(SSE(data="[DONE]"))]

    def decoder(self) -> Decoder:
        """A fresh decoder."""
        return _Decoder()

    def encode_reply(self, message: AssistantMessage) -> bytes:
        """A completion object; an error object when the message failed."""
        if message.error is not None or message.error_type is not None:
            return encode_failure(Fail(message.error_type, message.error))
        choice = {
            "index": 0,
            "message": encode_message(message),
            "logprobs": None,
            "finish_reason": message.stop or STOP_WORDS.get(message.stop_reason, "stop"),
        }
        wire: dict[str, Any] = {
            "id": message.response_id or "chatcmpl-llmbridge",
            "object": "chat.completion",
            "created": 0,
            "model": message.model or "",
            "choices": [choice],
        }
        if message.usage is not None:
            wire["usage"] = encode_usage(message.usage)
        return dump(wire)

    def encoder(self, ask: Ask) -> Encoder:
        """A fresh encoder; usage goes out when the request asked for it."""
        return ChatEncoder(ask)

    def encode_error(self, error: BridgeError) -> bytes:
        """OpenAI's error object."""
        return openai_error(error)

    def encode_error_event(self, error: BridgeError, last: bytes = b"") -> SSE:
        """The error object as a chunk, and no `[DONE]` after it."""
        return SSE(data=openai_error(error).decode())


def _error(error: Any) -> tuple[str | None, str]:
    if not is_object(error):
        return None, str(error)
    kind = error.get("type") or error.get("code")
    return (str(kind) if kind else None), str(error.get("message") or "")


OPENAI_CHAT = OpenAIChat()
