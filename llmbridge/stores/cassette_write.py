"""Records as a cassette that plain vcrpy replays and keeps, our own key in each response included."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from http.client import responses as phrases
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any, TypeGuard

import msgspec
import yaml

from llmbridge.errors import CassetteError
from llmbridge.exchange.blobs import shrink
from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.record import Record
from llmbridge.exchange.routing import classify
from llmbridge.stores.cassette_read import VERSION, Answer, Key, with_length
from llmbridge.stores.codings import decoded
from llmbridge.stores.safe_load import safe_load
from llmbridge.stores.timing import in_milliseconds, write_timing

if TYPE_CHECKING:
    _Base = yaml.SafeDumper
else:
    _Base = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper

# What YAML carries as it is; no BOM, and none of the characters it takes for line ends or for markup.
_LITERAL = re.compile(
    "[\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]+"
)
# Editors and hooks strip these.
_TRAILING_BLANK = re.compile(r"[ \t]$", re.MULTILINE)
_LINE_BEGIN = re.compile(r"^(?=[^\n])", re.MULTILINE)
_CONTROL = re.compile(r"[\r\n\0]")
_WIDTH = 1 << 30
# They stand for the bodies until these are written in.
_ASKED = "llmbridge-body-asked"
_ANSWERED = "llmbridge-body-answered"


def dump(records: Iterable[Record]) -> str:
    """A cassette as YAML; bodies are literal blocks wherever that keeps every byte."""
    return _YAML.join(_YAML.entry(record) for record in records)


def dump_json(records: Iterable[Record]) -> str:
    """A cassette as JSON.

    Raises:
        CassetteError: a body is not text, which JSON cannot hold.
    """
    return _JSON.join(_JSON.entry(record) for record in records)


@dataclass(frozen=True, slots=True)
class Form:
    """How a cassette is spelled: each interaction by itself, then the file.

    Raises:
        CassetteError: by `entry`, where this form cannot hold a record.
    """

    entry: Callable[[Record], str]
    join: Callable[[Iterable[str]], str]


def form_of(path: Path, *, ascii: bool = False) -> Form:
    """JSON when the path ends in .json, which is ASCII always, else YAML."""
    if path.suffix == ".json":
        return _JSON
    return _ASCII_YAML if ascii else _YAML


def plain_yaml() -> Form:
    """The form that holds any body."""
    return _YAML


def _join(entries: Iterable[str]) -> str:
    text = "".join(entries)
    return f"interactions:{chr(10) + text if text else ' []' + chr(10)}version: {VERSION}\n"


def _entry(record: Record, ascii: bool = False) -> str:
    """One interaction as YAML, checked to hold what it should."""
    tree = [_interaction(record)]
    for text in (_literal_yaml(tree[0], ascii), _yaml(tree, not ascii)):
        if safe_load(text.encode(), "a record") == tree:
            return text
    return _yaml(tree, allow_unicode=False)


def _join_json(entries: Iterable[str]) -> str:
    text = ",\n".join(entries)
    interactions = f"[\n{text}\n    ]" if text else "[]"
    return f'{{\n    "interactions": {interactions},\n    "version": {VERSION}\n}}\n'


def _entry_json(record: Record) -> str:
    try:
        text = json.dumps(_interaction(record), indent=4, sort_keys=True)
    except TypeError:
        raise CassetteError(
            "a body is not text, which JSON cannot hold: save as .yaml instead"
        ) from None
    return indent(text, " " * 8)


_YAML = Form(_entry, _join)
_ASCII_YAML = Form(partial(_entry, ascii=True), _join)
_JSON = Form(_entry_json, _join_json)


def _interaction(record: Record) -> dict[str, Any]:
    request = record.request and _shrunk(record.request)
    answer = Answer(record.status, record.headers, record.body)
    if "content-encoding" in record.headers:
        body = decoded(answer.body, record.headers["content-encoding"], "a record's body")
        answer = Answer(answer.status, answer.headers, body)
    headers = answer.headers.without("content-encoding", "transfer-encoding")
    return {
        "request": {
            "method": request.method if request else "",
            "uri": _writable(request.url) if request else "",
            "headers": _lists(request.headers) if request else {},
            "body": _stored(request.body) if request else "",
        },
        "response": {
            "status": {"code": record.status, "message": phrases.get(record.status, "")},
            "headers": _lists(with_length(headers, len(answer.body))),
            "body": {"string": _stored(answer.body)},
            "llmbridge": msgspec.to_builtins(_key(record, answer)),
        },
    }


def _shrunk(request: Request) -> Request:
    """The request with its large blobs named by length and hash."""
    body = shrink(request.body)
    if body is request.body:
        return request
    return replace(request, body=body, headers=with_length(request.headers, len(body)))


def _key(record: Record, answer: Answer) -> Key:
    as_read = [chunk for _, chunk in record.chunks] == answer.pieces
    # A body that was inflated here has lost its pieces.
    known = answer.body == record.body and (record.timed or not as_read)
    asked = classify(record.request).model if record.request else None
    ms = "" if record.duration_s is None else f" {in_milliseconds(record.duration_s):.12g}"
    return Key(
        v=VERSION,
        head_ms=None if record.head_s is None else in_milliseconds(record.head_s),
        chunks=write_timing(record.chunks, record.head_s) if known else None,
        timed=record.timed,
        end=record.end + ms,
        error=record.error and _writable(record.error),
        recorded_at=record.started_at,
        provider=record.provider,
        api=record.dialect,
        model=None if record.model == asked else record.model,
        round=record.round,
        redacted=list(record.redacted),
    )


def _stored(body: bytes) -> str | bytes:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def _lists(headers: Headers) -> dict[str, list[str]]:
    names: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for name, value in headers.pairs:
        name = names.setdefault(name.lower(), _writable(name))
        lists.setdefault(name, []).append(_CONTROL.sub(" ", _writable(value)))
    return lists


def _writable(text: str) -> str:
    """The text, with what cannot be UTF-8 written out: some clients put odd header bytes into surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def _literal_yaml(interaction: Mapping[str, Any], ascii: bool) -> str:
    """The interaction as YAML with its bodies as literal blocks, where they allow it."""
    # libyaml would escape any body with an emoji in it, so the blocks are written here.
    request, response = interaction["request"], interaction["response"]
    asked, answered = request["body"], response["body"]["string"]
    stand_ins = [
        name if _is_literal(body, ascii) else body
        for body, name in ((asked, _ASKED), (answered, _ANSWERED))
    ]
    text = _yaml(
        [
            {
                "request": {**request, "body": stand_ins[0]},
                "response": {**response, "body": {"string": stand_ins[1]}},
            }
        ],
        not ascii,
    )
    for body, name, width in ((asked, _ASKED, 6), (answered, _ANSWERED, 8)):
        if _is_literal(body, ascii):
            text = text.replace(f": {name}\n", f": {_block(body, width)}\n", 1)
    return text


def _is_literal(body: str | bytes, ascii: bool) -> TypeGuard[str]:
    return (
        isinstance(body, str)
        and (body.isascii() or not ascii)
        and _LITERAL.fullmatch(body) is not None
        and not _TRAILING_BLANK.search(body)
        and not body.isspace()
    )


def _block(body: str, width: int) -> str:
    """The literal block that reads as this text, without the last line end."""
    hint = "2" if body[0] in " \t\n" else ""
    keep = "+" if body.endswith("\n\n") else "" if body.endswith("\n") else "-"
    lines = _LINE_BEGIN.sub(" " * width, body)
    return f"|{hint}{keep}\n{lines.removesuffix(chr(10))}"


class _Dumper(_Base):
    """Writes each value where it stands: no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(tree: Any, allow_unicode: bool = True) -> str:
    return str(
        yaml.dump(
            tree,
            Dumper=_Dumper,
            allow_unicode=allow_unicode,
            default_flow_style=False,
            sort_keys=True,
            width=_WIDTH,
        )
    )
