"""Files that hold an answer and nothing else: an event stream, a JSON object, or a stream's events as JSON lines.

Sources: the OpenAI and Anthropic SDKs' and vercel/ai's own fixtures.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from llmbridge.stores.safe_load import is_array, is_object

Interaction = dict[str, Any]

_EVENT_STREAM = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*(?:(?:event|data|id|retry)(?::|[\r\n])|:)")
_JSON_LINES = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{[^\r\n]*\}[ \t]*\r?\n\s*\{")
_DATA = re.compile(rb"^data: ?(\{.*)$", re.MULTILINE)

OPAQUE = "opaque"
_OBJECTS = {
    "chat.completion": "openai.chat",
    "chat.completion.chunk": "openai.chat",
    "chat.completion.done": "openai.chat",
    "response": "openai.responses",
    "text_completion": "openai.completions",
}
_ANTHROPIC_EVENTS = re.compile(r"message_(start|delta|stop)|content_block_(start|delta|stop)|ping")
_OTHERS = (
    ("candidates",),  # Gemini
    ("output", "stopReason"),  # Bedrock's converse, then its events
    ("messageStart",),
    ("contentBlockStart",),
    ("contentBlockDelta",),
    ("model", "created_at", "done"),  # Ollama
    ("id", "message", "finish_reason"),  # Cohere
)


def bare_stream(data: bytes) -> Interaction | None:
    """The answer in an event stream or in JSON lines; None for bytes that are neither."""
    if _EVENT_STREAM.match(data):
        return _answer(data, "text/event-stream")
    if _JSON_LINES.match(data):
        lines = [line for line in data.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()]
        events = [_loaded(line) for line in lines]
        if None in events or _dialect_of(events[0]) is None:
            return None
        # Ollama's own streams are JSON lines.
        if "done" in events[0]:
            return _answer(data, "application/x-ndjson")
        return _answer(b"".join(_framed(lines, events)), "text/event-stream")
    return None


def bare_block(tree: Any, data: bytes) -> Interaction | None:
    """The answer in a JSON object; None for one that no known endpoint answers with."""
    if _dialect_of(tree) is None:
        return None
    if str(tree.get("object")).endswith(".chunk"):
        return _answer(b"".join(_framed([data.strip()], [tree])), "text/event-stream")
    return _answer(data, "application/json")


def dialect_of_answer(body: bytes) -> str:
    """The dialect that such a body is in; `opaque` for one that nobody decodes."""
    is_stream = _EVENT_STREAM.match(body) is not None
    texts = (line[1] for line in _DATA.finditer(body)) if is_stream else iter([body])
    events = map(_loaded, texts)
    return next((name for event in events if (name := _dialect_of(event))), OPAQUE)


def _dialect_of(value: Any) -> str | None:
    """For an answer or an event in it; `opaque` where it is only relayed, None for neither."""
    if not is_object(value):
        return None
    kind, name = value.get("type"), value.get("object")
    if isinstance(name, str) and name in _OBJECTS:
        return _OBJECTS[name]
    if isinstance(kind, str):
        if kind.startswith("response."):
            return "openai.responses"
        if _ANTHROPIC_EVENTS.fullmatch(kind) or (kind == "message" and "content" in value):
            return "anthropic.messages"
        if kind == "message-start":
            return OPAQUE
    if name == "list" and is_array(items := value.get("data")):
        embeddings = bool(items) and is_object(items[0]) and "embedding" in items[0]
        return "openai.embeddings" if embeddings else "openai.models"
    if is_array(value.get("choices")):
        return "openai.chat"
    return OPAQUE if any(all(key in value for key in keys) for keys in _OTHERS) else None


def _framed(lines: list[bytes], events: list[Any]) -> Iterator[bytes]:
    """The lines as server-sent events: named by their type, or ended as OpenAI's chat ends."""
    for line, event in zip(lines, events, strict=True):
        kind = event.get("type")
        named = isinstance(kind, str) and kind.isprintable()
        yield (
            b"event: %b\ndata: %b\n\n" % (kind.encode(), line) if named else b"data: %b\n\n" % line
        )
    if is_array(events[0].get("choices")):
        yield b"data: [DONE]\n\n"


def _answer(body: bytes, content_type: str) -> Interaction:
    return {
        "request": {"method": "", "uri": ""},
        "response": {
            "status": {"code": 200},
            "headers": {"content-type": [content_type]},
            "body": {"string": body},
        },
    }


def _loaded(line: bytes) -> Any:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if is_object(value) else None
