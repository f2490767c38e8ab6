"""The value that a cut JSON document already determines, kept up to date piece by piece.

A cut string keeps its whole characters, a number at the end counts as it stands, open arrays and objects are closed; a
key without a value, a cut literal and a cut number such as `1.` are dropped. jiter calls this "trailing-strings".
"""

import codecs
import json
import re
from collections.abc import Callable
from typing import Any, NoReturn, Self

from llmbridge.canon.strict_json import mend_surrogates

# Deep enough for any tool, flat enough for whoever prints, copies or dumps the value by recursion.
MAX_DEPTH = 200
# As many digits as int() reads by default; a longer number would be searched again at every piece.
MAX_NUMBER = 4300

_SPACE = re.compile(r"[ \t\n\r]*+")
_TEXT = re.compile(r'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+')
_CUT_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
_PLAIN_KEY = re.compile(r'[ \t\n\r]*+"([^"\\\x00-\x1f]*+)"[ \t\n\r]*+:')
_ATOM = re.compile(r"[-+.0-9A-Za-z]++")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_CUT_NUMBER = re.compile(r"-|-?(?:0|[1-9][0-9]*)(?:\.|(?:\.[0-9]+)?[eE][-+]?)")
_LITERALS = {"true": True, "false": False, "null": None}
_CUT_LITERALS = {word[:size] for word in _LITERALS for size in range(1, len(word))}
_ABSENT: Any = object()
_Step = Callable[["PartialJSON", str, int], int]


def parse_partial(text: str | bytes) -> Any:
    """The value of a document that may be cut anywhere.

    Raises:
        ValueError: nothing has a value yet, or no document begins like this.
    """
    return PartialJSON().feed(text).value


