"""Error answers in the shapes that clients know.

Source: the "Errors" pages of the Anthropic and OpenAI API references.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from llmbridge.errors import BridgeError, Kind

ANTHROPIC_TYPES: Mapping[Kind, str] = MappingProxyType(
    {
        "invalid_request": "invalid_request_error",
        "authentication": "authentication_error",
        "permission": "permission_error",
        "not_found": "not_found_error",
        "too_large": "request_too_large",
        "rate_limit": "rate_limit_error",
        "quota": "rate_limit_error",
        "overloaded": "overloaded_error",
        "timeout": "timeout_error",
        "api": "api_error",
    }
)

OPENAI_TYPES: Mapping[Kind, str] = MappingProxyType(
    {
        "invalid_request": "invalid_request_error",
        "authentication": "authentication_error",
        "permission": "permission_error",
        "not_found": "not_found_error",
        "too_large": "invalid_request_error",
        "rate_limit": "rate_limit_error",
        "quota": "insufficient_quota",
        "overloaded": "overloaded_error",
        "timeout": "timeout_error",
        "api": "server_error",
    }
)


_OPENAI_CODES: Mapping[Kind, str] = MappingProxyType(
    {"authentication": "invalid_api_key", "quota": "insufficient_quota"}
)


def anthropic_error(error: BridgeError) -> bytes:
    """`{"type":"error","error":{"type","message"}}`."""
    detail = {"type": ANTHROPIC_TYPES[error.kind], "message": error.message}
    return dump({"type": "error", "error": detail})


def openai_error(error: BridgeError) -> bytes:
    """`{"error":{"message","type","param","code"}}`."""
    detail = {
        "message": error.message,
        "type": OPENAI_TYPES[error.kind],
        "param": None,
        "code": _OPENAI_CODES.get(error.kind),
    }
    return dump({"error": detail})


def error_fields(body: bytes) -> list[tuple[str, str]]:
    """The header fields of an error's body: JSON, or for some dialects a line of text, at which browsers may not guess."""
    length = ("content-length", str(len(body)))
    if body.startswith(b"{"):
        return [("content-type", "application/json"), length]
    return [
        ("content-type", "text/plain; charset=utf-8"),
        length,
        ("x-content-type-options", "nosniff"),
    ]


def dump(value: Any) -> bytes:
    """Compact JSON as the providers write it; line separators escaped, which some SSE readers split at."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for separator, escape in (("\u2028", "\\u2028"), ("\u2029", "\\u2029"), ("\x85", "\\u0085")):
        text = text.replace(separator, escape)
    # A lone surrogate has no UTF-8; its JSON escape looks just like Python's.
    return text.encode("utf-8", "backslashreplace")
