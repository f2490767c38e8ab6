"""Secrets out, before a record reaches a store.

Request headers keep the values on a list, answer headers lose those on another. Bodies lose what has the shape of a
credential and the secrets this process knows, requests also what JSON keys such as `api_key` hold.
"""

import json
import re
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, quote_plus

from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.record import Chunk, Record
from llmbridge.exchange.secret_names import sounds_secret, stands_in
from llmbridge.exchange.secret_shapes import SHAPES

_KEPT = frozenset(
    (
        "accept",
        "accept-encoding",
        "accept-language",
        "anthropic-beta",
        "anthropic-dangerous-direct-browser-access",
        "anthropic-version",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "openai-beta",
        "traceparent",
        "transfer-encoding",
        "x-title",
    )
)
_DROPPED = re.compile(r"user-agent|x-stainless-.*|x-goog-api-client")
_HIDDEN = re.compile(
    r"set-cookie2?|.*organi[sz]ation.*|.*-project(-id)?|.*account-id|.*ratelimit.*-(id|user|key)"
    r"|(proxy-)?authorization|.*(api-?key|-token|-secret|-signature|-credential)"
)
_QUERY = re.compile(
    rb"(?i)(?:^|(?<=[?&;]))"
    rb"((?:x-goog-|x-amz-)?(?:api[_-]?key|key|sig|signature|credential|security-token)"
    rb"|(?:access_|auth_|refresh_|id_)?token|client_secret|secret|password|auth)"
    rb"=(?!<redacted:)([^&#;\s\"'<>\\]+)"
)
_USERINFO = re.compile(rb"(?<=://)(?!<redacted:)[^/?#\s@\"'<>\\]+(?=@)")

_NAMES = (
    rb"[\w.-]{0,64}?"
    rb"(?:(?i:(?:api|access|secret|private|signing|encryption|subscription|account)[_-]?key"
    rb"|(?:access|api|auth|authorization|bearer|bot|github|hf|id|refresh|secret|security|session)"
    rb"[_-]?token|secret|password|passwd|passphrase|authorization|credentials?)"
    rb"|[A-Z0-9]_(?:KEY|TOKEN|PAT))"
)
# A `token` alone may be a word of a vocabulary: only what looks like a credential is one.
_CREDENTIAL = rb"(?=[^\"\d]*\d)[\w./+=~-]{8,}"


def _fields(quoted: bytes, character: bytes) -> re.Pattern[bytes]:
    """A name and its string value between such quotes."""
    between = quoted + rb"\s*:\s*" + quoted + rb"(?!<redacted:)"
    named = _NAMES + between + rb"((?:" + character + rb")+)"
    token = rb"token" + between + rb"(" + _CREDENTIAL + rb")"
    return re.compile(quoted + rb"(?:" + named + rb"|" + token + rb")" + quoted, re.DOTALL)


_PLAIN = _fields(rb'"', rb'[^"\\]|\\.')
_NESTED = _fields(rb'\\"', rb'[^"\\]|\\\\(?:\\.|[^\\])')
"""Inside a JSON string, as tool arguments are sent."""

_ENDS = b"key Key KEY oken OKEN PAT cret CRET word WORD sswd SSWD hrase zation ZATION tial tials"


def _ending(border: bytes) -> re.Pattern[bytes]:
    """Finds names by their last letters: fast, since it begins with bytes that are rare."""
    behind = b"|".join(b"(?<=" + end + border + b")" for end in _ENDS.split())
    return re.compile(border + b"(?:" + behind + b")")


_FIELDS = (
    (_ending(rb'":'), b'"', _PLAIN),
    (_ending(rb'" :'), b'"', _PLAIN),
    (_ending(rb'\\":'), b'\\"', _NESTED),
)
_LONGEST_NAME = 80


_MIN_LENGTH = 8
"""A known secret shorter than this is taken for an ordinary word."""


