"""What an MCP tool answered, in words and pictures that a model can be told."""

import json
from collections.abc import Iterator, Sequence
from typing import assert_never

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from llmbridge.canon.messages import Image, Text, ToolResult

_NO_TEXT = "it is not text"
_PICTURES = frozenset(("image/gif", "image/jpeg", "image/png", "image/webp"))
_LARGEST_CHARS = 5 * 1024 * 1024
"""Of base64. Anthropic refuses a request with a larger picture, or one of another kind."""


def decode_result(call_id: str, result: CallToolResult) -> ToolResult:
    """The result of a call. What a model cannot be told is named, not dropped."""
    parts = [part for block in result.content for part in _parts(block)]
    if not parts and result.structured_content is not None:
        parts = [Text(json.dumps(result.structured_content, ensure_ascii=False))]
    parts = parts or [Text("(the tool returned nothing)")]
    if result.is_error:
        parts = _told_as_error(parts)
    return ToolResult(call_id, tuple(parts), is_error=result.is_error)


def _told_as_error(parts: Sequence[Text | Image]) -> list[Text | Image]:
    # Only Anthropic's dialect has a mark for it: in the others words must do.
    first, *rest = parts
    if isinstance(first, Text) and first.text.casefold().startswith("error"):
        return [*parts]
    if isinstance(first, Text):
        return [Text(f"Error: {first.text}"), *rest]
    return [Text("Error:"), *parts]


def _parts(block: ContentBlock) -> Iterator[Text | Image]:
    match block:
        case TextContent():
            if block.text:
                yield Text(block.text)
        case ImageContent():
            yield from _picture(block.mime_type, block.data)
        case AudioContent():
            yield _left_out("audio", block.mime_type, block.data, _NO_TEXT)
        case ResourceLink():
            yield Text(f"[resource {block.uri}: {block.title or block.name}]")
        case EmbeddedResource():
            yield from _resource(block.resource)
        case _:
            assert_never(block)


def _resource(inner: TextResourceContents | BlobResourceContents) -> Iterator[Text | Image]:
    if isinstance(inner, TextResourceContents):
        yield Text(f"[resource {inner.uri}]\n{inner.text}")
        return
    kind = inner.mime_type or "application/octet-stream"
    if kind.startswith("image/"):
        yield from _picture(kind, inner.blob)
    else:
        yield _left_out(f"resource {inner.uri}", kind, inner.blob, _NO_TEXT)


def _picture(mime_type: str, data: str) -> Iterator[Text | Image]:
    if mime_type not in _PICTURES or len(data) > _LARGEST_CHARS:
        yield _left_out("a picture", mime_type, data, "providers refuse its kind or size")
        return
    # Chat Completions has no pictures in results: there the words are all that is left.
    yield Text(f"[a picture, {mime_type}; it follows if this API can carry one]")
    yield Image(mime_type, data)


def _left_out(what: str, mime_type: str, data: str, why: str) -> Text:
    size = len(data.rstrip("=")) * 3 // 4
    return Text(f"[{what}, {mime_type}, {size:,} bytes: left out, since {why}]")
