"""Where a stream ends: nothing after its terminal event, and no cut stream passes for a whole one.

Close to the upstream, so that the recorder keeps what came and learns how that ended. Where the source knows its end
already (an injected fault), and where it is a recording, the client sees just that: nothing is added.
"""

import re
from collections.abc import AsyncIterator
from contextlib import nullcontext

import anyio

from llmbridge.errors import BridgeError, StreamTruncated, UpstreamLimit
from llmbridge.exchange.call import Call, Handler, Reply
from llmbridge.exchange.codec import is_event_stream
from llmbridge.wire.dialect import Dialect, Verdict
from llmbridge.wire.sse import SSE, Framer, encode_sse

GRACE_S = 0.1
"""How long a finished stream may take to close, or to add the `[DONE]` that some hosts send out of place."""

EVENT_LIMIT_BYTES = 16 * 1024 * 1024
"""An event larger than this is none: the largest carry an image."""

_MAY_FOLLOW = re.compile(rb"(?:\s|:[^\r\n]*[\r\n]|data: ?\[DONE\])*")


async def frame(call: Call, forward: Handler) -> Reply:
    """Watch the borders of the events that pass."""
    reply = await forward(call)
    return reply if reply.framed else framed(call.dialect, call.streaming, reply)


def framed(dialect: Dialect, streaming: bool, reply: Reply) -> Reply:
    """The reply up to its last event; one that is no stream as it is."""
    # Where no stream was asked for and none came there is nothing to watch.
    block = not streaming and "json" in reply.headers.get("content-type", "")
    if reply.status >= 400 or block:
        return reply
    watch = _Watch(dialect, reply)
    watch.framed = reply.through(watch.chunks, prompt=True)
    watch.framed.vetted_by = reply.vetted_by
    if not reply.replayed:
        watch.framed.farewell = watch.farewell
    return watch.framed


class _Verdicts:
    """What the dialect says of the events, the newest of which it says something."""

    def __init__(self, dialect: Dialect) -> None:
        self.newest: Verdict | None = None
        self._dialect = dialect

    def is_last(self, sse: SSE) -> bool:
        """True where nothing may follow."""
        verdict = self._dialect.verdict(sse)
        self.newest = verdict or self.newest
        return verdict in ("completed", "error")


class _Watch:
    """Follows one stream."""

    framed: Reply

    def __init__(self, dialect: Dialect, source: Reply) -> None:
        self._dialect = dialect
        self._source = source
        self._verdicts = _Verdicts(dialect)
        self._framer = Framer(self._verdicts.is_last, dialect.markers)
        self._is_stream = False

    def farewell(self, error: BridgeError) -> bytes:
        """The error event that may end the stream here; nothing inside an event or a block."""
        if self._source.settled or not self._is_stream:
            return b""
        if not self._framer.at_border or self._framer.terminated:
            return b""
        return encode_sse(self._dialect.encode_error_event(error, self._framer.last))

    async def chunks(self, source: Reply) -> AsyncIterator[bytes]:
        """The bytes of `source`, up to its terminal event."""
        try:
            first = True
            async for chunk in source:
                if first:
                    first = False
                    self._is_stream = is_event_stream(source.status, source.headers, chunk)
                if not self._is_stream:
                    yield chunk
                    continue
                end = self._framer.feed(chunk)
                if end is None:
                    if self._framer.open_bytes > EVENT_LIMIT_BYTES:
                        await source.aclose("bridge_limit")
                        raise UpstreamLimit(f"an event is larger than {EVENT_LIMIT_BYTES:,} bytes")
                    yield chunk
                    continue
                rest = chunk[end:]
                if _may_follow(rest):
                    end = len(chunk)
                self._judge(source)
                yield chunk[:end]
                async for late in _after(source, rest):
                    yield late
                return
            self._judge(source)
        finally:
            # It refers back to this: both would be left to the garbage collector, with all of the call.
            del self.framed

    def _judge(self, source: Reply) -> None:
        """Settle how the stream ends, as soon as that is certain."""
        whole = self._framer.terminated or self._framer.close()
        if self._verdicts.newest == "error":
            self.framed.settled = "upstream_error"
        elif whole:
            self.framed.settled = "completed"
        elif self._is_stream and self._dialect.terminated:
            if self._verdicts.newest == "finished" and self._framer.at_border:
                return
            cut = StreamTruncated("the provider's stream stopped before its last event")
            if not source.replayed and not source.settled:
                raise cut
            self.framed.settled, self.framed.error = cut.end, source.error or cut


async def _after(source: Reply, late: bytes) -> AsyncIterator[bytes]:
    """What may still come after the terminal event and these bytes; anything else ends the upstream."""
    while _may_follow(late):
        chunk = b""
        # What waits for nothing needs no timer.
        with nullcontext() if source.at_once else anyio.move_on_after(GRACE_S):
            try:
                chunk = await anext(source, b"")
            except BridgeError:
                # All that counts has come.
                return
            if not chunk:
                return
        late += chunk
        if not chunk:
            break
        if _may_follow(late):
            yield chunk
    await source.aclose("completed")


def _may_follow(late: bytes) -> bool:
    """True for blank lines, comments and `[DONE]`, the last of them perhaps still incomplete."""
    whole = _MAY_FOLLOW.match(late)
    rest = late[whole.end() :] if whole else late
    return rest.startswith(b":") or any(mark.startswith(rest) for mark in _MARKS)


_MARKS = (b"data: [DONE]", b"data:[DONE]")
