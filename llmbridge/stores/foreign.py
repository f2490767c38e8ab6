"""Files of other recorders, spelled as vcrpy spells them: one function for each recorder.

Sources: Ruby VCR 2 to 6, betamax, go-vcr 1 to 4, nock, cassetter 0.16, ddapm-test-agent, vcrpy 0.x.
"""

import json
import re
from base64 import b64decode
from binascii import Error
from collections.abc import Callable, Iterable
from typing import Any

from llmbridge.errors import CassetteError
from llmbridge.stores.safe_load import is_array, is_object

Translate = Callable[[dict[str, Any]], dict[str, Any]]
"""From one interaction of a recorder to one of vcrpy; `recorded_at`, `duration_s` stand beside request and response."""

VCRPY = "vcrpy"


def as_vcrpy(tree: Any, name: str) -> tuple[str, Any]:
    """Who recorded this, and the same in vcrpy's spelling.

    What is no interaction at all stays as it is: whoever reads it next says so.

    Raises:
        CassetteError: it is of a recorder whose files are not read.
    """
    recorder = _recorder_of(tree)
    if recorder in _UNREAD:
        raise CassetteError(
            f"{name} was written by {recorder}, whose format is not read: record it with llmbridge"
            " or vcrpy"
        )
    if recorder == VCRPY:
        return recorder, tree
    found, translate = _READ[recorder]
    interactions = found(tree)
    if not is_array(interactions):
        return recorder, {"interactions": interactions}
    return recorder, {"interactions": [_each(translate, each) for each in interactions]}


def _recorder_of(tree: Any) -> str:
    if is_array(tree):
        return _of_list(_first(tree))
    if not is_object(tree):
        return VCRPY
    if "interactions" in tree:
        return _of_interaction(_first(tree["interactions"]))
    for key, recorder in _TOP_KEYS.items():
        if key in tree:
            return recorder
    return VCRPY


def _of_list(first: dict[str, Any]) -> str:
    if "scope" in first:
        return "nock"
    return "vcrpy before 1.0" if "request" in first else VCRPY


def _of_interaction(first: dict[str, Any]) -> str:
    request, response = _object(first, "request"), _object(first, "response")
    if "url" in request:
        return "go-vcr"
    bodies = _object(request, "body"), _object(response, "body")
    return "cassetter" if any("type" in body for body in bodies) else VCRPY


_TOP_KEYS = {
    "http_interactions": "Ruby VCR or betamax",
    "log": "an HTTP archive (HAR) or Polly.js",
    "mappings": "WireMock",
    "fixtures": "aimock",
    "request": "a recorder that keeps one exchange a file",
    "status": "a recorder that keeps one answer a file",
}
_UNREAD = ("an HTTP archive (HAR) or Polly.js", "WireMock", "aimock")


def _each(translate: Translate, interaction: Any) -> Any:
    return translate(interaction) if is_object(interaction) else interaction


def _ruby_vcr(interaction: dict[str, Any]) -> dict[str, Any]:
    request, response = _object(interaction, "request"), _object(interaction, "response")
    method = request.get("method")
    return {
        "request": {
            **request,
            "method": method.upper() if isinstance(method, str) else method,
            "body": _encoded(request.get("body")),
        },
        "response": {
            "status": _status(response.get("status")),
            "headers": response.get("headers"),
            "body": _encoded(response.get("body")),
        },
        "recorded_at": interaction.get("recorded_at"),
    }


def _encoded(body: Any) -> Any:
    """The bytes of a body that says in which encoding they were."""
    if not is_object(body):
        return body
    if isinstance(packed := body.get("base64_string"), str):
        try:
            return b64decode(packed)
        except Error:
            return body
    text, encoding = body.get("string"), body.get("encoding")
    if isinstance(text, str) and isinstance(encoding, str):
        try:
            return text.encode(encoding)
        except (LookupError, ValueError):
            # ASCII-8BIT is Ruby's word for bytes.
            return text
    return text


def _go_vcr(interaction: dict[str, Any]) -> dict[str, Any]:
    request, response = _object(interaction, "request"), _object(interaction, "response")
    return {
        "request": {**request, "uri": request.get("url")},
        "response": {
            "status": _status(response.get("code", response.get("status"))),
            "headers": response.get("headers"),
            "body": response.get("body"),
        },
        "duration_s": _go_duration(response.get("duration")),
    }


_GO_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_GO_PART = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(h|ms|m|s|us|µs|ns)")


