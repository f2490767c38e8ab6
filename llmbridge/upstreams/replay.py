"""Recordings as a provider: the same bytes in the same pieces, at the recorded pace when asked, and new ones made."""

from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Sequence,
)
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic as system_monotonic
from typing import Any, Literal, TypedDict, Unpack, get_args

import anyio
import anyio.to_thread

from llmbridge.errors import (
    CassetteMiss,
    CassetteMissed,
    ConfigurationError,
    StreamTruncated,
)
from llmbridge.exchange.at_once import enter_task
from llmbridge.exchange.call import Call, Handler, Received, Reply, chain
from llmbridge.exchange.framing import frame
from llmbridge.exchange.matching import Asked, Match, Matcher
from llmbridge.exchange.record import Record
from llmbridge.exchange.recorder import Clock, Recorder, utc_now
from llmbridge.exchange.redact import Redactor
from llmbridge.exchange.remembered import LARGEST_BYTES, OVERHEAD_BYTES, Remembered
from llmbridge.exchange.routing import Destination
from llmbridge.upstreams.drift import Drift, compare
from llmbridge.upstreams.expiry import OnExpired, check_age
from llmbridge.upstreams.keeping import Keeper
from llmbridge.upstreams.missing import Miss, explain
from llmbridge.upstreams.pace import Pace
from llmbridge.upstreams.ready import Ready, as_it_is, broken_by, joined, looked_through
from llmbridge.upstreams.recordings import Recordings, Repeat, unasked
from llmbridge.upstreams.source import Mode, named, open_source

Question = tuple[Asked, Sequence[str]]
"""A call as it may be shown, and the keys of what may answer it."""

OnMiss = Literal["reply", "raise"]
"""A miss is answered with status 400; in process `CassetteMissed` may be raised instead."""

_session: ContextVar[str | None] = ContextVar("llmbridge_session", default=None)


class Changes(TypedDict, total=False):
    """What `Replay.load` may change."""

    speed: float
    mode: Mode
    strict: bool
    repeat: Repeat | None
    match: Match
    ignore: Iterable[str]
    normalize: Callable[[Any], Any] | None
    on_miss: OnMiss
    ttft: float | None
    tps: float | None
    jitter: int | None
    max_age: timedelta | None
    on_expired: OnExpired


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """The options of a replay."""

    speed: float
    mode: Mode
    strict: bool
    repeat: Repeat | None
    match: Match
    ignore: Iterable[str]
    normalize: Callable[[Any], Any] | None
    on_miss: OnMiss
    ttft: float | None
    tps: float | None
    jitter: int | None
    max_age: timedelta | None
    on_expired: OnExpired

    def __post_init__(self) -> None:
        for name, value, words in (
            ("mode", self.mode, get_args(Mode)),
            ("repeat", self.repeats, get_args(Repeat)),
            ("on_miss", self.on_miss, get_args(OnMiss)),
            ("on_expired", self.on_expired, get_args(OnExpired)),
        ):
            if value not in words:
                raise ConfigurationError(f"{name}={value!r}: give one of {', '.join(words)}")

    @property
    def repeats(self) -> Repeat:
        # What is played to its end is asked anew where that is allowed.
        refuses = self.strict or self.mode == "new_episodes"
        return self.repeat or ("error" if refuses else "last")


class _Loaded:
    """What one cassette holds, and what has become of it."""

    def __init__(self, source: Any, options: _Options, clock: Clock) -> None:
        self.options = options
        self.pace = Pace(options.speed, options.ttft, options.tps, options.jitter)
        self.at_once = options.mode == "none" and self.pace.at_once
        self._matcher = Matcher(options.match, options.ignore, options.normalize)
        opened = open_source(source, options.mode)
        self.store = opened.store
        self.recordings = Recordings(opened.records, self._matcher, options.repeats)
        check_age(self.recordings.all, options.max_age, options.on_expired, clock(), named(source))
        # A server may run, and be asked in vain, for days.
        self._questions = Remembered[Question]()
        self._ready: dict[tuple[int, str, bool, str], Ready] = {}
        self.misses: deque[Miss] = deque(maxlen=1000)
        self.differences: list[Drift] = []
        self.keeper: Keeper | None = None
        if opened.writable is not None:
            retries_apart = options.mode in ("once", "new_episodes")
            self.keeper = Keeper(opened.writable, self.recordings.key, retries_apart=retries_apart)

    async def ready(self, record: Record, call: Call, redactor: Redactor) -> Ready:
        """The recording made ready to be played."""
        key = (id(record), call.dialect.name, call.streaming, call.request.caller.frontend)
        ready = self._ready.get(key)
        if ready is None:
            ready = self._ready[key] = as_it_is(record, self.pace, call)
        elif not ready.known:
            # Most answer once, and are only looked at as they pass.
            ready = self._ready[key] = await looked_through(ready, record, call, redactor)
        return ready

    def question(self, call: Call) -> Question:
        """The call as it may be shown, and the keys of what may answer it."""
        where = Destination(call.provider, call.dialect, call.target)
        received = call.received
        if received is None or received.request is not call.request:
            asked = self._matcher.asked(call.request, where)
            return asked, (asked.key, unasked(call.dialect.name))
        key = (received, call.dialect.name, call.target)
        question = self._questions.get(key)
        if question is None:
            question = self._question(call, received, where)
            # What a function of the user's makes of a body may be another thing each time.
            if self.options.normalize is None and len(call.request.body) <= LARGEST_BYTES:
                self._questions.put(key, question, OVERHEAD_BYTES + 8 * call.request.size_bytes)
        return question

    def _question(self, call: Call, received: Received, where: Destination) -> Question:
        by_dialect = unasked(call.dialect.name)
        kept = received.kept
        clean = kept.body is call.request.body and kept.url is call.request.url
        asked = self._matcher.asked(call.request, where, redacted=clean)
        if clean:
            return asked, (asked.key, by_dialect)
        # Secrets that only this environment knows stand redacted in what was recorded here.
        shown = self._matcher.asked(kept, where)
        return shown, (asked.key, shown.key, by_dialect)