class Find(NamedTuple):
    """Bytes to take out, and the rule that says so; `rank` decides where two overlap."""

    start: int
    end: int
    rank: int
    rule: str

    def of(self, data: bytes) -> str:
        """What they are."""
        return data[self.start : self.end].decode("utf-8", "replace")


class Redactor:
    """Takes secrets out of requests, records and messages. Without known secrets it goes by names and shapes alone.

    What holds no secret is handed back as it is, the same object. A secret that the model spreads over several
    events is not seen. `lenient`, for files of any recorder: request headers lose their value only where the name
    sounds secret, none is dropped, and what somebody put in place of a secret stays.
    """

    __slots__ = ("_basic", "_known", "_lenient")

    def __init__(self, secrets: Iterable[str] = (), *, lenient: bool = False) -> None:
        self._lenient = lenient
        taken = {secret.strip() for secret in secrets if not (lenient and stands_in(secret))}
        known = sorted(taken, key=len, reverse=True)
        known = [secret for secret in known if len(secret) >= _MIN_LENGTH]
        self._known = tuple(dict.fromkeys(form for secret in known for form in _spellings(secret)))
        self._basic = tuple(dict.fromkeys(form for secret in known for form in _in_base64(secret)))

    def request(self, request: Request) -> tuple[Request, tuple[str, ...]]:
        """The request without secrets, and the names of the rules that fired."""
        rules: set[str] = set()
        body = self._clean(request.body, self._search(request), rules)
        url = self._clean_text(request.url, self._in_url, rules)
        headers = self._request_headers(request.headers, rules)
        if len(body) != len(request.body):
            headers = _restated(headers, len(body))
        if body is request.body and url is request.url and headers is request.headers:
            return request, ()
        kept = Request(request.method, url, headers, body, request.caller)
        return kept, tuple(sorted(rules))

    def record(self, record: Record) -> Record:
        """The record without secrets; `redacted` names the rules that fired."""
        rules = set(record.redacted)
        request = record.request
        if request is not None:
            request, fired = self.request(request)
            rules.update(fired)
        headers, chunks, error, fired = self.answer(record.headers, record.chunks, record.error)
        rules.update(fired)
        if (
            request is record.request
            and headers is record.headers
            and chunks is record.chunks
            and error is record.error
        ):
            return record
        return replace(
            record,
            request=request,
            headers=headers,
            chunks=chunks,
            error=error,
            redacted=tuple(sorted(rules)),
        )

    def answer(
        self, headers: Headers, chunks: tuple[Chunk, ...], error: str | None
    ) -> tuple[Headers, tuple[Chunk, ...], str | None, tuple[str, ...]]:
        """An answer's parts without secrets, and the names of the rules that fired."""
        rules: set[str] = set()
        kept = self._answer_headers(headers, rules)
        clean, length = self._chunks(chunks, rules)
        if clean is not chunks:
            kept = _restated(kept, length)
        said = error and self._clean_text(error, self._in_text, rules)
        return kept, clean, said, tuple(sorted(rules))

    def url(self, url: str) -> str:
        """An address without secrets."""
        return self._clean_text(url, self._in_url, set())

    def text(self, text: str) -> str:
        """An error message or the like without secrets."""
        return self._clean_text(text, self._in_text, set())

    def finds_in_request(self, request: Request) -> list[Find]:
        """Where secrets stand in its body."""
        return self._finds(request.body, self._search(request))

    def finds_in_url(self, url: bytes) -> list[Find]:
        """Where secrets stand in an address."""
        return self._finds(url, self._in_url)

    def finds_in_answer(self, body: bytes) -> list[Find]:
        """Where secrets stand in an answer's body."""
        return self._finds(body, self._in_body)

    def _search(self, request: Request) -> Callable[[bytes], Iterable[Find]]:
        form = "x-www-form-urlencoded" in request.headers.get("content-type", "").lower()
        return self._in_form if form else self._in_request_body

    def _finds(self, data: bytes, search: Callable[[bytes], Iterable[Find]]) -> list[Find]:
        finds = search(data)
        if self._lenient:
            finds = (find for find in finds if find.rank or not stands_in(find.of(data)))
        return _merged(finds)

    def _request_headers(self, headers: Headers, rules: set[str]) -> Headers:
        pairs: list[tuple[str, str]] = []
        for name, value in headers.pairs:
            if not self._lenient and _is_dropped(name):
                continue
            if value and self._hides(name) and not self._stays(value):
                rules.add("header")
                value = _mark("header")
            pairs.append((name, value))
        return self._header_values(headers, pairs, rules)

    def _answer_headers(self, headers: Headers, rules: set[str]) -> Headers:
        pairs: list[tuple[str, str]] = []
        for name, value in headers.pairs:
            if value and _is_hidden(name) and not self._stays(value):
                rules.add("header")
                value = _mark("header")
            pairs.append((name, value))
        return self._header_values(headers, pairs, rules)

    def _hides(self, name: str) -> bool:
        if self._lenient:
            return _is_hidden(name) or sounds_secret(name)
        return name.lower() not in _KEPT

    def _stays(self, value: str) -> bool:
        return value.startswith("<redacted:") or (self._lenient and stands_in(value))

    def _header_values(
        self, headers: Headers, pairs: list[tuple[str, str]], rules: set[str]
    ) -> Headers:
        together = "\n".join(value for _, value in pairs)
        if self._clean_text(together, self._in_text, set()) is not together:
            pairs = [(name, self._clean_text(value, self._in_text, rules)) for name, value in pairs]
        return headers if pairs == list(headers.pairs) else Headers(pairs)

    def _chunks(self, chunks: tuple[Chunk, ...], rules: set[str]) -> tuple[tuple[Chunk, ...], int]:
        """The chunks without secrets, also those split between two, and the length of them all."""
        body = chunks[0][1] if len(chunks) == 1 else b"".join(chunk for _, chunk in chunks)
        finds = self.finds_in_answer(body)
        if not finds:
            return chunks, len(body)
        rules.update(find.rule for find in finds)
        recut = tuple(chunk for chunk in _recut(chunks, finds) if chunk[1])
        return recut, sum(len(chunk) for _, chunk in recut)

    def _clean(
        self, data: bytes, search: Callable[[bytes], Iterable[Find]], rules: set[str]
    ) -> bytes:
        finds = self._finds(data, search)
        if not finds:
            return data
        rules.update(find.rule for find in finds)
        return b"".join(chunk for _, chunk in _recut([(0.0, data)], finds))

    def _clean_text(
        self, text: str, search: Callable[[bytes], Iterable[Find]], rules: set[str]
    ) -> str:
        data = text.encode("utf-8", "surrogatepass")
        clean = self._clean(data, search, rules)
        return text if clean is data else clean.decode("utf-8", "surrogatepass")

    def _in_request_body(self, data: bytes) -> Iterator[Find]:
        for ending, quote_mark, field in _FIELDS:
            for hit in ending.finditer(data):
                name = data.rfind(quote_mark, max(0, hit.start() - _LONGEST_NAME), hit.start())
                if name >= 0 and (match := field.match(data, name)):
                    yield _find(0, "field", match)
        yield from self._in_body(data)

    def _in_form(self, data: bytes) -> Iterator[Find]:
        yield from _found(0, "query", _QUERY, data)
        yield from self._in_body(data)

    def _in_url(self, data: bytes) -> Iterator[Find]:
        yield from _found(0, "userinfo", _USERINFO, data)
        yield from self._in_form(data)

    def _in_text(self, data: bytes) -> Iterator[Find]:
        yield from _found(0, "userinfo", _USERINFO, data)
        if b"?" in data:
            yield from _found(0, "query", _QUERY, data)
        yield from self._in_body(data)

    def _in_body(self, data: bytes) -> Iterator[Find]:
        for hint, shapes in SHAPES:
            if hint.search(data):
                for shape in shapes:
                    yield from _found(1, shape.rule, shape.pattern, data)
        for known in self._known:
            if known in data:
                yield from _found(2, "secret", re.compile(b"(" + re.escape(known) + b")"), data)
        if self._basic and b"asic " in data:
            for known in self._basic:
                if known in data:
                    token = rb"asic ([A-Za-z0-9+/]*" + re.escape(known) + rb"[A-Za-z0-9+/=]*)"
                    yield from _found(2, "secret", re.compile(token), data)


