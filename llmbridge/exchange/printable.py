"""Text of strangers made fit for a terminal: it can neither move the cursor nor turn the writing around."""

import re

_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """The text with a replacement character for each control, direction mark and lone surrogate; lines stay."""
    return _UNFIT.sub("\ufffd", text)


def one_line(text: str, limit: int = 300) -> str:
    """The text as a single printable line of at most `limit` characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def without_password(text: str) -> str:
    """A URL, however it is misspelt, or a path, fit to be shown."""
    return re.sub(r"(:/+).*(?=@)|(password=)[^&]*", r"\1\2***", text)
