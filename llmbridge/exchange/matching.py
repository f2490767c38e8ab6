"""Which requests are the same to a replay: dialect, operation and canonical body, whoever the host is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, get_args
from urllib.parse import quote, unquote

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.blobs import shrink
from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.canonical import RULES, read_body, spell
from llmbridge.exchange.json_path import JsonPath
from llmbridge.exchange.options import check_list
from llmbridge.exchange.redact import Redactor
from llmbridge.exchange.routing import Destination
from llmbridge.wire.google_gemini import GOOGLE_GEMINI
from llmbridge.wire.loose_json import is_object, objects
from llmbridge.wire.opaque import OPAQUE, OPENAI_MODELS

KEY_VERSION = 1
"""Of the rules below; keys of another version cannot be compared."""

Match = Literal["default", "exact", "last_user"]
"""How bodies are compared: without what varies; whole; by what the user said last and nothing else."""

_BY_SHAPE = Redactor()
_REDACTED = "=<redacted:"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it is compared. `body` is a JSON value, or text where it is no JSON; `spelled` is its one spelling."""

    dialect: str
    operation: str
    body: Any
    spelled: bytes

    @property
    def key(self) -> str:
        """The same for the same request, with the version of the rules in front."""
        text = b"\n".join((self.dialect.encode(), self.operation.encode(), self.spelled))
        return f"{KEY_VERSION}:{sha256(text).hexdigest()}"


class Matcher:
    """Makes requests comparable.

    `ignore` names places in the JSON that do not count, such as `$.messages[*].name`. `normalize` gets the JSON of each
    body and gives what is compared in its place.

    Raises:
        ConfigurationError: no such `match`, or no such path.
    """

    __slots__ = ("_ignored", "_match", "_normalize")

    def __init__(
        self,
        match: Match = "default",
        ignore: Iterable[str] = (),
        normalize: Callable[[Any], Any] | None = None,
    ) -> None:
        if match not in get_args(Match):
            raise ConfigurationError(f"match={match!r}: give one of {', '.join(get_args(Match))}")
        if isinstance(ignore, str):
            raise ConfigurationError(f"ignore={ignore!r} is one path: give a list of them")
        check_list("ignore", ignore)
        if normalize is not None and not callable(normalize):
            raise ConfigurationError(f"normalize={normalize!r}: give a function of the body's JSON")
        self._match: Match = match
        self._ignored = tuple(JsonPath(path) for path in ignore)
        self._normalize = normalize

    def asked(self, request: Request, where: Destination, *, redacted: bool = False) -> Asked:
        """The request as it is compared; `redacted` says that it holds no secret any more."""
        body, target = request.body, where.target
        if not redacted:
            body, target = _without_secrets(request, target)
        body = shrink(body)
        dialect, operation = where.dialect.name, request.method.upper()
        # A dialect's operation may stand at many paths; what has no dialect is told apart by its path.
        if where.dialect in (OPAQUE, OPENAI_MODELS):
            operation = f"{operation} {_address(target)}"
        elif where.dialect is GOOGLE_GEMINI:
            # The model is in the path, whose beginning is the host's affair.
            operation = f"{operation} {_address('/' + target.rpartition('/models/')[2])}"
        try:
            value = read_body(body)
        except ValueError:
            return _as_text(dialect, operation, body)
        value = self._compared(dialect, value)
        try:
            return Asked(dialect, operation, value, spell(value))
        except RecursionError:
            return _as_text(dialect, operation, body)

    def _compared(self, dialect: str, value: Any) -> Any:
        for path in self._ignored:
            path.remove(value)
        if self._normalize is not None:
            value = self._normalize(value)
        if self._match == "exact" or not is_object(value):
            return value
        if self._match == "last_user" and (said := _last_user(value)) is not None:
            return {"said last": said, "stream": value.get("stream") is True}
        rules = RULES.get(dialect)
        return rules.apply(value) if rules else value


def _as_text(dialect: str, operation: str, body: bytes) -> Asked:
    # JSON cannot begin with this byte.
    return Asked(dialect, operation, body.decode("utf-8", "backslashreplace"), b"\0" + body)


def _without_secrets(request: Request, target: str) -> tuple[bytes, str]:
    kind = [("content-type", value) for value in (request.headers.get("content-type"),) if value]
    bare = Request(request.method, target, Headers(kind), request.body)
    clean = _BY_SHAPE.request(bare)[0]
    return clean.body, clean.url


def _address(target: str) -> str:
    """Path and query in one spelling; credentials do not count."""
    path, _, query = target.partition("?")
    fields = sorted(field for field in query.split("&") if field and _REDACTED not in field)
    return quote(unquote(path), safe="/:@!$&'()*+,;=~") + "?" * bool(fields) + "&".join(fields)


def _last_user(body: dict[str, Any]) -> str | None:
    """What the user said last, in any of the dialects."""
    asked = body.get("input", body.get("messages", body.get("contents")))
    if isinstance(asked, str):
        return asked
    for message in reversed(objects(asked)):
        content, parts = message.get("content"), message.get("parts")
        # Google takes contents that name no role for the user's.
        role = message.get("role", "user" if parts else None)
        if role == "user" and (said := _text_of(content or parts)):
            return said
    return None


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = [part.get("text") for part in objects(content)]
    return "\n".join(text for text in parts if isinstance(text, str))
