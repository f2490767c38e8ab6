"""Recordings that other recorders wrote: told by what stands at the top of the file."""

from typing import Any

from llmbridge.stores.safe_load import is_array, is_object


def recorder_of(tree: Any) -> str | None:
    """The recorder that writes files of this shape; None for vcrpy, and for what nobody writes."""
    if is_array(tree):
        return _of_list(tree)
    if not is_object(tree):
        return None
    for key, recorder in _TOP_KEYS.items():
        if key in tree:
            return recorder
    return _of_interaction(_first(tree.get("interactions")))


_TOP_KEYS = {
    "http_interactions": "Ruby VCR or betamax",
    "log": "an HTTP archive (HAR) or Polly.js",
    "mappings": "WireMock",
    "fixtures": "aimock",
    "request": "a recorder that keeps one exchange a file, such as ddapm-test-agent",
}


def _of_list(tree: list[Any]) -> str | None:
    first = _first(tree)
    if "scope" in first:
        return "nock"
    return "vcrpy before 1.0" if "request" in first else None


def _of_interaction(interaction: dict[str, Any]) -> str | None:
    request, response = interaction.get("request"), interaction.get("response")
    if not is_object(request) or not is_object(response):
        return None
    if "url" in request:
        return "go-vcr"
    body = response.get("body")
    if is_object(body) and "content" in body and "type" in body:
        return "cassetter"
    return None


def _first(items: Any) -> dict[str, Any]:
    return items[0] if is_array(items) and items and is_object(items[0]) else {}
