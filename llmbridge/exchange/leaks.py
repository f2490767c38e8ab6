"""Where secrets stand in a record: the place of each, the rule that found it, and as much of it as may be shown."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmbridge.canon.messages import AssistantMessage, ToolCall
from llmbridge.exchange.call import Headers
from llmbridge.exchange.codec import is_event_stream
from llmbridge.exchange.record import Record
from llmbridge.exchange.redact import Redactor

_MARK = re.compile(r"<redacted:([\w-]+)>")
_SCHEME = re.compile(r"(?i)(?:bearer|basic|token|key) +")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{},]', re.DOTALL)
_BLANK = re.compile(rb"(?:\r\n|[\r\n]){2,}")
_LINE = re.compile(rb"^data: ?", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Leak:
    """One secret in a record. `spread`: it is whole only in the decoded answer, so no rule can take it out."""

    place: str
    rule: str
    excerpt: str
    spread: bool = False


def leaks(record: Record, redactor: Redactor) -> list[Leak]:
    """What the redactor would take out of a record, and what is spelled over several events of its answer."""
    found: list[Leak] = []
    if redactor.record(record) is not record:
        found += _of_request(record, redactor)
        found += _of_answer(record, redactor)
    return [*found, *_spread(record, redactor)]


def masked(secret: str) -> str:
    """Enough of a secret to know it by, and its length."""
    secret = _SCHEME.sub("", secret, count=1)
    shown = secret[: min(6, len(secret) // 4)]
    return f"{shown}... ({len(secret)} characters)"


def path_at(text: bytes, offset: int) -> str:
    """The JSON path of what stands at an offset; empty where this is no JSON so far."""
    path: list[str | int | None] = []
    objects: list[bool] = []
    for token in _TOKEN.finditer(text):
        if token.start() > offset:
            break
        match text[token.start() : token.start() + 1]:
            case b"{" | b"[" as opening:
                objects.append(opening == b"{")
                path.append(None if objects[-1] else 0)
            case b"}" | b"]":
                if not path:
                    return ""
                objects.pop()
                path.pop()
            case b"," if path:
                last = path[-1]
                path[-1] = last + 1 if isinstance(last, int) else None
            case b'"' if path and path[-1] is None:
                path[-1] = token[0][1:-1].decode("utf-8", "replace")
            case _:
                pass
    return "$" + "".join(map(_step, path)) if path else ""


def _step(step: str | int | None) -> str:
    match step:
        case str() if _NAME.fullmatch(step):
            return f".{step}"
        case None:
            return ""
        case _:
            return f"[{step!r}]"


def _of_request(record: Record, redactor: Redactor) -> Iterator[Leak]:
    request = record.request
    if request is None:
        return
    clean, _ = redactor.request(request)
    yield from _of_headers("request.headers", request.headers, clean.headers)
    url = request.url.encode("utf-8", "surrogatepass")
    for find in redactor.finds_in_url(url):
        yield Leak("request.url", find.rule, masked(find.of(url)))
    for find in redactor.finds_in_request(request):
        place = _within("request.body", path_at(request.body, find.start), find.start)
        yield Leak(place, find.rule, masked(find.of(request.body)))


def _of_answer(record: Record, redactor: Redactor) -> Iterator[Leak]:
    headers, _, error, _ = redactor.answer(record.headers, (), record.error)
    yield from _of_headers("response.headers", record.headers, headers)
    if error != record.error and error:
        for rule in _MARK.findall(error):
            yield Leak("response.error", rule, "...")
    body = record.body
    streamed = is_event_stream(record.status, record.headers, body)
    for find in redactor.finds_in_answer(body):
        place = _in_stream(body, find.start) if streamed else path_at(body, find.start)
        yield Leak(_within("response.body", place, find.start), find.rule, masked(find.of(body)))


def _of_headers(place: str, headers: Headers, clean: Headers) -> Iterator[Leak]:
    for (name, before), (_, after) in zip(headers.pairs, clean.pairs, strict=True):
        # Lengths are restated, too.
        if before != after and name.lower() != "content-length":
            rule = _MARK.search(after)
            yield Leak(f"{place}.{name.lower()}", rule[1] if rule else "header", masked(before))


def _within(place: str, path: str, offset: int) -> str:
    return f"{place} {path or f'byte {offset}'}"


def _in_stream(body: bytes, offset: int) -> str:
    """The number of the event, and the path in its data."""
    borders = [blank.end() for blank in _BLANK.finditer(body, 0, offset)]
    event = f"event {len(borders)}"
    start = borders[-1] if borders else 0
    lines = [line.end() for line in _LINE.finditer(body, start, offset)]
    path = path_at(body[lines[-1] :], offset - lines[-1]) if lines else ""
    return f"{event} {path}".rstrip()


def _spread(record: Record, redactor: Redactor) -> Iterator[Leak]:
    """Secrets that are whole only once the pieces of a stream are joined."""
    body = record.body
    if not is_event_stream(record.status, record.headers, body):
        return
    for index, text in _texts(record):
        words = text.encode("utf-8", "surrogatepass")
        for find in redactor.finds_in_answer(words):
            if words[find.start : find.end] not in body:
                place = f"response.message content[{index}]"
                yield Leak(place, find.rule, masked(find.of(words)), spread=True)


def _texts(record: Record) -> Iterator[tuple[int, str]]:
    try:
        message = record.message or AssistantMessage()
    except Exception:  # noqa: BLE001  # an answer that a codec trips over has been searched as bytes
        return
    for index, block in enumerate(message.content):
        yield index, block.text if not isinstance(block, ToolCall) else block.arguments_text
