"""Records as a cassette that plain vcrpy replays and keeps, our own key in each response included."""

import json
import re
from collections.abc import Iterable, Mapping
from http.client import responses as phrases
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from llmbridge.errors import CassetteError
from llmbridge.exchange.call import Headers
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
_PLACEHOLDER = "llmbridge-body-{}"


def dump(records: Iterable[Record]) -> str:
    """A cassette as YAML; bodies are literal blocks wherever that keeps every byte."""
    return join(entry(record) for record in records)


def dump_json(records: Iterable[Record]) -> str:
    """A cassette as JSON.

    Raises:
        CassetteError: a body is not text, which JSON cannot hold.
    """
    interactions = [_interaction(record) for record in records]
    tree = {"interactions": interactions, "version": VERSION}
    try:
        return json.dumps(tree, indent=4, sort_keys=True) + "\n"
    except TypeError:
        raise CassetteError(
            "a body is not text, which JSON cannot hold: save as .yaml instead"
        ) from None


def join(entries: Iterable[str]) -> str:
    """A cassette of these entries."""
    text = "".join(entries)
    return f"interactions:{chr(10) + text if text else ' []' + chr(10)}version: {VERSION}\n"


def entry(record: Record) -> str:
    """One interaction as YAML, checked to hold what it should."""
    tree = [_interaction(record)]
    for text in (_literal_yaml(tree[0]), _yaml(tree)):
        if safe_load(text.encode(), "a record") == tree:
            return text
    return _yaml(tree, allow_unicode=False)


def _interaction(record: Record) -> dict[str, Any]:
    request = record.request
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


def _literal_yaml(interaction: Mapping[str, Any]) -> str:
    """The interaction as YAML with its bodies as literal blocks, where they allow it."""
    # libyaml would escape any body with an emoji in it, so the blocks are written here.
    request, response = interaction["request"], interaction["response"]
    asked, answered = request["body"], response["body"]["string"]
    stand_ins = [_PLACEHOLDER.format(name) for name in ("asked", "answered")]
    text = _yaml(
        [
            {
                "request": {**request, "body": _stand_in(asked, stand_ins[0])},
                "response": {**response, "body": {"string": _stand_in(answered, stand_ins[1])}},
            }
        ]
    )
    for stand_in, body, indent in zip(stand_ins, (asked, answered), (6, 8), strict=True):
        if _is_literal(body):
            text = text.replace(f": {stand_in}\n", f": {_block(body, indent)}\n", 1)
    return text


def _stand_in(body: str | bytes, name: str) -> str | bytes:
    return name if _is_literal(body) else body


def _is_literal(body: str | bytes) -> bool:
    return (
        isinstance(body, str)
        and _LITERAL.fullmatch(body) is not None
        and not _TRAILING_BLANK.search(body)
        and not body.isspace()
    )


def _block(body: str, indent: int) -> str:
    """The literal block that reads as this text, without the last line end."""
    hint = "2" if body[0] in " \t\n" else ""
    keep = "+" if body.endswith("\n\n") else "" if body.endswith("\n") else "-"
    lines = _LINE_BEGIN.sub(" " * indent, body)
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
