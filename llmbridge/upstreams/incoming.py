"""What the provider answers, as a reply: its fields, its first event, and whether it can be passed on at all."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any

from llmbridge.errors import StreamTruncated, UpstreamError
from llmbridge.exchange.call import Call, Headers, Reply, once
from llmbridge.exchange.codec import is_event_stream
from llmbridge.upstreams.answer import Answer
from llmbridge.upstreams.body import Body
from llmbridge.upstreams.inflate import coding_of
from llmbridge.upstreams.outgoing import HOP_BY_HOP
from llmbridge.wire.fast_json import loads
from llmbridge.wire.sse import SSE, SSEDecoder

_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_BOM = b"\xef\xbb\xbf"
_OPENING_BYTES = 1024 * 1024
_EXCERPT = 200
_ERROR_STATUS: Mapping[object, int] = MappingProxyType(
    {
        "authentication_error": 401,
        "billing_error": 402,
        "context_length_exceeded": 400,
        "insufficient_quota": 429,
        "invalid_api_key": 401,
        "invalid_request_error": 400,
        "model_not_found": 404,
        "not_found_error": 404,
        "overloaded_error": 529,
        "permission_error": 403,
        "rate_limit_error": 429,
        "rate_limit_exceeded": 429,
        "request_too_large": 413,
        "timeout_error": 504,
    }
)


class Incoming:
    """One answer on its way to be a reply.

    The head waits for a stream's first event or for all of a JSON answer, so that what fails there can still be a status.
    """

    __slots__ = ("_answer", "_body", "_call", "_ended", "_headers", "_held", "_kind", "_streams")

    def __init__(self, call: Call, answer: Answer, limit_bytes: int) -> None:
        self._call = call
        self._answer = answer
        self._held: list[bytes] = []
        self._ended = False
        self._kind, coding, self._headers = _sorted_out(answer.headers)
        self._streams = "event-stream" in self._kind or (call.streaming and call.dialect.terminated)
        self._refuse()
        self._body = Body(answer, coding, limit_bytes)

    async def reply(self, first_event_s: float) -> Reply:
        """The reply; its head waits no longer than that.

        Raises:
            UpstreamError: the answer cannot be passed on.
        """
        status, first = self._answer.status, None
        if status < 400 and (self._streams or "json" in self._kind):
            first = await self._read_ahead(first_event_s)
        opening = b"".join(self._held)
        if opening and self._streams and (error := self._error(first, opening)):
            await self._answer.aclose()
            status, opening = error
            return Reply(status, self._as_json(opening), once(opening))
        if first is not None:
            # SDKs take a byte order mark for a part of the first field.
            opening = opening.removeprefix(_BOM)
        if self._ended:
            await self._answer.aclose()
            chunks: AsyncIterator[bytes] = once(opening)
        else:
            self._body.unread(opening)
            chunks = self._body
        return Reply(status, self._headers, chunks)

    def _refuse(self) -> None:
        name, status = self._call.provider.name, self._answer.status
        if status < 200 or 300 <= status < 400:
            raise UpstreamError(
                f"{name!r} answered with a redirect or the like ({status}), which is not followed:"
                " check the base URL"
            )
        if status < 400 and self._kind.startswith("text/html"):
            raise UpstreamError(f"{name!r} answered with a web page: check the base URL")

    async def _read_ahead(self, first_event_s: float) -> SSE | None:
        """Hold what the head waits for, or what has come when the time is up."""
        if self._answer.whole or not self._answer.resumable:
            return await self._hold()
        try:
            async with asyncio.timeout(first_event_s):
                return await self._hold()
        except TimeoutError:
            return None

    async def _hold(self) -> SSE | None:
        decoder = SSEDecoder() if self._streams else None
        size = 0
        while size <= _OPENING_BYTES:
            chunk = await self._body.read()
            if not chunk:
                self._ended = True
                break
            self._held.append(chunk)
            size += len(chunk)
            if decoder is not None and (first := _first_event(decoder, chunk)):
                return first
        if not size and self._call.dialect.terminated:
            raise StreamTruncated(f"{self._call.provider.name!r} sent an answer without a body")
        return None

    def _error(self, first: SSE | None, opening: bytes) -> tuple[int, bytes] | None:
        """Status and body, if the answer begins with an error: before any text it can still be a proper one.

        Raises:
            UpstreamError: a stream was asked for, and something else came.
        """
        dialect = self._call.dialect
        if first is not None:
            failed = dialect.verdict(first) == "error"
            return (_status(first.data), first.data.encode()) if failed else None
        if not dialect.terminated or is_event_stream(200, self._headers, opening):
            return None
        if _has_error(opening):
            return _status(opening), opening
        if not self._call.streaming:
            return None
        name, said = self._call.provider.name, opening[:_EXCERPT].decode("utf-8", "replace")
        raise UpstreamError(f"{name!r} was asked for a stream and answered {said!r}")

    def _as_json(self, body: bytes) -> Headers:
        kept = self._headers.without("content-type", "content-length", "content-encoding")
        added = (("content-type", "application/json"), ("content-length", str(len(body))))
        return Headers((*kept.pairs, *added))


def _sorted_out(headers: Headers) -> tuple[str, str, Headers]:
    """Content type, coding, and the fields that go further than this hop and still hold for the inflated bytes."""
    kind = coding = connection = ""
    kept: list[tuple[str, str]] = []
    for pair in headers.pairs:
        name = pair[0].lower()
        if name in HOP_BY_HOP:
            connection = f"{connection},{pair[1].lower()}" if name == "connection" else connection
            continue
        if name == "content-type":
            kind = pair[1].lower()
        elif name == "content-encoding":
            coding = coding_of(f"{coding},{pair[1]}")
        kept.append(pair)
    dropped = [name.strip() for name in connection.split(",")]
    if coding:
        dropped += ["content-encoding", "content-length"]
    if dropped != [""]:
        kept = [pair for pair in kept if pair[0].lower() not in dropped]
    return kind, coding, Headers(kept)


def _first_event(decoder: SSEDecoder, chunk: bytes) -> SSE | None:
    """The first event but pings; what comes after it is not read."""
    start = 0
    while start < len(chunk):
        blank = _BLANK_LINE.search(chunk, start)
        end = blank.end() if blank else len(chunk)
        for event in decoder.feed(chunk[start:end]):
            if event.event != "ping":
                return event
        start = end
    return None


def _has_error(body: bytes) -> bool:
    try:
        return bool(loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return False


def _status(data: str | bytes) -> int:
    try:
        error: Any = loads(data)
        error = error.get("error") or error
        code = error.get("code")
        if str(code).isdecimal() and 400 <= int(code) < 600:
            return int(code)
        return _ERROR_STATUS.get(code) or _ERROR_STATUS.get(error.get("type"), 500)
    except (ValueError, TypeError, AttributeError):
        return 500
