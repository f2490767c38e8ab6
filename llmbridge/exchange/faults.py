"""What can go wrong on purpose: refusals, delays, cut and garbled answers. Each function gives a `Fault`.

Events are counted as they come over the wire, pings included; an answer that is no stream counts as one event.
"""

import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from time import monotonic
from typing import TypeVar, Unpack, get_args

import anyio

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.call import Handler, Reply
from llmbridge.exchange.event_pieces import events, is_event, with_half_the_data
from llmbridge.exchange.failure import Failure, error_of
from llmbridge.exchange.injection import Ending, Fault, Limits, Strike
from llmbridge.wire.sse import SSEDecoder, encode_sse

_Piece = TypeVar("_Piece")

_LEAD_BYTE = re.compile(rb"[\xc2-\xf4](?=[\x80-\xbf])")
_LINE_END = re.compile(rb"\r\n|\r|\n")


# Instead of an answer, or before one


def status(
    code: int, *, message: str = "", retry_after: float | None = None, **limits: Unpack[Limits]
) -> Fault:
    """A refusal in the provider's own shape, with its rate-limit fields; the upstream is not asked.

    `retry_after` is in seconds, for `retry-after` and `retry-after-ms`.
    """
    failure = Failure(code, message, retry_after)

    async def inject(strike: Strike, forward: Handler) -> Reply:
        strike.tell()
        return failure.reply(strike.call.dialect)

    return Fault(_text("status", code, retry_after=retry_after), inject, **limits)


def latency(seconds: float, **limits: Unpack[Limits]) -> Fault:
    """The upstream is asked that much later, so all of the answer comes later."""
    _not_negative("latency", seconds)

    async def inject(strike: Strike, forward: Handler) -> Reply:
        strike.tell()
        await anyio.sleep(seconds)
        return await forward(strike.call)

    return Fault(_text("latency", seconds), inject, **limits)


def slow_headers(seconds: float, **limits: Unpack[Limits]) -> Fault:
    """The head is held back that long, while the upstream's answer goes on behind it."""
    _not_negative("slow_headers", seconds)

    async def inject(strike: Strike, forward: Handler) -> Reply:
        reply = await forward(strike.call)
        strike.tell()
        try:
            await anyio.sleep(seconds)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await reply.aclose("client_gone")
            raise
        return reply

    return Fault(_text("slow_headers", seconds), inject, **limits)


# An answer that stops