class Replay:
    """An upstream that answers from recordings: a path, several, a folder, a `Cassette`, or any `Store`.

    Requests match by dialect, operation and canonical body, never by host; `match`, `ignore` and `normalize` are for
    other rules (see `Matcher`). Recordings of one request are served in the order they were made; after the last one a
    `strict` replay refuses, another repeats it, and `repeat` says which. Recordings that kept no request answer their
    dialect in order. `speed`, `ttft`, `tps` and `jitter` set the pace (see `Pace`). Recordings older than `max_age` bring a
    `RecordingsExpired` warning, or with `on_expired="fail"` a `CassetteError`.

    `mode` says when `upstream` (default `Live()`) is asked, and recorded: `none` never; `once` where there was no file;
    `new_episodes` where no recording answers; `all` always; `rewrite` always, in place of the old file; `live` always,
    without a recording; `verify` as well, and `differences` tells how its answers differ in shape.

    Raises:
        ConfigurationError: options that cannot be.
        CassetteError: a recording cannot be read.
    """

    def __init__(  # noqa: PLR0913  # every option of a replay, each by its name
        self,
        source: Any,
        *,
        speed: float = 0,
        mode: Mode = "none",
        upstream: Handler | None = None,
        strict: bool = True,
        repeat: Repeat | None = None,
        match: Match = "default",
        ignore: Iterable[str] = (),
        normalize: Callable[[Any], Any] | None = None,
        on_miss: OnMiss = "reply",
        ttft: float | None = None,
        tps: float | None = None,
        jitter: int | None = None,
        max_age: timedelta | None = None,
        on_expired: OnExpired = "warn",
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = system_monotonic,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        self._options = _Options(
            speed=speed,
            mode=mode,
            strict=strict,
            repeat=repeat,
            match=match,
            ignore=ignore,
            normalize=normalize,
            on_miss=on_miss,
            ttft=ttft,
            tps=tps,
            jitter=jitter,
            max_age=max_age,
            on_expired=on_expired,
        )
        if upstream is not None and not callable(upstream):
            raise ConfigurationError(
                f"upstream={upstream!r} is no upstream: give Live(), Script(...) or a handler"
            )
        self._may_ask = mode != "none" or upstream is not None
        self._upstream = upstream
        self._redactor = Redactor()
        self._monotonic = monotonic
        self._sleep = sleep
        self._clock = clock
        self._loaded = _Loaded(source, self._options, clock)

    def __repr__(self) -> str:
        options, count = self._loaded.options, len(self._loaded.recordings.all)
        return f"Replay({count} recordings, mode={options.mode!r}, speed={options.speed:g})"

    # What happened

    @property
    def store(self) -> Iterable[Record]:
        """What is read, and written in the modes that record."""
        return self._loaded.store

    @property
    def played(self) -> list[Record]:
        """The recordings that answered, in order; one that answered twice is there twice."""
        return list(self._loaded.recordings.played)

    @property
    def unused(self) -> list[Record]:
        """The recordings that answered nothing."""
        return self._loaded.recordings.unused

    @property
    def recorded(self) -> list[Record]:
        """What was recorded since the cassette was loaded."""
        return [] if self._loaded.keeper is None else list(self._loaded.keeper.recorded)

    @property
    def misses(self) -> list[Miss]:
        """What no recording answered, also where the client did not care; of very many, the last."""
        return list(self._loaded.misses)

    @property
    def differences(self) -> list[Drift]:
        """In mode `verify`: how the shape of today's answers differs from the recordings."""
        return list(self._loaded.differences)

    @property
    def spends_keys(self) -> bool:
        """True when a provider's key could be spent, now or after `load`."""
        return self._may_ask and bool(getattr(self._upstream, "spends_keys", True))

    @property
    def at_once(self) -> bool:
        """True when no answer has to be waited for."""
        return self._loaded.at_once

    # What is replayed, and for whom

    def load(self, source: Any, **changes: Unpack[Changes]) -> None:
        """Go on with another cassette, what happened so far forgotten; options not given are as the replay was made.

        Calls under way end with the cassette they began with.

        Raises:
            ConfigurationError: options that cannot be; or this replay, made without an upstream, is to ask one.
            CassetteError: a recording cannot be read, or the last one not be written.
        """
        options = replace(self._options, **changes)
        if options.mode != "none" and not self._may_ask:
            raise ConfigurationError(
                f"mode={options.mode!r} asks an upstream, and this replay was made without:"
                " Replay(..., upstream=Live()), so that servers know whether they need a token"
            )
        loaded = _Loaded(source, options, self._clock)
        last, self._loaded = self._loaded, loaded
        if last.keeper is not None:
            last.keeper.settle()

    @contextmanager
    def session(self, name: str) -> Generator[None]:
        """Within it, calls of this thread or task play the recordings from the first on, apart from everybody else's.

        Clients of a server say which session they belong to with the header `x-llmbridge-session`.
        """
        self._loaded.recordings.rewind(name)
        token = _session.set(name)
        try:
            yield
        finally:
            _session.reset(token)

    # Answering

    async def __call__(self, call: Call) -> Reply:
        """The recording that answers this call, or in a mode that asks, what the upstream answers.

        Raises:
            CassetteMiss: no recording answers, or none is left.
        """
        arrived = call.arrived_s or self._monotonic()
        loaded = self._loaded
        if not loaded.at_once:
            await enter_task()
        session = _session.get() or call.request.caller.session_id
        asked, keys = loaded.question(call)
        record = loaded.recordings.next(keys, call.provider.name, session)
        if record is None:
            return await self._without(loaded, call, asked, keys, session)
        if loaded.options.mode == "verify":
            drift = await compare(call, record, self._upstream_or_default())
            loaded.differences += [drift] if drift else []
        ready = await loaded.ready(record, call, self._redactor)
        if ready.whole is not None:
            return ready.at_one_go(ready.whole)
        if ready.due is not None:
            await self._reach(arrived + ready.due[0])
        return ready.reply(self._play(record, ready, arrived))

    async def _without(
        self,
        loaded: _Loaded,
        call: Call,
        asked: Asked,
        keys: Sequence[str],
        session: str | None,
    ) -> Reply:
        """What happens where no recording answers."""
        if loaded.options.mode == "live":
            return await self._upstream_or_default()(call)
        if loaded.keeper is not None:
            recorder = Recorder(loaded.keeper, self._redactor)
            return await chain((recorder, frame), self._upstream_or_default())(call)
        miss = explain(call, asked, keys, loaded.recordings, session)
        loaded.misses.append(miss)
        error = CassetteMiss(miss.message)
        if loaded.options.on_miss == "raise":
            error.loud = CassetteMissed
        raise error

    async def _play(self, record: Record, ready: Ready, arrived: float) -> AsyncIterator[bytes]:
        pieces = joined(ready.pieces) if ready.joined else ready.pieces
        for place, chunk in enumerate(pieces):
            if ready.due is not None:
                await self._reach(arrived + ready.due[1][place])
            yield chunk
        if reason := broken_by(record):
            raise StreamTruncated(f"the recording breaks off here: {reason}")

    async def _reach(self, deadline: float) -> None:
        # Absolute deadlines: lateness does not add up.
        wait = deadline - self._monotonic()
        if wait > 0:
            await self._sleep(wait)

    # The bridge's part, and the end

    def equip(self, redactor: Redactor, default_upstream: Callable[[], Handler]) -> None:
        """Take what the bridge has: the secrets to keep out of cassettes, and the upstream where none was given."""
        self._redactor = redactor
        if self._upstream is None and self._may_ask:
            self._upstream = default_upstream()

    def prepare(self) -> None:
        """Let the upstream load what it needs, where it may be asked."""
        if self._loaded.options.mode != "none":
            prepare: Callable[[], None] = getattr(self._upstream, "prepare", lambda: None)
            prepare()

    def flush(self) -> None:
        """Return when everything recorded so far is in the file.

        Raises:
            CassetteError: it cannot be written.
        """
        if self._loaded.keeper is not None:
            self._loaded.keeper.flush()

    def settle(self) -> None:
        """Flush, and more: failures that no retry made good are kept now.

        Raises:
            CassetteError: it cannot be written.
        """
        if self._loaded.keeper is not None:
            self._loaded.keeper.settle()

    async def aclose(self) -> None:
        """Flush, and close what the upstream keeps on this event loop."""
        if self._loaded.keeper is not None:
            await anyio.to_thread.run_sync(self.flush)
        close: Callable[[], Awaitable[None]] | None = getattr(self._upstream, "aclose", None)
        if close is not None:
            await close()

    def _upstream_or_default(self) -> Handler:
        if self._upstream is None:
            raise ConfigurationError(
                f"mode={self._loaded.options.mode!r} needs an upstream: give Replay(..., upstream=Live())"
            )
        return self._upstream
