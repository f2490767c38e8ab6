"""Generated replies in the providers' wire forms, and cassettes that hold them. No chance in it."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

SENTENCE = "a relay is a recording that happens to be live; a replay is the déjà vu of it."


def pieces(count: int) -> list[str]:
    """Text as it is streamed: a word or so at a time, some of it beyond ASCII."""
    words = itertools.cycle(SENTENCE.split())
    return [word + " " for word in itertools.islice(words, count)]


def spelled(data: object, name: str | None = None) -> bytes:
    text = (
        data
        if isinstance(data, str)
        else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    )
    return ((f"event: {name}\n" if name else "") + f"data: {text}\n\n").encode()


def anthropic_events(deltas: int, texts: Iterable[str] | None = None) -> Iterator[bytes]:
    """A Messages stream of `deltas` pieces of text, `texts` if given: five events more."""

    def event(name: str, **fields: object) -> bytes:
        return spelled({"type": name, **fields}, name)

    message: dict[str, object] = {
        "id": "msg_bench",
        "type": "message",
        "role": "assistant",
        "model": "bench",
        "content": [],
    }
    message |= {"stop_reason": None, "usage": {"input_tokens": 25, "output_tokens": 1}}
    yield event("message_start", message=message)
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for text in pieces(deltas) if texts is None else texts:
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
    yield event("content_block_stop", index=0)
    yield event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": deltas})
    yield event("message_stop")


def chat_events(deltas: int) -> Iterator[bytes]:
    """A Chat Completions stream of `deltas` pieces of text: three events more."""

    def chunk(delta: dict[str, str], finish: str | None = None, **fields: object) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        head = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1700000000}
        return spelled(head | {"model": "bench", "choices": [choice], **fields})

    yield chunk({"role": "assistant", "content": ""})
    for text in pieces(deltas):
        yield chunk({"content": text})
    usage = {"prompt_tokens": 25, "completion_tokens": deltas, "total_tokens": 25 + deltas}
    yield chunk({}, "stop", usage=usage)
    yield spelled("[DONE]")


def responses_events(deltas: int) -> Iterator[bytes]:
    """A Responses stream of `deltas` pieces of text: eight events more."""
    numbers = itertools.count()
    part = {"type": "output_text", "annotations": [], "text": "".join(pieces(deltas))}
    item = {"id": "msg_bench", "type": "message", "role": "assistant"}
    within = {"item_id": "msg_bench", "output_index": 0, "content_index": 0}
    response = {
        "id": "resp_bench",
        "object": "response",
        "created_at": 1700000000,
        "model": "bench",
    }
    begun = response | {"status": "in_progress", "output": []}
    full = item | {"status": "completed", "content": [part]}
    usage = {"input_tokens": 25, "output_tokens": deltas, "total_tokens": 25 + deltas}
    done = response | {"status": "completed", "output": [full], "usage": usage}

    def event(name: str, **fields: object) -> bytes:
        return spelled({"type": name, "sequence_number": next(numbers), **fields}, name)

    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    empty = item | {"status": "in_progress", "content": []}
    yield event("response.output_item.added", output_index=0, item=empty)
    yield event("response.content_part.added", **within, part=part | {"text": ""})
    for text in pieces(deltas):
        yield event("response.output_text.delta", **within, delta=text)
    yield event("response.output_text.done", **within, text=part["text"])
    yield event("response.content_part.done", **within, part=part)
    yield event("response.output_item.done", output_index=0, item=full)
    yield event("response.completed", response=done)


STREAMS = {
    "anthropic.messages": anthropic_events,
    "openai.chat": chat_events,
    "openai.responses": responses_events,
}


def anthropic_json() -> bytes:
    message: dict[str, object] = {
        "id": "msg_bench",
        "type": "message",
        "role": "assistant",
        "model": "bench",
        "content": [{"type": "text", "text": "Hello from the bench."}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 25, "output_tokens": 6},
    }
    return json.dumps(message).encode()


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its whole answer."""

    url: str
    request: str
    content_type: str
    body: bytes
    noted: Mapping[str, object] | None = None
    """What llmbridge keeps beside an answer, the time of each piece among it."""

    def as_vcr(self) -> dict[str, object]:
        headers = {"content-type": ["application/json"]}
        noted = {} if self.noted is None else {"llmbridge": dict(self.noted)}
        return {
            "request": {
                "method": "POST",
                "uri": self.url,
                "headers": headers,
                "body": self.request,
            },
            "response": {
                "status": {"code": 200, "message": "OK"},
                "headers": {"content-type": [self.content_type]},
                "body": {"string": self.body.decode()},
                **noted,
            },
        }


def chat_exchange(number: int, deltas: int) -> Exchange:
    """A streamed chat completion; no two numbers ask the same."""
    question = [{"role": "user", "content": f"question {number}"}]
    request = json.dumps({"model": "bench", "stream": True, "messages": question})
    url = "https://api.openai.com/v1/chat/completions"
    return Exchange(url, request, "text/event-stream", b"".join(chat_events(deltas)))


def write_cassette(path: Path, exchanges: Iterable[Exchange]) -> Path:
    """A vcrpy file, as its own YAML serializer would write it."""
    data = {"interactions": [e.as_vcr() for e in exchanges], "version": 1}
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(data, file, Dumper=yaml.CSafeDumper, allow_unicode=True)
    return path