class PartialJSON:
    """Read a document in pieces, cut anywhere, in time linear in its length.

    A value that was handed out never changes: reading copies the containers still open, and shares what is finished
    with all later values, so nobody else should change it either.
    """

    __slots__ = (
        "_error",
        "_high",
        "_keys",
        "_open",
        "_pieces",
        "_rest",
        "_root",
        "_step",
        "_text",
        "_utf8",
        "_view",
    )

    def __init__(self) -> None:
        self._step: _Step = PartialJSON._value
        self._open: list[list[Any] | dict[str, Any]] = []
        self._keys: list[str] = []
        self._pieces: list[str] = []
        self._text = self._high = self._rest = self._error = ""
        self._root = self._view = _ABSENT
        self._utf8: codecs.IncrementalDecoder | None = None

    def feed(self, piece: str | bytes) -> Self:
        """Take the next piece; bytes may be cut inside a character.

        Raises:
            ValueError: no document goes on like this. From then on the same error comes every time.
        """
        if self._error:
            raise ValueError(self._error)
        self._view = _ABSENT
        try:
            text = self._rest + (piece if isinstance(piece, str) else self._decode(piece))
            place, end = 0, len(text)
            while place < end:
                begun = place
                place = self._step(self, text, place)
                if place == begun:
                    break
        except ValueError as error:
            self._error = str(error)
            raise
        self._rest = text[place:]
        return self

    @property
    def value(self) -> Any:
        """What the pieces so far determine.

        Raises:
            ValueError: nothing yet, or no document goes on like this.
        """
        if self._error:
            raise ValueError(self._error)
        if self._view is _ABSENT:
            self._view = self._look()
        if self._view is _ABSENT:
            raise ValueError("no JSON value yet: feed more")
        return self._view

    @property
    def complete(self) -> bool:
        """True when the document is whole: only white space may follow. A bare number never is until some does."""
        return self._root is not _ABSENT and not self._error

    def _decode(self, piece: bytes) -> str:
        if self._utf8 is None:
            self._utf8 = codecs.getincrementaldecoder("utf-8")()
        return self._utf8.decode(piece)

    def _look(self) -> Any:
        value = self._cut_value()
        for container, key in zip(reversed(self._open), reversed(self._keys), strict=True):
            held = container.copy()
            if value is not _ABSENT:
                _put(held, key, value)
            value = held
        return value

    def _cut_value(self) -> Any:
        if self._step is PartialJSON._in_string:
            return self._text_so_far()
        if self._step is PartialJSON._value and self._rest and not _is_cut(self._rest):
            return _atom(self._rest)
        return self._root

    # A step reads one thing and returns where that ends. To end where it began is to wait for more.

    def _value(self, text: str, place: int) -> int:
        place = _skip(text, place)
        char = text[place : place + 1]
        if char == '"':
            self._step = PartialJSON._in_string
        elif char == "{":
            self._enter({}, PartialJSON._first_key)
        elif char == "[":
            self._enter([], PartialJSON._first_value)
        else:
            return self._in_atom(text, place)
        return place + 1

    def _in_atom(self, text: str, place: int) -> int:
        found = _ATOM.match(text, place)
        atom = found[0] if found else text[place : place + 1]
        if len(atom) > MAX_NUMBER:
            raise ValueError(f"a number of more than {MAX_NUMBER} characters: send a shorter one")
        if place + len(atom) == len(text):
            # More of it may follow; what can never become a value is refused now.
            if atom and not _is_cut(atom):
                _atom(atom)
            return place
        self._add(_atom(atom))
        return place + len(atom)

    def _in_string(self, text: str, place: int) -> int:
        end = self._read(text, place)
        if end < len(text) and text[end] == '"':
            self._add(self._taken())
            return end + 1
        return end

    def _first_value(self, text: str, place: int) -> int:
        place = _skip(text, place)
        if place == len(text):
            return place
        if text[place] == "]":
            return self._leave(place)
        self._step = PartialJSON._value
        return self._value(text, place)

    def _first_key(self, text: str, place: int) -> int:
        place = _skip(text, place)
        if place == len(text):
            return place
        if text[place] == "}":
            return self._leave(place)
        self._step = PartialJSON._key
        return self._key(text, place)

    def _key(self, text: str, place: int) -> int:
        if found := _PLAIN_KEY.match(text, place):
            self._keys[-1] = _mended(found[1])
            self._step = PartialJSON._value
            return found.end()
        return self._expect('"', text, place, PartialJSON._in_key)

    def _in_key(self, text: str, place: int) -> int:
        end = self._read(text, place)
        if end < len(text) and text[end] == '"':
            self._keys[-1] = self._taken()
            self._step = PartialJSON._colon
            return end + 1
        return end

    def _colon(self, text: str, place: int) -> int:
        return self._expect(":", text, place, PartialJSON._value)

    def _after_value(self, text: str, place: int) -> int:
        place = _skip(text, place)
        if place == len(text):
            return place
        in_array = isinstance(self._open[-1], list)
        if text[place] == ",":
            self._step = PartialJSON._value if in_array else PartialJSON._key
            return place + 1
        if text[place] == ("]" if in_array else "}"):
            return self._leave(place)
        return _refuse(text, place)

    def _end(self, text: str, place: int) -> int:
        place = _skip(text, place)
        return place if place == len(text) else _refuse(text, place)

    def _expect(self, char: str, text: str, place: int, step: _Step) -> int:
        place = _skip(text, place)
        if place == len(text):
            return place
        if text[place] != char:
            _refuse(text, place)
        self._step = step
        return place + 1

    def _enter(self, container: list[Any] | dict[str, Any], step: _Step) -> None:
        if len(self._open) == MAX_DEPTH:
            raise ValueError(f"the JSON is nested more than {MAX_DEPTH} deep: send it flatter")
        self._open.append(container)
        self._keys.append("")
        self._step = step

    def _leave(self, place: int) -> int:
        self._keys.pop()
        self._add(self._open.pop())
        return place + 1

    def _add(self, value: Any) -> None:
        if self._open:
            _put(self._open[-1], self._keys[-1], value)
            self._step = PartialJSON._after_value
        else:
            self._root = value
            self._step = PartialJSON._end

    def _read(self, text: str, place: int) -> int:
        found = _TEXT.match(text, place)
        end = found.end() if found else place
        if end > place:
            self._pieces.append(text[place:end])
        if end < len(text) and text[end] != '"' and not _CUT_ESCAPE.fullmatch(text, end):
            _refuse(text, end)
        return end

    def _taken(self) -> str:
        text = _mended(self._text_so_far() + self._high)
        self._text = self._high = ""
        return text

    def _text_so_far(self) -> str:
        if self._pieces:
            raw = "".join(self._pieces)
            self._pieces.clear()
            text = self._high + (json.loads(f'"{raw}"') if "\\" in raw else raw)
            # A high surrogate waits for its low one.
            self._high = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
            self._text += _mended(text[:-1] if self._high else text)
        return self._text


def _skip(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _put(container: list[Any] | dict[str, Any], key: str, value: Any) -> None:
    if isinstance(container, dict):
        container[key] = value
    else:
        container.append(value)


def _is_cut(atom: str) -> bool:
    return atom in _CUT_LITERALS or _CUT_NUMBER.fullmatch(atom) is not None


def _atom(atom: str) -> Any:
    if atom in _LITERALS:
        return _LITERALS[atom]
    number = _NUMBER.fullmatch(atom)
    if number is None:
        raise ValueError(f"{atom[:12]!r} is no JSON value")
    return int(atom) if number.lastindex is None else float(atom)


def _mended(text: str) -> str:
    return text if text.isascii() else mend_surrogates(text)


def _refuse(text: str, place: int) -> NoReturn:
    raise ValueError(f"{text[place]!r} cannot stand here in JSON")
