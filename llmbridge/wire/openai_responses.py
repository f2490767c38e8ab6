"""OpenAI Responses: `POST /v1/responses`.

Source: OpenAI API reference, "Responses" and "Streaming events"; OpenRouter, xAI, DeepSeek, Azure, Bedrock and LM
Studio spell it with small differences.

An output item's message part is a text block, a reasoning item a thinking block, a function, custom or MCP call a tool
call. Canon has no word for other items (searches, code runs, compaction), annotations, log probabilities, item ids,
the phase of a message and the namespace of a function: they are relayed and recorded as they are, and left out of a
decoded message.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from llmbridge.canon.events import Delta
from llmbridge.canon.messages import Ask, AssistantMessage, JsonObject
from llmbridge.errors import BridgeError
from llmbridge.wire import openai_responses_request as request
from llmbridge.wire.dialect import Decoder, Encoder, Verdict
from llmbridge.wire.error_bodies import OPENAI_TYPES, dump, openai_error
from llmbridge.wire.fast_json import typed
from llmbridge.wire.openai_responses_decoder import ResponseDecoder, decode_response
from llmbridge.wire.openai_responses_encoder import ResponseEncoder, encode_response
from llmbridge.wire.sse import SSE


class _Ending(msgspec.Struct):
    type: Any = None
    error: Any = None


_decode_ending = typed(_Ending)
# In the words of a model the quotes are escaped.
_NUMBER = re.compile(rb'(?<!\\)"sequence_number":\s*(\d{1,18})\b')


@dataclass(frozen=True, slots=True)
class OpenAIResponses:
    """The dialect of `POST /v1/responses`."""

    name: str = "openai.responses"
    path: str = "/v1/responses"
    terminated: bool = True
    markers: tuple[bytes, ...] = (
        b"response.completed",
        b"response.incomplete",
        b"response.failed",
        b'"error"',
    )

    def verdict(self, sse: SSE) -> Verdict | None:
        """Completed and incomplete complete; failed and error are errors; `[DONE]` says nothing here."""
        try:
            data = _decode_ending(sse.data)
        except ValueError:
            return None
        match data.type:
            case "response.completed" | "response.incomplete":
                return "completed"
            case "response.failed" | "error":
                return "error"
            case None if data.error:
                return "error"
            case _:
                return None

    def streaming(self, body: JsonObject) -> bool:
        """True with `"stream": true`."""
        return body.get("stream") is True

    def decode_request(self, body: JsonObject) -> Ask:
        """The request in canon; tools that are not functions stay in `options["tools"]`."""
        return request.decode(body)

    def target(self, model: str, *, streaming: bool) -> str:
        """The path: the rest stands in the body."""
        return self.path

    def encode_request(self, ask: Ask) -> JsonObject:
        """The request body; functions come first among its tools."""
        return request.encode(ask)

    def decode_reply(self, body: bytes, status: int = 200) -> Iterable[Delta]:
        """A response object, or an error object."""
        return decode_response(body)

    def decoder(self) -> Decoder:
        """A fresh decoder."""
        return ResponseDecoder()

    def encode_reply(self, message: AssistantMessage) -> bytes:
        """A response object, also when the message failed: what came before is in it."""
        return dump(encode_response(message))

    def encoder(self, ask: Ask) -> Encoder:
        """A fresh encoder."""
        return ResponseEncoder(ask.model)

    def encode_error(self, error: BridgeError) -> bytes:
        """OpenAI's error object."""
        return openai_error(error)

    def encode_error_event(self, error: BridgeError, last: bytes = b"") -> SSE:
        """`event: error`: flat as the API documents it, and with the object at which its SDK raises."""
        kind, code = OPENAI_TYPES[error.kind], type(error).__name__
        detail = {"type": kind, "code": code, "message": error.message, "param": None}
        return SSE("error", dump(flat_error(detail, last)).decode())


def flat_error(detail: JsonObject, last: bytes) -> JsonObject:
    """An error object as the event that comes after these bytes of a stream."""
    numbers = _NUMBER.findall(last)
    number = int(numbers[-1]) + 1 if numbers else 0
    return {**detail, "type": "error", "sequence_number": number, "error": detail}


OPENAI_RESPONSES = OpenAIResponses()
