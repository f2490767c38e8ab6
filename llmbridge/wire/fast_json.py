"""JSON of wire events, fast: msgspec, with every failure a `ValueError`."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from llmbridge.canon.strict_json import loads_strict
from llmbridge.wire.loose_json import is_object

T = TypeVar("T")


def typed(kind: type[T]) -> Callable[[str | bytes], T]:
    """A function from JSON text to `kind`; keys that `kind` does not name are passed over."""
    decode = msgspec.json.Decoder(kind).decode

    def load(text: str | bytes) -> T:
        try:
            return decode(text)
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None
        except ValueError:
            if not _has_escape(text):
                raise
        # msgspec refuses half of a surrogate pair, which some hosts send where a delta was cut.
        return msgspec.convert(loads_strict(text), kind)

    return load


def loads(text: str | bytes) -> Any:
    """Any JSON value."""
    return _loads(text)


def loads_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object; empty where the text is none."""
    try:
        value = _loads(text)
    except ValueError:
        return {}
    return value if is_object(value) else {}


_loads: Callable[[str | bytes], Any] = typed(object)


def _has_escape(text: str | bytes) -> bool:
    return "\\u" in text if isinstance(text, str) else b"\\u" in text