@lru_cache(1024)
def _is_dropped(name: str) -> bool:
    return _DROPPED.fullmatch(name.lower()) is not None


@lru_cache(1024)
def _is_hidden(name: str) -> bool:
    return _HIDDEN.fullmatch(name.lower()) is not None


def _mark(rule: str) -> str:
    return f"<redacted:{rule}>"


def _restated(headers: Headers, length: int) -> Headers:
    """The headers with this content-length, where they state one."""
    if "content-length" not in headers:
        return headers
    return Headers(
        (name, str(length) if name.lower() == "content-length" else value)
        for name, value in headers.pairs
    )


def _spellings(secret: str) -> Iterator[bytes]:
    """The secret as it stands in text, in JSON and in a URL."""
    yield secret.encode("utf-8", "surrogatepass")
    for escaped in (json.dumps(secret), json.dumps(secret, ensure_ascii=False)):
        yield escaped[1:-1].encode("utf-8", "surrogatepass")
    for quoted in (quote(secret, safe="", errors="replace"), quote(secret, errors="replace")):
        yield quoted.encode()
    yield quote_plus(secret, errors="replace").encode()


def _in_base64(secret: str) -> Iterator[bytes]:
    """What base64 makes of the secret at each of three offsets, without the borders that its neighbours decide."""
    raw = secret.encode("utf-8", "surrogatepass")
    for offset, first in enumerate((0, 2, 3)):
        whole = (offset + len(raw)) // 3 * 4
        core = b64encode(b"\0" * offset + raw)[first:whole]
        if len(core) >= _MIN_LENGTH:
            yield core


