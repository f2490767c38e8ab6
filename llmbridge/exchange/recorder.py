"""Keep a copy of what passes: one record for each exchange with an upstream."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import monotonic as system_monotonic
from typing import Protocol

from llmbridge.exchange.call import Call, Handler, Reply, Request
from llmbridge.exchange.record import Chunk, Record
from llmbridge.exchange.redact import Redactor
from llmbridge.exchange.remembered import LARGEST_BYTES, OVERHEAD_BYTES, Remembered
from llmbridge.exchange.watching import Exchange, Watchers

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time of day in UTC."""
    return datetime.now(UTC)


class Keeps(Protocol):
    """What a recorder needs of a store."""

    def add(self, record: Record) -> None:
        """Take a finished exchange. Never waits."""
        ...


class Recorder:
    """An interceptor that gives the store a `Record` when a reply ends, however it ends."""

    def __init__(
        self,
        store: Keeps,
        redactor: Redactor,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = system_monotonic,
        watchers: Watchers | None = None,
    ) -> None:
        self._store = store
        self._redactor = redactor
        self._clock = clock
        self._monotonic = monotonic
        self._sent = Remembered[tuple[Request, tuple[str, ...]]]()
        self._watchers = watchers or Watchers()

    async def __call__(self, call: Call, forward: Handler) -> Reply:
        """Forward the call and note each chunk as it goes by."""
        monotonic = self._monotonic
        started_at, start = self._clock(), monotonic()
        chunks: list[Chunk] = []
        seen = Exchange(call, started_at, chunks)
        self._watchers.began(seen)
        try:
            reply = await forward(call)
        except BaseException:
            seen.failed = True
            self._watchers.ended(seen)
            raise
        head_s = monotonic() - start
        came = seen.headers = reply.headers  # The client may get fewer of them.
        seen.status = reply.status

        def note(chunk: bytes) -> None:
            chunks.append((monotonic() - start, chunk))

        def keep(ended: Reply) -> None:
            error = ended.error.message if ended.error else None
            request, asked = self.sent(call)
            headers, kept = came, tuple(chunks)
            told: Sequence[str] = ()
            if error or ended.vetted_by is not self._redactor:
                headers, kept, error, told = self._redactor.answer(headers, kept, error)
            record = Record(
                interception_id=call.id,
                provider=call.provider.name,
                dialect=call.dialect.name,
                request=request,
                status=ended.status,
                headers=headers,
                chunks=kept,
                started_at=started_at,
                round=call.round,
                model=call.model or None,
                head_s=head_s,
                duration_s=monotonic() - start,
                end=ended.end or "interrupted",
                error=error,
                redacted=tuple(sorted({*asked, *told})) if told else asked,
                replayed=ended.replayed,
                key_hint=ended.key_hint,
            )
            seen.record = record
            self._watchers.ended(seen)
            self._store.add(record)

        return reply.watch(keep, note)

    def sent(self, call: Call) -> tuple[Request, tuple[str, ...]]:
        """The request as it is sent; one that nobody changed on the way was seen to when it came."""
        received = call.received
        if received is None or received.request is not call.request:
            return self._as_sent(call, *self._redactor.request(call.request))
        key = (received, call.provider.name, call.target)
        sent = self._sent.get(key)
        if sent is None:
            sent = self._as_sent(call, received.kept, received.rules)
            if len(call.request.body) <= LARGEST_BYTES:
                self._sent.put(key, sent, OVERHEAD_BYTES + call.request.size_bytes)
        return sent

    def _as_sent(
        self, call: Call, kept: Request, rules: tuple[str, ...]
    ) -> tuple[Request, tuple[str, ...]]:
        if not call.provider.base_url:
            return kept, rules
        # The client's own address says nothing: a bridge has another port every time.
        url = call.provider.url(call.target)
        if kept.url != call.request.url:
            url = self._redactor.url(url)
        headers = kept.headers.without("host")
        return Request(kept.method, url, headers, kept.body, kept.caller), rules
