"""One call and its reply: what a frontend hands in, what an upstream gives back, and the chain between."""

from asyncio import CancelledError
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from functools import reduce
from typing import cast, get_args

from llmbridge.canon.quick import quick
from llmbridge.errors import BridgeError, End, Stopped
from llmbridge.exchange.stop import STOPPED, Stop
from llmbridge.exchange.toolbox import ToolRun
from llmbridge.providers import Provider
from llmbridge.wire.dialect import Dialect


class Headers(Mapping[str, str]):
    """HTTP fields in order; names compare without case, repeated ones read as one joined by commas."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] | Mapping[str, str] = ()) -> None:
        if isinstance(pairs, Mapping):
            # A mapping is an iterable too, and could be one of pairs.
            pairs = cast(Mapping[str, str], pairs).items()
        self.pairs = tuple(pairs)

    def __getitem__(self, name: str) -> str:
        found = [value for key, value in self.pairs if key.lower() == name.lower()]
        if not found:
            raise KeyError(name)
        return ", ".join(found)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key.lower() for key, _ in self.pairs))

    def __len__(self) -> int:
        return len({key.lower() for key, _ in self.pairs})

    @property
    def size_bytes(self) -> int:
        """About how much it is."""
        return sum(len(name) + len(value) for name, value in self.pairs)

    def without(self, *names: str) -> "Headers":
        """The same fields but for these; names in lower case."""
        return Headers(pair for pair in self.pairs if pair[0].lower() not in names)

    def __repr__(self) -> str:
        return f"Headers({list(self.pairs)!r})"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as known when the request came in; `keyed` where a key or token came along.

    `metadata` is what else is known of the actor.
    """

    frontend: str = "direct"
    actor: str | None = None
    client: str | None = None
    session_id: str | None = None
    keyed: bool = field(default=False, compare=False)
    # A mapping proxy could neither be copied nor, before Python 3.12, be a default.
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@quick
@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request; `url` is absolute. `arrived_s` is when all of it was here, by `time.monotonic`, where that is known."""

    method: str
    url: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    caller: Caller = Caller()
    arrived_s: float | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        # Headers may hold keys.
        return f"Request({self.method} {self.url.partition('?')[0]}, {len(self.body):,} bytes)"

    @property
    def size_bytes(self) -> int:
        """About how much it is."""
        return len(self.url) + self.headers.size_bytes + len(self.body)

    @property
    def path(self) -> str:
        """The path as sent, without the query."""
        return self.target.partition("?")[0]

    @property
    def target(self) -> str:
        """Path and query as sent."""
        rest = self.url.partition("://")[2] or self.url
        return "/" + rest.partition("/")[2].partition("#")[0]

    @property
    def host(self) -> str:
        """`HOST` or `HOST:PORT` in lower case; empty where there is none."""
        authority = self.url.partition("://")[2].partition("/")[0]
        return authority.partition("?")[0].rpartition("@")[2].lower()


@dataclass(frozen=True, slots=True, eq=False)
class Received:
    """A request as it came, the same without secrets, and the rules that took them out.

    Requests that are equal share one, so that what follows from it has to be found once.
    """

    request: Request
    kept: Request
    rules: tuple[str, ...] = ()


@quick
@dataclass(frozen=True, slots=True)
class Call:
    """A request on its way: who speaks, how it is spelled, and where below the provider's base URL it goes.

    `dialect` is the provider's; `client_dialect` is the client's where it is another one, and the answer must be
    translated. `round` counts the times an upstream is asked. `arrived_s` is the request's own. `faults` collects what is
    injected on the way, `tool_runs` the tools that were run for the answer; `replace` hands on the same lists.
    """

    id: str
    request: Request
    provider: Provider
    dialect: Dialect
    target: str
    model: str = ""
    streaming: bool = False
    received: Received | None = None
    client_dialect: Dialect | None = None
    round: int = 0
    arrived_s: float | None = field(default=None, compare=False)
    faults: list[str] = field(default_factory=list[str], compare=False)
    tool_runs: list[ToolRun] = field(default_factory=list[ToolRun], compare=False)

    def anew(self, id: str, arrived_s: float | None) -> "Call":
        """The same call for one more client; nothing has happened to it yet."""
        return Call(
            id,
            self.request,
            self.provider,
            self.dialect,
            self.target,
            self.model,
            self.streaming,
            self.received,
            self.client_dialect,
            self.round,
            arrived_s,
        )

    def __repr__(self) -> str:
        what = f"{self.provider.name} {self.dialect.name} {self.model!r}"
        return f"Call({self.id}: {what}, {'stream' if self.streaming else 'block'})"


@dataclass(frozen=True, slots=True)
class Whole:
    """All pieces of an answer, few and small, and how it ends: nothing can come between."""

    pieces: tuple[bytes, ...]
    end: End | None


class Reply:
    """Status, headers and the bytes to come. Iterate once; close with the reason when you stop early.

    `end` is None while bytes of the source may still come. `replayed` says that the bytes are a recording: nothing may be
    added. `at_once` says that no piece has to be waited for, `framed` that somebody has seen to it that a stream ends with
    its last event, `vetted_by` which redactor knows that there is no secret in it. `farewell` gives the bytes that may end
    the stream here with an error, none inside an event. `stop` is who may end it from outside. `key_hint` tells, masked,
    which key the provider was asked with. `ping` gives the bytes that may break a silence between two events. `settled` is
    the end once it is certain, although bytes may still come: a client that leaves after the last event has missed nothing.
    `whole` is all that is going to come, where that is certain, until some of it is read.
    """

    __slots__ = (
        "_chunks",
        "_on_end",
        "_see",
        "_source",
        "_told",
        "_wish",
        "at_once",
        "end",
        "error",
        "farewell",
        "framed",
        "headers",
        "key_hint",
        "ping",
        "replayed",
        "settled",
        "status",
        "stop",
        "vetted_by",
        "whole",
    )

    def __init__(
        self,
        status: int,
        headers: Headers,
        chunks: AsyncIterator[bytes],
        *,
        source: "Reply | None" = None,
        on_end: Callable[["Reply"], None] | None = None,
        replayed: bool = False,
        at_once: bool = False,
    ) -> None:
        self.status = status
        self.headers = headers
        self.end: End | None = None
        self.error: BridgeError | None = None
        self.settled: End | None = None
        self.replayed = replayed
        self.at_once = at_once
        self.framed = False
        self.vetted_by: object = None
        self.farewell: Callable[[BridgeError], bytes] = no_farewell
        self.key_hint: str | None = None
        self.ping: Callable[[], bytes] = no_ping
        if source is not None:
            self.replayed = replayed or source.replayed
            self.farewell, self.key_hint, self.ping = source.farewell, source.key_hint, source.ping
        self._chunks = chunks
        self._source = source
        self._see: tuple[Callable[[bytes], object], ...] = ()
        self._on_end: tuple[Callable[[Reply], None], ...] = () if on_end is None else (on_end,)
        self._told = False
        self._wish: End | None = None
        self.stop: Stop | None = None
        self.whole: Whole | None = None

    def watch(
        self,
        on_end: Callable[["Reply"], None],
        see: Callable[[bytes], object] | None = None,
        *,
        farewell: bool = False,
    ) -> "Reply":
        """This very reply: `see` is shown each chunk as it passes, `on_end` runs once, when `end` is known.

        With `farewell` a failure ends the bytes with what the reply says last, where it has something to say.
        """
        self._on_end += (on_end,)
        if see is not None:
            self._see += (see,)
        self._told = self._told or farewell
        return self

    def through(
        self,
        transform: Callable[["Reply"], AsyncIterator[bytes]],
        on_end: Callable[["Reply"], None] | None = None,
        *,
        prompt: bool = False,
    ) -> "Reply":
        """This reply with its bytes passed through `transform`; `on_end` runs once, when `end` is known.

        A `prompt` transform waits for nothing but the reply.
        """
        at_once = prompt and self.at_once
        chunks = transform(self)
        return Reply(self.status, self.headers, chunks, source=self, on_end=on_end, at_once=at_once)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.whole = None
        stop = self.stop
        if stop is not None and not stop.enter():
            return await self._stopped()
        try:
            chunk = await self._chunks.__anext__()
        except CancelledError as reason:
            if stop is not None and stop.came():
                return await self._stopped()
            self._hear(end_told(reason) or "client_gone")
            raise
        except StopAsyncIteration:
            self._finish(self._sources_end("completed" if self.status < 400 else "upstream_error"))
            raise
        except BridgeError as error:
            self.error = error
            last_words = self.farewell(error) if self._told else b""
            self._finish(error.end)
            if not last_words:
                raise
            self._chunks = once(b"")
            return last_words
        except Exception:
            self._finish("interrupted")
            raise
        if stop is not None:
            stop.leave()
        for see in self._see:
            see(chunk)
        return chunk

    def take(self) -> bytes | None:
        """All bytes at one go and the end with them, in place of iterating; None where they have to be read.

        What was iterated or closed before is not taken any more.
        """
        whole = self.whole
        if whole is None:
            return None
        for piece in whole.pieces:
            for see in self._see:
                see(piece)
        self.settled, self._chunks = self.settled or whole.end, once(b"")
        self._finish("completed" if self.status < 400 else "upstream_error")
        return b"".join(whole.pieces)

    async def _stopped(self) -> bytes:
        """End where somebody outside wanted it, with what the reply says last."""
        self.stop, self.error = None, Stopped(STOPPED)
        last_words = self.farewell(self.error) if self._told else b""
        await self.aclose(self.error.end)
        if not last_words:
            raise self.error
        self._chunks = once(b"")
        return last_words

    def follow(self, source: "Reply | None") -> None:
        """The bytes come from this reply now; from None while there is none."""
        self._source = source

    def raise_loud(self) -> None:
        """Raise what no client may take for an answer, and end there; frontends in the client's own process call this.

        Raises:
            BaseException: the `loud` one of the error that this reply tells.
        """
        told = self
        while told._source is not None:
            told = told._source
        if told.error is not None and told.error.loud is not None:
            self._finish(told.error.end)
            raise told.error.loud(told.error.message) from told.error

    async def aclose(self, end: End | None = None) -> None:
        """Stop here. The reason travels down to the upstream; a reply that has ended keeps its own.

        Without one it is that of whoever reads this reply and was stopped itself, or else that the client left. A client
        that leaves an error unread has missed nothing: the status has said how it ended.
        """
        end = end or self._wish or "client_gone"
        self._hear(end)
        if end == "client_gone" and self.status >= 400:
            end = "upstream_error"
        try:
            close = getattr(self._chunks, "aclose", None)
            if close is not None:
                await close()
            if self._source is not None:
                await self._source.aclose(end)
        finally:
            self._finish(self._sources_end(end))

    def _hear(self, wish: End) -> None:
        """Note why this is going to end, also below: what reads those there may close them before we do."""
        reply: Reply | None = self
        while reply is not None and reply._wish is None:
            reply._wish = wish
            reply = reply._source

    def _sources_end(self, otherwise: End) -> End:
        return (self._source and self._source.end) or otherwise

    def _finish(self, end: End) -> None:
        if self.end is not None:
            return
        self.whole = None
        if self._source is not None:
            self.settled = self.settled or self._source.settled
            self.error = self.error or self._source.error
        # Of a whole answer it is certain once the last piece was taken.
        self.settled = self.settled or getattr(self._chunks, "settled", None)
        self.end = self.settled or end
        told = iter(self._on_end)
        try:
            for on_end in told:
                on_end(self)
        finally:
            # One that fails leaves the others to be told.
            for on_end in told:
                on_end(self)


Handle = Callable[[Request], Awaitable[Reply]]
Handler = Callable[[Call], Awaitable[Reply]]
Interceptor = Callable[[Call, Handler], Awaitable[Reply]]


def end_told(cancelled: BaseException) -> End | None:
    """The end that a cancellation is: frontends cancel with it, and so does `Stop`."""
    told: End
    for told in get_args(End):
        if told in cancelled.args:
            return told
    return None


def no_farewell(error: BridgeError) -> bytes:
    """Nothing may be added to these bytes."""
    return b""


def no_ping() -> bytes:
    """These bytes are never interrupted."""
    return b""


async def once(body: bytes) -> AsyncIterator[bytes]:
    """A body that is there already, as a stream of one chunk."""
    if body:
        yield body


def chain(interceptors: Sequence[Interceptor], upstream: Handler) -> Handler:
    """One handler: the first interceptor outermost, the upstream innermost.

    An interceptor that has nothing to do may hand back what `forward` gives, not awaited: then it costs next to nothing.
    """

    def wrap(forward: Handler, interceptor: Interceptor) -> Handler:
        return lambda call: interceptor(call, forward)

    return reduce(wrap, reversed(interceptors), upstream)
