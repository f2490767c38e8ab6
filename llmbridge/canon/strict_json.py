"""JSON as RFC 8259 has it: what Python's `json` adds is refused, whatever is wrong is a ValueError."""

import json
import math
import re
from typing import Any, NoReturn

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def loads_strict(data: str | bytes) -> Any:
    """The value of one whole document. Of equal keys the last wins; a lone surrogate becomes U+FFFD.

    Raises:
        ValueError: not JSON, not UTF-8, nested too deep, or a number that cannot be written back.
    """
    try:
        text = data if isinstance(data, str) else str(data, "utf-8")
        value = _decode(text)
        if _SURROGATE.search(text):
            return _mend(value)
    except RecursionError:
        raise ValueError("the JSON is nested too deep: send it flatter") from None
    return value


def mend_surrogates(text: str) -> str:
    """Join surrogate pairs and put U+FFFD for lone ones: what comes out can be encoded."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _mend(value: Any) -> Any:
    spelled = json.dumps(value, ensure_ascii=False)
    mended = mend_surrogates(spelled)
    return value if mended == spelled else _decode(mended)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number: send null or leave it out")


def _finite(spelled: str) -> float:
    number = float(spelled)
    if math.isinf(number):
        raise ValueError(f"the number {spelled[:40]!r} is too large: send a smaller one")
    return number


_decode = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).decode