def _found(rank: int, rule: str, pattern: re.Pattern[bytes], data: bytes) -> Iterator[Find]:
    return (_find(rank, rule, match) for match in pattern.finditer(data))


def _find(rank: int, rule: str, match: re.Match[bytes]) -> Find:
    # The last group is the secret; what stands before it only tells.
    start, end = match.span(match.lastindex or 0)
    return Find(start, end, rank, rule)


def _merged(finds: Iterable[Find]) -> list[Find]:
    """In order and apart; where several overlap, all they cover goes, under the name of the first in rank."""
    ordered = sorted(finds)
    if len(ordered) < 2:
        return ordered
    merged: list[Find] = []
    for find in ordered:
        if merged and find.start < merged[-1].end:
            last = merged[-1]
            best = min(last, find, key=lambda each: each.rank)
            merged[-1] = Find(last.start, max(last.end, find.end), best.rank, best.rule)
        else:
            merged.append(find)
    return merged


def _recut(chunks: Sequence[Chunk], finds: Sequence[Find]) -> Iterator[Chunk]:
    """The chunks with each find replaced in the one where it begins; each keeps its own text."""
    waiting = deque(finds)
    start = 0
    for seconds, chunk in chunks:
        end = start + len(chunk)
        pieces: list[bytes] = []
        done = start
        while waiting and waiting[0].start < end:
            find = waiting[0]
            if find.start >= start:
                pieces += chunk[done - start : find.start - start], _mark(find.rule).encode()
            done = min(find.end, end)
            if find.end > end:
                break
            waiting.popleft()
        yield seconds, b"".join((*pieces, chunk[done - start :])) if done > start else chunk
        start = end
