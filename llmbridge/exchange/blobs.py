"""Images, files and sounds in a request: what is kept and compared of them is their length and hash."""

import json
import re
from base64 import b64decode
from binascii import Error
from hashlib import sha256

_LIMIT_CHARACTERS = 4096
"""Shorter base64 stays as it is."""

# PHP writes / as \/, .NET writes + as \u002B.
_BASE64 = rb"(?:[A-Za-z0-9+/_-]++|\\/|\\u00(?:2[BDFbdf]|5[Ff]))++(?:=|\\u003[Dd]){0,2}+"
_WHOLE = re.compile(_BASE64 + rb"(?=\\?\Z)")
_MIXED = re.compile(rb"(?=.*?[A-Z])(?=.*?[a-z]).*?[0-9]")
_IN_URL = re.compile(rb"(?<=;base64,)" + _BASE64)
_IN_URL_BEGINS = b";base64,"


def shrink(body: bytes) -> bytes:
    """The body with `<blob:sha256:HEX:LENGTH>` for each JSON string or data URL of base64 longer than 4096 characters.

    Length and hash are those of the bytes that the base64 stands for, so two spellings of one file are equal. A body
    without such is handed back as it is, the same object; so is one that was shrunk before.
    """
    if len(body) <= _LIMIT_CHARACTERS:
        return body
    strings = body.split(b'"')
    shrunk = [_shrunk(each) if len(each) > _LIMIT_CHARACTERS else each for each in strings]
    return body if shrunk == strings else b'"'.join(shrunk)


def _shrunk(string: bytes) -> bytes:
    if _IN_URL_BEGINS in string:
        return _IN_URL.sub(_marked, string)
    # Prose has blanks, and what is typed to be long is one letter again and again.
    found = _WHOLE.match(string)
    return _marked(found) + string[found.end() :] if found and _MIXED.match(found[0]) else string


def _marked(match: re.Match[bytes]) -> bytes:
    text = match[0]
    if len(text) <= _LIMIT_CHARACTERS:
        return text
    data = _bytes_of(text)
    return b"<blob:sha256:%b:%d>" % (sha256(data).hexdigest().encode(), len(data))


def _bytes_of(text: bytes) -> bytes:
    plain = json.loads(b'"%b"' % text).rstrip("=") if b"\\" in text else text.decode().rstrip("=")
    try:
        return b64decode(
            plain + "=" * (-len(plain) % 4), altchars="-_" if _is_urlsafe(plain) else None
        )
    except Error:
        return text


def _is_urlsafe(text: str) -> bool:
    return "-" in text or "_" in text
