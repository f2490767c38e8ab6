"""JSON of wire events, fast: msgspec, with every failure a `ValueError`."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def typed(kind: type[T]) -> Callable[[str | bytes], T]:
    """A function from JSON text to `kind`; keys that `kind` does not name are passed over."""
    decode = msgspec.json.Decoder(kind).decode

    def load(text: str | bytes) -> T:
        try:
            return decode(text)
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None

    return load


loads: Callable[[str | bytes], Any] = typed(Any)  # type: ignore[arg-type]  # Any is what msgspec takes for untyped
"""Any JSON value."""
