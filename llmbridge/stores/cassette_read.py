"""What a cassette holds: vcrpy's format, version 1, with our own key in each response.

Source: vcrpy 5 to 9, and the `parsed_body` that pydantic-ai writes in place of `body`.
"""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET

from llmbridge.errors import CassetteError, End
from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.codec import is_event_stream
from llmbridge.exchange.record import Chunk, Record
from llmbridge.exchange.routing import Classified, classify
from llmbridge.stores.bare import bare_block, bare_stream, dialect_of_answer
from llmbridge.stores.codings import decoded
from llmbridge.stores.foreign import VCRPY, as_vcrpy
from llmbridge.stores.safe_load import LIMIT_BYTES, is_array, is_object, safe_load
from llmbridge.stores.timing import events_of, read_timing

_log = logging.getLogger(__name__)

VERSION = 1
"""Of the file, and of our key in it."""

_ENDS: dict[str, End] = {
    **{end: end for end in get_args(End)},
    "complete": "completed",
    "eof": "truncated",
    "reset": "upstream_error",
    "client": "client_gone",
}
_Code = Annotated[int, msgspec.Meta(ge=100, le=999)]
_Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
_CONTROL = re.compile(r"[\r\n\0]")


class _Request(msgspec.Struct):
    method: str
    uri: str
    body: Any = None
    headers: Any = None
    parsed_body: Any = UNSET


class _Status(msgspec.Struct):
    code: _Code