def stall(*, after_events: int = 0, for_s: float = math.inf, **limits: Unpack[Limits]) -> Fault:
    """Nothing comes for `for_s` seconds after so many events; for ever, unless told."""
    _not_negative("stall", after_events, for_s)

    async def spoil(strike: Strike, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        count = 0
        if not after_events:
            await _pause(strike, for_s)
        async for event in pieces:
            yield event
            count += 1
            if count == after_events:
                await _pause(strike, for_s)

    return _spoiling(_text("stall", after_events=after_events, for_s=for_s), events, spoil, limits)


def disconnect(
    *,
    after_events: int | None = None,
    after_bytes: int | None = None,
    after_ms: float | None = None,
    how: Ending = "reset",
    **limits: Unpack[Limits],
) -> Fault:
    """The connection ends after so many events, bytes, or milliseconds from the head; at once where none is given.

    `how` "reset" breaks it, "eof" closes it as if all had been sent.
    """
    places = {"after_events": after_events, "after_bytes": after_bytes, "after_ms": after_ms}
    given = {name: place for name, place in places.items() if place is not None}
    if len(given) > 1:
        raise ConfigurationError(f"disconnect: {' and '.join(given)} are two places, give one")
    if how not in get_args(Ending):
        raise ConfigurationError(f"disconnect: how={how!r}, give 'reset' or 'eof'")
    _not_negative("disconnect", *given.values())

    async def spoil(strike: Strike, pieces: AsyncIterator[bytes | None]) -> AsyncGenerator[bytes]:
        async for piece in pieces:
            if piece is None:
                await strike.cut(how)
                return
            yield piece

    if after_ms is not None:
        pieces = partial(_until, ms=after_ms)
    elif after_events is not None:
        pieces = partial(_events, count=after_events)
    else:
        pieces = partial(_bytes, count=after_bytes or 0)
    shown = None if how == "reset" else how
    return _spoiling(_text("disconnect", **given, how=shown), pieces, spoil, limits)


def truncate(*, event: int = 0, **limits: Unpack[Limits]) -> Fault:
    """The answer closes in the middle of this event (the first is 0), as if all had been sent."""
    _not_negative("truncate", event)

    async def spoil(strike: Strike, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        count = 0
        async for piece in pieces:
            if count == event:
                yield piece[: len(piece) // 2]
                await strike.cut()
                return
            yield piece
            count += 1

    return _spoiling(_text("truncate", event=event), events, spoil, limits)


def no_terminal(**limits: Unpack[Limits]) -> Fault:
    """A stream closes just before the event that says it is whole."""

    async def spoil(strike: Strike, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        decoder = SSEDecoder()
        async for piece in pieces:
            verdicts = (strike.call.dialect.verdict(sse) for sse in decoder.feed(piece))
            if is_event(piece) and any(verdicts):
                await strike.cut()
                return
            yield piece

    return _spoiling(_text("no_terminal"), events, spoil, limits)


def error_event(
    kind: str = "overloaded_error",
    *,
    message: str = "",
    after_events: int = 1,
    **limits: Unpack[Limits],
) -> Fault:
    """A stream that began well ends with the dialect's error event after so many events.

    With `after_events=0` an answer that is no stream is an error with status 200.
    """
    _not_negative("error_event", after_events)
    error = error_of(kind, message)

    async def spoil(strike: Strike, pieces: AsyncIterator[bytes | None]) -> AsyncGenerator[bytes]:
        dialect, last = strike.call.dialect, b""
        async for piece in pieces:
            if piece is not None:
                last = piece
                yield piece
                continue
            strike.tell()
            strike.settle("upstream_error", error)
            await strike.source.aclose("client_gone")
            if strike.call.streaming:
                yield encode_sse(dialect.encode_error_event(error, last))
            else:
                yield dialect.encode_error(error)
            return

    pieces = partial(_events, count=after_events)
    return _spoiling(_text("error_event", kind, after_events=after_events), pieces, spoil, limits)


# An answer that is odd


def malformed(*, event: int = 0, **limits: Unpack[Limits]) -> Fault:
    """The JSON of this event (the first is 0) is cut in half; the stream goes on."""
    _not_negative("malformed", event)

    async def spoil(strike: Strike, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        count = 0
        async for piece in pieces:
            if count != event:
                yield piece
            elif is_event(piece):
                strike.tell()
                yield with_half_the_data(piece)
            else:
                yield piece[: len(piece) // 2]
                await strike.cut()
                return
            count += 1

    return _spoiling(_text("malformed", event=event), events, spoil, limits)


def duplicate(*, event: int = 0, **limits: Unpack[Limits]) -> Fault:
    """This event of a stream (the first is 0) comes twice."""
    _not_negative("duplicate", event)

    async def spoil(strike: Strike, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        count = 0
        async for piece in pieces:
            yield piece
            if count == event and is_event(piece):
                strike.tell()
                yield piece
            count += 1

    return _spoiling(_text("duplicate", event=event), events, spoil, limits)


def crlf(**limits: Unpack[Limits]) -> Fault:
    """Every line of a stream ends with CR LF."""

    async def spoil(strike: Strike, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        async for piece in pieces:
            if is_event(piece):
                strike.tell()
                yield _LINE_END.sub(b"\r\n", piece)
            else:
                yield piece

    return _spoiling(_text("crlf"), events, spoil, limits)


# The same bytes in other pieces


def split_utf8(**limits: Unpack[Limits]) -> Fault:
    """Every character of more than one byte is cut in two pieces."""

    async def spoil(strike: Strike, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        async for chunk in pieces:
            start = 0
            for lead in _LEAD_BYTE.finditer(chunk):
                strike.tell()
                yield chunk[start : lead.end()]
                start = lead.end()
            yield chunk[start:]

    return _spoiling(_text("split_utf8"), _chunks, spoil, limits)


def split_event(**limits: Unpack[Limits]) -> Fault:
    """Every event comes in two pieces."""

    async def spoil(strike: Strike, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        async for piece in pieces:
            strike.tell()
            yield piece[: len(piece) // 2]
            yield piece[len(piece) // 2 :]

    return _spoiling(_text("split_event"), events, spoil, limits)


def merge_events(count: int = 2, **limits: Unpack[Limits]) -> Fault:
    """So many events come in one piece."""
    if count < 2:
        raise ConfigurationError(f"merge_events: count={count!r}, give 2 or more")

    async def spoil(strike: Strike, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        held: list[bytes] = []
        async for piece in pieces:
            held.append(piece)
            if len(held) == count:
                strike.tell()
                yield b"".join(held)
                held.clear()
        if held:
            yield b"".join(held)

    return _spoiling(_text("merge_events", count), events, spoil, limits)


# What they are made of


def _spoiling(
    text: str,
    pieces: Callable[[Reply], AsyncGenerator[_Piece]],
    spoil: Callable[[Strike, AsyncIterator[_Piece]], AsyncGenerator[bytes]],
    limits: Limits,
) -> Fault:
    """A fault of the bytes: what `spoil` makes of such pieces of the answer."""

    async def inject(strike: Strike, forward: Handler) -> Reply:
        async def spoiled(source: Reply) -> AsyncIterator[bytes]:
            async with aclosing(pieces(source)) as sound, aclosing(spoil(strike, sound)) as odd:
                async for piece in odd:
                    yield piece

        return strike.spoil(await forward(strike.call), spoiled)

    return Fault(text, inject, **limits)


async def _pause(strike: Strike, seconds: float) -> None:
    strike.tell()
    await anyio.sleep(seconds)


async def _chunks(source: Reply) -> AsyncGenerator[bytes]:
    """The pieces as they come."""
    async for chunk in source:
        yield chunk


async def _events(source: Reply, count: int) -> AsyncGenerator[bytes | None]:
    """The first `count` events, then None; without it where there are fewer."""
    if not count:
        yield None
        return
    async with aclosing(events(source)) as pieces:
        async for event in pieces:
            yield event
            count -= 1
            if not count:
                yield None
                return


async def _bytes(source: Reply, count: int) -> AsyncGenerator[bytes | None]:
    """The first `count` bytes, then None; without it where there are fewer."""
    if not count:
        yield None
        return
    async for chunk in source:
        yield chunk[:count]
        count -= len(chunk)
        if count <= 0:
            yield None
            return


async def _until(source: Reply, ms: float) -> AsyncGenerator[bytes | None]:
    """What comes in this time, then None; without it where the source ends before."""
    end = monotonic() + ms / 1000
    while (left := end - monotonic()) > 0:
        chunk = None
        with anyio.move_on_after(left):
            try:
                chunk = await anext(source)
            except StopAsyncIteration:
                return
        if chunk is None:
            break
        yield chunk
    yield None


def _text(name: str, *given: object, **named: object) -> str:
    """The fault as it is written in Python."""
    words = [repr(value) for value in given]
    words += [f"{key}={value!r}" for key, value in named.items() if value is not None]
    return f"{name}({', '.join(words)})"


def _not_negative(name: str, *numbers: float) -> None:
    for number in numbers:
        if not number >= 0:
            raise ConfigurationError(f"{name}: {number!r} cannot be, give 0 or more")
