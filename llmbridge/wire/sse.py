"""Server-sent events: bytes to events and back, and where the events of a stream end.

Source: WHATWG HTML 9.2, "Server-sent events". No I/O.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_BOM = b"\xef\xbb\xbf"
_LINE_BREAK = re.compile("\r\n|\r|\n")
_NO_FIELDS = re.compile(rb"(?:\xef\xbb\xbf)?(?:(?::[^\n]*+)?\n)*+")
# int() may have been told to refuse anything longer.
_MAX_DIGITS = 640


@dataclass(frozen=True, slots=True)
class SSE:
    """One event: `message` stands for no name, `id` is the last one that the stream gave."""

    event: str = "message"
    data: str = ""
    id: str = ""


def encode_sse(event: SSE) -> bytes:
    """The event as it goes over the wire; every line break in its data becomes LF.

    Raises:
        ValueError: the name or the id holds a line break, which would begin another field.
    """
    if _LINE_BREAK.search(event.event + event.id):
        raise ValueError(
            f"line break in event name {event.event!r} or id {event.id!r}: only data may have one"
        )
    lines = [f"data: {line}" for line in _LINE_BREAK.split(event.data)]
    if event.id:
        lines.insert(0, f"id: {event.id}")
    if event.event != "message":
        lines.insert(0, f"event: {event.event}")
    return "\n".join([*lines, "", ""]).encode("utf-8", "replace")


class SSEDecoder:
    """Cut a byte stream into events, wherever the chunk borders fall. No bytes are an error.

    An event still open when the stream ends is dropped, as the standard asks; `close` hands it out.
    """

    __slots__ = ("_blocks", "_retry", "last_event_id")

    def __init__(self) -> None:
        self.last_event_id = ""
        self._retry: int | None = None
        self._blocks = _Blocks()

    def feed(self, chunk: bytes) -> list[SSE]:
        """The events that this chunk completes."""
        events: list[SSE] = []
        whole = self._blocks.feed(chunk)
        if not whole:
            return events
        for block in _text(whole)[:-2].split("\n\n"):
            # Nearly every event of every provider has one of these two shapes.
            head, _, data = block.partition("data: ")
            if "\n" not in data and data:
                if not head:
                    events.append(SSE("message", data, self.last_event_id))
                    continue
                if head[:7] == "event: " and 7 < head.find("\n", 7) == len(head) - 1:
                    events.append(SSE(head[7:-1], data, self.last_event_id))
                    continue
            events += self._read(block)
        return events

    def close(self) -> list[SSE]:
        """The event left open at the end of the stream, if it has data. Id and retry stay."""
        event, _, _ = _read(_text(self._blocks.rest()), self.last_event_id)
        return [event] if event else []

    @property
    def retry(self) -> int | None:
        """The reconnection time that the stream asked for, in milliseconds."""
        lines, _, _ = self._blocks.rest().rpartition(b"\n")
        _, _, retry = _read(_text(lines), "")
        return self._retry if retry is None else retry

    def _read(self, block: str) -> list[SSE]:
        event, self.last_event_id, retry = _read(block, self.last_event_id)
        if retry is not None:
            self._retry = retry
        return [event] if event else []


def ends_event(tail: bytes) -> bool:
    """True when these last bytes of a stream end with a blank line: another event could be written here."""
    return tail.endswith((b"\n\n", b"\n\r\n", b"\r\r"))


class Framer:
    """Follow where the events of a byte stream end, and find the one that ends the reply.

    Only events that hold one of `markers` are decoded: they are shown to `is_terminal`, each once and in order, with an
    empty id, until it says yes. `last` are the bytes of the last event that ended, and of those that came with it.
    """

    __slots__ = ("_blocks", "_is_terminal", "_late", "_markers", "last", "terminated")

    def __init__(self, is_terminal: Callable[[SSE], bool], markers: Sequence[bytes]) -> None:
        self.terminated = False
        self.last = b""
        self._is_terminal = is_terminal
        self._markers = tuple(markers)
        self._blocks = _Blocks()
        self._late = False

    def feed(self, chunk: bytes) -> int | None:
        """Where in this chunk the terminal event ends, its blank line included; None if it does not.

        When a CR at the end of a chunk may be half of the CRLF that ends it, the next chunk's answer tells (0 or 1).
        """
        whole = self._blocks.feed(chunk)
        if self.terminated:
            return self._tell_late(chunk)
        if b"data:" in whole:
            self.last = whole
        for marker in self._markers:
            if marker in whole:
                return self._seek(chunk, whole)
        return None

    def close(self) -> bool:
        """True when the terminal event is there but `feed` has not told: the stream ended before its blank line did."""
        return self._late or (not self.terminated and self._says_end(self._blocks.rest()))

    @property
    def open_bytes(self) -> int:
        """How long the event is so far that has not ended."""
        return len(self._blocks.open)

    @property
    def at_border(self) -> bool:
        """True where another event could be written: since the last one came only blank lines and whole comments."""
        rest = self._blocks.open
        return not rest or (rest[-1] == 0x0A and _NO_FIELDS.fullmatch(rest) is not None)

    def _seek(self, chunk: bytes, whole: bytes) -> int | None:
        # A burst brings hundreds of events in one chunk: only those with a marker are cut out.
        end = 0
        for place in sorted(place for marker in self._markers for place in _places(whole, marker)):
            if place < end:
                continue
            blank = whole.rfind(b"\n\n", end, place)
            start = end if blank < 0 else blank + 2
            end = whole.find(b"\n\n", place) + 2
            if self._says_end(whole[start : end - 2]):
                self.terminated = True
                after = len(whole) - end + len(self._blocks.open)
                self._late = not after and self._blocks.after_cr
                return None if self._late else _before_last(chunk, after)
        return None

    def _tell_late(self, chunk: bytes) -> int | None:
        if not self._late or not chunk:
            return None
        self._late = False
        return int(chunk.startswith(b"\n"))

    def _says_end(self, block: bytes) -> bool:
        if not any(marker in block for marker in self._markers):
            return False
        event, _, _ = _read(_text(block), "")
        return event is not None and self._is_terminal(event)


class _Blocks:
    """Cut a byte stream after its blank lines, every line end made LF. No byte is searched twice.

    CR ends its line at once; an LF that comes next is the rest of that line end, and skipped.
    """

    __slots__ = ("_begun", "after_cr", "open")

    def __init__(self) -> None:
        self.open = bytearray()
        self.after_cr = False
        self._begun = False

    def feed(self, chunk: bytes) -> bytes:
        """The blocks that this chunk completes; what comes after the last blank line stays in `open`."""
        if self.after_cr or b"\r" in chunk:
            chunk = self._with_lf(chunk)
        if self._begun and not self.open and chunk.endswith(b"\n\n"):
            return chunk
        seen = max(0, len(self.open) - 1)
        self.open += chunk
        end = self.open.rfind(b"\n\n", seen) + 2
        if end < 2:
            return b""
        whole = bytes(self.open[:end])
        del self.open[:end]
        if not self._begun:
            self._begun = True
            return whole.removeprefix(_BOM)
        return whole

    def rest(self) -> bytes:
        """What is still open."""
        return bytes(self.open) if self._begun else bytes(self.open).removeprefix(_BOM)

    def _with_lf(self, chunk: bytes) -> bytes:
        if not chunk:
            return chunk
        if self.after_cr:
            chunk = chunk.removeprefix(b"\n")
        self.after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _read(block: str, last_id: str) -> tuple[SSE | None, str, int | None]:
    """The event of a block (None: it has no data), the id from now on, and the retry time if it gives one."""
    name, lines, retry = "", list[str](), None
    for line in block.split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            lines.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            last_id = value
        elif field == "retry" and value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
            retry = int(value)
    event = SSE(name or "message", "\n".join(lines), last_id) if lines else None
    return event, last_id, retry


def _places(whole: bytes, marker: bytes) -> Iterator[int]:
    place = whole.find(marker)
    while place >= 0:
        yield place
        place = whole.find(marker, place + 1)


def _text(whole: bytes) -> str:
    return whole.decode("utf-8", "replace")


def _before_last(chunk: bytes, count: int) -> int:
    """Where the last `count` bytes of the chunk begin, if each CRLF is counted as one."""
    place = len(chunk) - count
    pair = chunk.rfind(b"\r\n")
    while pair >= 0 and pair + 2 > place:
        place -= 1
        pair = chunk.rfind(b"\r\n", 0, pair)
    return place
