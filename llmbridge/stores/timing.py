"""When the pieces of a stored answer came, as one string: items `delay:bytes`.

A delay is in milliseconds since the item before, the first since the head; the bytes are those of the stored body.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate, islice, pairwise

from llmbridge.exchange.record import Chunk

_BLANK = re.compile(rb"(?>\r\n|[\r\n]){2,}+")
_ITEM = re.compile(r"(-?\d{1,12}(?:\.\d{1,6})?):(\d{1,12})")
_PER_S = 100_000
"""Times are kept to a hundredth of a millisecond."""


def events_of(body: bytes) -> list[bytes]:
    """An event stream cut after its blank lines; joined again it is the same bytes."""
    if b"\r" not in body and b"\n\n\n" not in body:
        cut = [piece + b"\n\n" for piece in body.split(b"\n\n")]
        cut[-1] = cut[-1][:-2]
    else:
        borders = (0, *(blank.end() for blank in _BLANK.finditer(body)), len(body))
        cut = [body[start:end] for start, end in pairwise(borders)]
    return [piece for piece in cut if piece]


def write_timing(chunks: Iterable[Chunk], head_s: float | None) -> str:
    """The string for these chunks."""
    last = _ticks(head_s or 0.0)
    items: list[str] = []
    for seconds, chunk in chunks:
        now = _ticks(seconds)
        items.append(f"{milliseconds(now - last)}:{len(chunk)}")
        last = now
    return " ".join(items)


def read_timing(
    text: str, head_s: float | None, body: bytes, pieces: Sequence[bytes]
) -> tuple[tuple[Chunk, ...], bool]:
    """The chunks of a body, and whether the string fits it.

    Where somebody edited the body it does not: then the times go to `pieces`, one each or spread over the same span.
    """
    items = [_ITEM.fullmatch(item) for item in text.split()]
    found = [(float(item[1]) / 1000, int(item[2])) for item in items if item]
    ends = accumulate((delay for delay, _ in found), initial=head_s or 0.0)
    times = [round(end, 8) for end in islice(ends, 1, None)]
    borders = list(accumulate((size for _, size in found), initial=0))
    if all(items) and borders[-1] == len(body):
        cut = (body[start:end] for start, end in pairwise(borders))
        return tuple(zip(times, cut, strict=True)), True
    return tuple(zip(_spread(times, len(pieces)), pieces, strict=True)), False


def _spread(times: Sequence[float], count: int) -> Sequence[float]:
    if len(times) == count:
        return times
    first, last = (times[0], times[-1]) if times else (0.0, 0.0)
    if count == 1:
        return [last]
    return [first + (last - first) * index / (count - 1) for index in range(count)]


def milliseconds(ticks: int) -> str:
    """Hundredths of a millisecond as a decimal, without needless zeros."""
    sign, (whole, rest) = "-" * (ticks < 0), divmod(abs(ticks), 100)
    return f"{sign}{whole}.{rest:02}".rstrip("0").rstrip(".") if rest else f"{sign}{whole}"


def in_milliseconds(seconds: float) -> float:
    """A time as it is kept beside the string."""
    return _ticks(seconds) / 100


def _ticks(seconds: float) -> int:
    return round(seconds * _PER_S)
