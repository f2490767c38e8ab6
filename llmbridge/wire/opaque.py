"""Everything else: relayed and recorded as it is. Only model, id, usage and error are read, for the tables.

Source: the endpoints' own references. Completions, embeddings, rerank and model lists answer in JSON of OpenAI's
shape, completions also as a stream of such objects.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from llmbridge.canon.events import Delta, Event, Fail, Finish, Start
from llmbridge.canon.messages import Ask, AssistantMessage, JsonObject, Usage
from llmbridge.errors import BridgeError
from llmbridge.wire.dialect import Decoder, Encoder, Verdict
from llmbridge.wire.error_bodies import anthropic_error, openai_error
from llmbridge.wire.fast_json import loads
from llmbridge.wire.loose_json import counts_in, is_object
from llmbridge.wire.sse import SSE


class _Decoder:
    """Remembers the last model, id, usage and error that the stream's JSON named."""

    def __init__(self) -> None:
        self._seen: dict[str, Any] = {}

    def feed(self, sse: SSE) -> Iterable[Delta]:
        try:
            value = loads(sse.data)
        except ValueError:
            return ()
        self._seen.update(_facts(value))
        return ()

    def close(self) -> Iterable[Delta]:
        return _deltas(self._seen)


class _Encoder:
    """An opaque endpoint has no words of canon's; its stream is only ever passed on."""

    def feed(self, event: Event) -> Iterable[SSE]:
        return ()


@dataclass(frozen=True, slots=True)
class Opaque:
    """An endpoint whose answers are bytes to us, with the error shape its clients expect."""

    name: str
    path: str = ""
    anthropic: bool = False

    @property
    def markers(self) -> tuple[bytes, ...]:
        return (b"[DONE]", b'"error"')

    @property
    def terminated(self) -> bool:
        return False

    def verdict(self, sse: SSE) -> Verdict | None:
        if sse.data == "[DONE]":
            return "completed"
        return "error" if sse.event == "error" else None

    def streaming(self, body: JsonObject) -> bool:
        return body.get("stream") is True

    def decode_request(self, body: JsonObject) -> Ask:
        model = body.get("model")
        options = {key: value for key, value in body.items() if key not in ("model", "stream")}
        return Ask(
            model=model if isinstance(model, str) else "",
            streaming=self.streaming(body),
            options=options,
        )

    def target(self, model: str, *, streaming: bool) -> str:
        return self.path

    def encode_request(self, ask: Ask) -> JsonObject:
        body = {"model": ask.model, **ask.options}
        return {**body, "stream": True} if ask.streaming else body

    def decode_reply(self, body: bytes, status: int = 200) -> Iterable[Delta]:
        return _deltas(_facts(loads(body)))

    def decoder(self) -> Decoder:
        return _Decoder()

    def encode_reply(self, message: AssistantMessage) -> bytes:
        return b"{}"

    def encoder(self, ask: Ask) -> Encoder:
        return _Encoder()

    def encode_error(self, error: BridgeError) -> bytes:
        return anthropic_error(error) if self.anthropic else openai_error(error)

    def encode_error_event(self, error: BridgeError, last: bytes = b"") -> SSE:
        return SSE(data=self.encode_error(error).decode())


def _facts(value: Any) -> dict[str, Any]:
    if not is_object(value):
        return {}
    return {key: value[key] for key in ("model", "id", "usage", "error") if value.get(key)}


def _deltas(facts: dict[str, Any]) -> Iterator[Delta]:
    model, response_id = facts.get("model"), facts.get("id")
    yield Start(
        model if isinstance(model, str) else None,
        response_id if isinstance(response_id, str) else None,
    )
    usage = _usage(facts["usage"]) if is_object(facts.get("usage")) else None
    error = facts.get("error")
    if error:
        detail = error if is_object(error) else {"message": error}
        kind = detail.get("type") or detail.get("code")
        yield Fail(kind and str(kind), str(detail.get("message", error)), usage=usage)
    else:
        yield Finish(usage=usage)


def _usage(raw: dict[str, Any]) -> Usage:
    known = counts_in(raw)
    return Usage(
        input_tokens=known.get("prompt_tokens", known.get("input_tokens")),
        output_tokens=known.get("completion_tokens", known.get("output_tokens")),
        total_tokens=known.get("total_tokens"),
        raw=raw,
    )


OPENAI_COMPLETIONS = Opaque("openai.completions", "/v1/completions")
OPENAI_EMBEDDINGS = Opaque("openai.embeddings", "/v1/embeddings")
OPENAI_MODELS = Opaque("models", "/v1/models")
COUNT_TOKENS = Opaque("anthropic.count_tokens", "/v1/messages/count_tokens", anthropic=True)
RERANK = Opaque("rerank", "/v1/rerank")
OPAQUE = Opaque("opaque")