def _go_duration(value: Any) -> float | None:
    """Seconds of `1m2.5s`, or of a number of nanoseconds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return min(max(value, 0), 10**15) / 1e9
    parts = _GO_PART.findall(value) if isinstance(value, str) else []
    return sum(float(number) * _GO_UNITS[unit] for number, unit in parts) or None


def _nock(interaction: dict[str, Any]) -> dict[str, Any]:
    scope, path = interaction.get("scope"), interaction.get("path")
    url = scope.removesuffix(":443").removesuffix(":80") if isinstance(scope, str) else scope
    asked = interaction.get("reqheaders")
    answered = _fields(interaction.get("rawHeaders") or interaction.get("headers"))
    packed = bool(interaction.get("responseIsBinary")) or _is_coded(answered)
    return {
        "request": {
            "method": interaction.get("method"),
            "uri": f"{url}{path}" if isinstance(url, str) and isinstance(path, str) else url,
            "headers": asked,
            "body": _plain_or_dumped(interaction.get("body"), packed=_is_coded(asked)),
        },
        "response": {
            "status": _status(interaction.get("status")),
            "headers": answered,
            "body": _plain_or_dumped(interaction.get("response"), packed=packed),
        },
    }


def _is_coded(headers: Any) -> bool:
    return is_object(headers) and any(name.lower() == "content-encoding" for name in headers)


def _plain_or_dumped(body: Any, *, packed: bool) -> Any:
    """Text, what hexadecimal text stands for, or a JSON value, which is written out again."""
    if packed and isinstance(unpacked := _unhexed(body if is_array(body) else [body]), bytes):
        return unpacked
    if is_object(body) or is_array(body) or isinstance(body, bool | int | float):
        return _json(body)
    return body


def _unhexed(chunks: Iterable[Any]) -> bytes | None:
    try:
        return b"".join(map(bytes.fromhex, chunks))
    except (TypeError, ValueError):
        return None


def _fields(headers: Any) -> Any:
    """Headers as a mapping to lists, from a flat list of names and values or a list of pairs."""
    if not is_array(headers):
        return headers
    flat = [each for pair in headers for each in pair] if all(map(is_array, headers)) else headers
    lists: dict[str, list[Any]] = {}
    for name, value in zip(flat[::2], flat[1::2], strict=False):
        lists.setdefault(str(name), []).append(value)
    return lists


def _cassetter(interaction: dict[str, Any]) -> dict[str, Any]:
    request, response = _object(interaction, "request"), _object(interaction, "response")
    return {
        "request": {**request, "body": _typed(request.get("body"))},
        "response": {
            "status": _status(response.get("status")),
            "headers": response.get("headers"),
            "body": _typed(response.get("body")),
        },
        "recorded_at": interaction.get("recorded_at"),
    }


def _typed(body: Any) -> Any:
    content = body.get("content") if is_object(body) else None
    match body:
        case {"type": "none"}:
            return None
        case {"type": "json"}:
            return _json(content)
        case {"type": "binary"}:
            unpacked = _unhexed([content])
            return body if unpacked is None else unpacked
        case {"type": str(), "content": _}:
            return content
        case _:
            return body


def _one_exchange(interaction: dict[str, Any]) -> dict[str, Any]:
    request, response = _object(interaction, "request"), _object(interaction, "response")
    body = _plain_or_dumped(request.get("body"), packed=False)
    return {
        "request": {**request, "uri": request.get("uri", request.get("url")), "body": body},
        "response": _answer(response),
    }


def _one_answer(response: dict[str, Any]) -> dict[str, Any]:
    return {"request": {"method": "", "uri": ""}, "response": _answer(response)}


def _answer(response: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": _status(response.get("status", response.get("status_code"))),
        "headers": _fields(response.get("headers")),
        "body": _plain_or_dumped(response.get("body"), packed=False),
    }


def _first_vcrpy(interaction: dict[str, Any]) -> dict[str, Any]:
    request, response = _object(interaction, "request"), _object(interaction, "response")
    if "uri" not in request:
        port = request.get("port")
        default = {"https": 443, "http": 80}.get(str(request.get("protocol")))
        where = "" if port in (None, default) else f":{port}"
        uri = f"{request.get('protocol')}://{request.get('host')}{where}{request.get('path')}"
        request = {**request, "uri": uri}
    headers = response.get("headers")
    if is_array(headers):
        lines = [str(line).strip().partition(":") for line in headers]
        headers = _fields([[name, value.strip()] for name, _, value in lines])
    return {"request": request, "response": {**response, "headers": headers}}


def _object(value: dict[str, Any], key: str) -> dict[str, Any]:
    inner = value.get(key)
    return inner if is_object(inner) else {}


def _first(items: Any) -> dict[str, Any]:
    return items[0] if is_array(items) and items and is_object(items[0]) else {}


def _status(status: Any) -> Any:
    """200, "200 OK" or a mapping, as a mapping."""
    if is_object(status):
        return status
    return {"code": status.partition(" ")[0] if isinstance(status, str) else status}


def _json(value: Any) -> Any:
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return value


_READ: dict[str, tuple[Callable[[Any], Any], Translate]] = {
    "Ruby VCR or betamax": (lambda tree: tree["http_interactions"], _ruby_vcr),
    "go-vcr": (lambda tree: tree["interactions"], _go_vcr),
    "cassetter": (lambda tree: tree["interactions"], _cassetter),
    "nock": (lambda tree: tree, _nock),
    "vcrpy before 1.0": (lambda tree: tree, _first_vcrpy),
    "a recorder that keeps one exchange a file": (lambda tree: [tree], _one_exchange),
    "a recorder that keeps one answer a file": (lambda tree: [tree], _one_answer),
}
