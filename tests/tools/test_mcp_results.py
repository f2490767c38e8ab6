"""llmbridge.tools.mcp_results."""

from typing import Any

import pytest
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from llmbridge.canon.messages import Image, Text, ToolResult
from llmbridge.tools.mcp_results import decode_result

PNG = Image("image/png", "aGVsbG8=")
SEEN = Text("[a picture, image/png; it follows if this API can carry one]")
URI = "file:///a"


def embedded(resource: Any) -> EmbeddedResource:
    return EmbeddedResource(resource=resource)


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        (TextContent(text="hello"), [Text("hello")]),
        (TextContent(text=""), [Text("(the tool returned nothing)")]),
        (ImageContent(data="aGVsbG8=", mime_type="image/png"), [SEEN, PNG]),
        (
            AudioContent(data="aGVsbG8=", mime_type="audio/wav"),
            [Text("[audio, audio/wav, 5 bytes: left out, since it is not text]")],
        ),
        (
            ImageContent(data="aGVsbG8=", mime_type="image/svg+xml"),
            [
                Text(
                    "[a picture, image/svg+xml, 5 bytes:"
                    " left out, since providers refuse its kind or size]"
                )
            ],
        ),
        (
            ImageContent(data="a" * 5_242_884, mime_type="image/png"),
            [
                Text(
                    "[a picture, image/png, 3,932,163 bytes:"
                    " left out, since providers refuse its kind or size]"
                )
            ],
        ),
        (ResourceLink(name="a", uri=URI), [Text("[resource file:///a: a]")]),
        (
            embedded(TextResourceContents(uri=URI, text="words")),
            [Text("[resource file:///a]\nwords")],
        ),
        (
            embedded(BlobResourceContents(uri=URI, blob="aGVsbG8=", mime_type="image/png")),
            [SEEN, PNG],
        ),
        (
            embedded(BlobResourceContents(uri=URI, blob="aGVsbG8=")),
            [
                Text(
                    "[resource file:///a, application/octet-stream, 5 bytes:"
                    " left out, since it is not text]"
                )
            ],
        ),
    ],
)
def test_each_kind_of_content_is_told(block: Any, parts: list[Any]):
    result = decode_result("a", CallToolResult(content=[block]))

    assert result == ToolResult("a", tuple(parts))


def test_what_is_only_structured_is_told_as_json():
    result = decode_result("a", CallToolResult(content=[], structured_content={"ä": 1}))

    assert result == ToolResult("a", (Text('{"ä": 1}'),))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], ["Error: (the tool returned nothing)"]),
        ([TextContent(text="no"), TextContent(text="never")], ["Error: no", "never"]),
        ([TextContent(text="Error executing it")], ["Error executing it"]),
    ],
)
def test_a_failure_is_told_in_words_too(content: Any, words: list[str]):
    result = decode_result("a", CallToolResult(content=content, is_error=True))

    assert result == ToolResult("a", tuple(Text(text) for text in words), is_error=True)