class Key(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The `llmbridge` key of a response: what vcrpy has no place for."""

    v: int
    head_ms: _Milliseconds | None = None
    chunks: str | None = None
    timed: bool = True
    end: str = "completed"
    error: str | None = None
    recorded_at: datetime | None = None
    provider: str | None = None
    api: str | None = None
    model: str | None = None
    round: int = 0
    redacted: list[str] = []


class _Response(msgspec.Struct):
    status: _Status | None = None
    headers: Any = None
    body: Any = None
    parsed_body: Any = UNSET
    # httpx under vcrpy before 6.
    status_code: _Code | None = None
    content: Any = None
    llmbridge: Key | None = None


class _Interaction(msgspec.Struct):
    request: _Request
    response: _Response
    # Other recorders note these, each in its own way.
    recorded_at: Any = None
    duration_s: _Seconds | None = None


class _File(msgspec.Struct):
    interactions: list[_Interaction] | None
    version: int = VERSION


def read(data: bytes, name: str, id_prefix: str) -> list[Record]:
    """The records of a file; `name` is for messages, `id_prefix` begins the interception ids.

    Raises:
        CassetteError: the file cannot be read; names it, and the place in it.
    """
    recorder, tree = _tree(data, name)
    try:
        file = msgspec.convert(tree, _File, strict=False)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise CassetteError(f"{name} is no cassette as {recorder} writes them: {error}") from error
    if file.version != VERSION:
        raise CassetteError(f"{name} has version {file.version}: only version {VERSION} is known")
    records = [
        _record(interaction, f"{name}: interactions[{index}]", f"{id_prefix}#{index}")
        for index, interaction in enumerate(file.interactions or ())
    ]
    edited = [record.interception_id for record, fits in records if not fits]
    if edited:
        _log.warning(
            "%s: the times of %s do not fit the bodies any more; they are spread over the events",
            name,
            ", ".join(edited),
        )
    return [record for record, _ in records]


def _tree(data: bytes, name: str) -> tuple[str, Any]:
    """Who recorded it, and what the file says, in vcrpy's spelling."""
    stream = bare_stream(data) if len(data) <= LIMIT_BYTES else None
    if stream is not None:
        return VCRPY, {"interactions": [stream]}
    tree = safe_load(data, name)
    block = bare_block(tree, data)
    if block is not None:
        return VCRPY, {"interactions": [block]}
    return as_vcrpy(tree, name)


def _record(interaction: _Interaction, place: str, id: str) -> tuple[Record, bool]:
    request = _request(interaction.request, f"{place}.request")
    answer = _answer(interaction.response, f"{place}.response")
    key = interaction.response.llmbridge
    if key and key.v != VERSION:
        raise CassetteError(
            f"{place}.response.llmbridge has version {key.v}: only {VERSION} is known, update llmbridge"
        )
    asked = classify(request) if request else _unasked(answer)
    end, duration_s = _end(key.end, place) if key else ("completed", interaction.duration_s)
    chunks, timed, fits = _chunks(answer, key)
    record = Record(
        interception_id=id,
        provider=(key and key.provider) or asked.provider,
        dialect=(key and key.api) or asked.dialect,
        request=request,
        status=answer.status,
        headers=answer.headers,
        chunks=chunks,
        started_at=_utc(key.recorded_at)
        if key
        else _when(interaction.recorded_at) or _when(answer.headers.get("date")),
        round=key.round if key else 0,
        model=(key and key.model) or asked.model,
        head_s=key.head_ms / 1000 if key and key.head_ms is not None else None,
        duration_s=duration_s,
        end=end,
        error=key.error if key else None,
        redacted=tuple(key.redacted) if key else (),
        timed=timed,
    )
    return record, fits


def _unasked(answer: "Answer") -> Classified:
    return Classified("unknown", dialect_of_answer(answer.body), None, False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response with its body as a client reads it."""

    status: int
    headers: Headers
    body: bytes

    @property
    def pieces(self) -> list[bytes]:
        """Where nobody noted how the bytes came: one piece for each event."""
        if is_event_stream(self.status, self.headers, self.body):
            return events_of(self.body)
        return [self.body] if self.body else []


def _request(request: _Request, place: str) -> Request | None:
    if not request.method and not request.uri:
        return None
    try:
        urlsplit(request.uri)
    except ValueError as error:
        raise CassetteError(f"{place}.uri is no URL: {error}") from error
    headers = Headers(_pairs(request.headers, f"{place}.headers"))
    if request.parsed_body is not UNSET:
        body = _dumped(request.parsed_body, f"{place}.parsed_body")
    else:
        body = _bytes(request.body, f"{place}.body")
    return Request(request.method, request.uri, headers, body)


def _answer(response: _Response, place: str) -> Answer:
    if response.status is None and response.status_code is None:
        raise CassetteError(f"{place} has no status: record it again")
    status = response.status.code if response.status else response.status_code or 0
    if response.parsed_body is not UNSET:
        body = _dumped(response.parsed_body, f"{place}.parsed_body")
    elif response.content is not None:
        body = _bytes(response.content, f"{place}.content")
    else:
        body = _bytes(response.body, f"{place}.body")
    headers = Headers(_pairs(response.headers, f"{place}.headers"))
    if "content-encoding" in headers:
        body = decoded(body, headers["content-encoding"], f"{place}.body")
        headers = headers.without("content-encoding")
    return Answer(status, with_length(headers, len(body)), body)


def with_length(headers: Headers, length: int) -> Headers:
    """The headers with this content-length, where they state one."""
    if "content-length" not in headers:
        return headers
    return Headers(
        (name, str(length) if name.lower() == "content-length" else value)
        for name, value in headers.pairs
    )


def _chunks(answer: Answer, key: Key | None) -> tuple[tuple[Chunk, ...], bool, bool]:
    """The chunks, whether their times are known, and whether what is known fits the body."""
    if key is None or key.chunks is None:
        return tuple((0.0, piece) for piece in answer.pieces), False, True
    head_s = None if key.head_ms is None else key.head_ms / 1000
    chunks, fits = read_timing(key.chunks, head_s, answer.body, answer.pieces)
    return chunks, key.timed, fits


def _end(text: str, place: str) -> tuple[End, float | None]:
    """`completed 1128.41`: how it ended, and after how many milliseconds."""
    word, _, ms = text.partition(" ")
    try:
        return _ENDS[word], msgspec.convert(ms, _Milliseconds, strict=False) / 1000 if ms else None
    except (KeyError, msgspec.ValidationError):
        raise CassetteError(
            f"{place}.response.llmbridge.end is {text!r}: it is one of {', '.join(_ENDS)}, and milliseconds"
        ) from None


def _utc(time: datetime | None) -> datetime | None:
    if time is None:
        return None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _when(text: Any) -> datetime | None:
    """A time as HTTP or ISO 8601 writes it; None for anything else."""
    if not isinstance(text, str):
        return None
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return _utc(parse(text))
        except (ValueError, OverflowError):
            continue
    return None


def _pairs(headers: Any, place: str) -> Iterator[tuple[str, str]]:
    if headers is None:
        return
    if not is_object(headers):
        raise CassetteError(f"{place} is {_kind(headers)}: a mapping was expected")
    for name, values in headers.items():
        for value in values if is_array(values) else [values]:
            yield _header(name, place), _header(value, f"{place}.{name}")


def _header(value: Any, place: str) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not isinstance(text, str | int | float):
        raise CassetteError(f"{place} is {_kind(value)}: text was expected")
    if _CONTROL.search(str(text)):
        raise CassetteError(f"{place} holds a line break or NUL: no header can")
    return str(text)


def _bytes(value: Any, place: str) -> bytes:
    match value:
        case None:
            return b""
        case bytes():
            return value
        case str():
            return value.encode("utf-8", "surrogatepass")
        case {"string": inner}:
            return _bytes(inner, f"{place}.string")
        case _ if is_object(value) and not value:
            return b""
        case _ if is_array(value):
            return b"".join(_bytes(each, place) for each in value)
        case _:
            raise CassetteError(f"{place} is {_kind(value)}: text or !!binary was expected")


def _dumped(value: Any, place: str) -> bytes:
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CassetteError(f"{place} is no JSON: {error}") from error


def _kind(value: Any) -> str:
    return f"of type {type(value).__name__}"
