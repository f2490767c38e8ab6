"""The bridge: upstream, store, interceptors and frontends put together.

Parts that need a heavy package are imported by the method that uses them.
"""

import os
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import ExitStack, contextmanager
from socket import socket
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import anyio
import anyio.to_thread

from llmbridge.errors import BridgeError, ConfigurationError
from llmbridge.exchange.at_once import ask
from llmbridge.exchange.bodiless import BodilessStore
from llmbridge.exchange.breaker import CircuitBreaker
from llmbridge.exchange.budgets import Budget
from llmbridge.exchange.call import Handle, Handler, Interceptor, Request, chain
from llmbridge.exchange.framing import frame
from llmbridge.exchange.injection import Fault, Faults
from llmbridge.exchange.intake import Intake, shape
from llmbridge.exchange.keys import KeyPool
from llmbridge.exchange.log import LoggedBodies
from llmbridge.exchange.metering import Meter, rules_of
from llmbridge.exchange.options import check_kind
from llmbridge.exchange.own_origin import NotItself
from llmbridge.exchange.rate_limits import RateLimit
from llmbridge.exchange.record import Interception, Record, Store
from llmbridge.exchange.recorder import Recorder
from llmbridge.exchange.redact import Redactor
from llmbridge.exchange.retries import Retries
from llmbridge.exchange.rewrite import Change, Rewriter
from llmbridge.exchange.routing import Router
from llmbridge.exchange.secret_names import secrets_of
from llmbridge.exchange.stopping import Stops
from llmbridge.exchange.stream_usage import ask_for_usage
from llmbridge.exchange.toolbox import Gate, Toolbox, ToolLimits
from llmbridge.exchange.translate import translate
from llmbridge.exchange.watching import Watchers
from llmbridge.frontends.admission import LOOPBACK_HOSTS, host_names, token_for
from llmbridge.frontends.clients import Clients
from llmbridge.frontends.people import People, Person
from llmbridge.frontends.portal import Portal
from llmbridge.notebook.inspecting import Inspected
from llmbridge.providers import Provider, rows_with
from llmbridge.stores.opening import open_store
from llmbridge.tools.functions import Function, toolboxes
from llmbridge.tools.opening import tool_loop
from llmbridge.upstreams.live import Live
from llmbridge.upstreams.outgoing import clients_key_first
from llmbridge.upstreams.trust import check_trust

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from ssl import SSLContext

    from anyio.from_thread import BlockingPortal

    from llmbridge.certificates import Certificate
    from llmbridge.frames import Frames
    from llmbridge.frames.metrics import MeteredStore
    from llmbridge.frontends.asgi import ASGIApp
    from llmbridge.frontends.calliope import Calliope
    from llmbridge.frontends.server import Server
    from llmbridge.upstreams.replay import Changes, Replay


class Bridge(Clients, Inspected):
    """Stands between LLM clients and providers: relays, replays, records.

    `upstream` is where replies come from: `Live()` (default), `Replay(...)`, `Script(...)` or any handler. `store` keeps
    what happened: a `Store`, a path ending in `.yaml` or `.json`, a database's URL, or None for memory; without
    `record_bodies` what was said is left out. `interceptors` see each call, first one outermost; `faults` are injected
    below them all. `providers` adds rows to the table, `base_urls` moves a provider with its key, `routes` sends bare
    requests elsewhere by model, `passthrough` names further paths of a provider that a server passes on, such as
    `{"openai": ["/files/"]}`. `tools` (functions, toolboxes) are offered to models and run here, within `tool_limits`;
    `tool_gate` may refuse a call. A provider that is busy or away is asked again up to `retries` times, while its client
    has not got a byte; a `breaker` leaves one alone that fails again and again. A server answers to the names of
    `allowed_hosts`, too. `people` come in over HTTP with tokens of their own; `budgets` and `rate_limits` say how much
    they may take. `calliope` serves Calliope's routes, too. The environment is read here, once.

    Raises:
        ConfigurationError: a provider, URL, route or store that cannot be.
    """

    def __init__(  # noqa: PLR0913  # every part that can be put together, each by its name
        self,
        upstream: Handler | None = None,
        *,
        store: Store | str | os.PathLike[str] | None = None,
        record_bodies: bool = True,
        interceptors: Sequence[Interceptor] = (),
        faults: Sequence[Fault] = (),
        providers: Iterable[Provider] = (),
        base_urls: Mapping[str, str] | None = None,
        routes: Mapping[str, str] | None = None,
        passthrough: Mapping[str, Iterable[str]] | None = None,
        tools: Iterable[Function | Toolbox] = (),
        tool_gate: Gate | None = None,
        tool_limits: ToolLimits | None = None,
        retries: int = 0,
        breaker: CircuitBreaker | None = None,
        allowed_hosts: Iterable[str] = (),
        people: Iterable[Person] = (),
        budgets: Iterable[Budget] = (),
        rate_limits: Iterable[RateLimit] = (),
        calliope: "Calliope | None" = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        rows = rows_with(providers, base_urls or {}, environ, passthrough)
        check_trust(rows)
        if upstream is not None and not callable(upstream):
            raise ConfigurationError(
                f"{upstream!r} is no upstream: give Live(), Replay({upstream!r}), Script(...) or a handler"
            )
        # The last one answers; the others wait for what stands in for them to go.
        self._upstreams: list[Handler] = [Live() if upstream is None else upstream]
        self.store: Store = open_store(store)
        self._router = Router(rows, routes)
        self._allowed_hosts = host_names(allowed_hosts)
        self._people = People(people)
        keys = {key for row in rows for key in row.keys}
        redactor = Redactor(secrets_of(environ) | keys | getattr(self.store, "secrets", set[str]()))
        self._redactor = redactor
        self._equip(self.upstream)
        kept = self.store if record_bodies else BodilessStore(self.store)
        meter = Meter(kept, rules_of(budgets, rate_limits, self.store))
        watchers, stops = Watchers(), Stops(self._waits)
        recorder = Recorder(meter if meter.bounds else kept, redactor, watchers=watchers)
        self._faults = Faults(faults)
        self._rewriter = Rewriter()
        self._servers: list[Server] = []
        boxes = toolboxes(tools)
        self._portal = Portal(self._close_upstream)
        check_kind("breaker", breaker, CircuitBreaker)
        self._metrics = self._counting(breaker)
        pooled = any(len(row.keys) > 1 for row in rows)
        self._always_waits = bool(
            (interceptors or boxes or retries or pooled or meter.bounds or calliope)
            or not getattr(self.store, "at_once", False)
        )
        # What would never do anything is left out.
        interceptors = (
            stops,
            *((meter,) if meter.bounds else ()),
            translate,
            *interceptors,
            self._rewriter,
            *((tool_loop(boxes, tool_gate, tool_limits, self._portal),) if boxes else ()),
            # Recordings are asked as they were.
            *((ask_for_usage,) if meter.bounds and self._spends_keys else ()),
            *((breaker,) if breaker is not None else ()),
            *((Retries(retries),) if retries else ()),
            *((clients_key_first,) if getattr(self.upstream, "client_keys_first", False) else ()),
            *((KeyPool(),) if pooled else ()),
            LoggedBodies(redactor),
            recorder,
            NotItself(self._servers),
            frame,
            self._faults,
        )
        handler = chain(interceptors, lambda call: ask(self._upstreams[-1], call))
        self.handle = Intake(self._router, handler, kept, redactor, watchers=watchers)
        inflight = self.handle.inflight
        self._inspect(watchers, stops, recorder, redactor, self.store, inflight, self._portal)
        self._calliope = calliope
        self._entry: Handle = self.handle
        if calliope is not None:
            known, spends = self._router.providers, self._spends_keys
            self._entry = calliope.in_front_of(self.handle, known, spends_keys=spends)
        self._lead(
            self._entry, self._router.providers, self._portal_if_needed, self._close_upstream
        )
        self._mounted: ASGIApp | None = None
        self._closed = False

    def __repr__(self) -> str:
        urls = ", ".join(self._served())
        doing = ", closed" if self._closed else f", serving {urls}" if urls else ""
        return f"Bridge({self.upstream!r}, store={self.store!r}{doing})"

    def _repr_html_(self) -> str:
        from llmbridge.notebook.reprs import bridge_html

        return bridge_html(self.upstream, self.store, self._served(), self.inflight)

    @property
    def upstream(self) -> Handler:
        """Where replies come from now: what the bridge was made with, or the cassette that stands in for it."""
        return self._upstreams[-1]

    # What happened

    @property
    def records(self) -> Sequence[Record]:
        """Every exchange with an upstream so far, in order."""
        return self.store.records()

    @property
    def interceptions(self) -> Sequence[Interception]:
        """Everything clients asked so far, by start time."""
        return self.store.interceptions()

    @property
    def inflight(self) -> tuple[Interception, ...]:
        """What is under way now."""
        return tuple(self.handle.inflight.values())

    @property
    def providers(self) -> tuple[Provider, ...]:
        """The rows this bridge works with, keys and base URLs from the environment in them."""
        return tuple(self._router.providers.values())

    @property
    def frames(self) -> "Frames":
        """What happened, as pandas DataFrames."""
        from llmbridge.frames import Frames

        self.store.flush()
        return Frames(self.store)

    # What answers for a while

    @contextmanager
    def cassette(self, source: Any, **options: Unpack["Changes"]) -> "Generator[Replay]":
        """Answer from a cassette as long as the `with` block lasts: all clients of the bridge, in every thread and task.

        Of several such blocks the one entered last answers. `mode` is "once" here: without the file the upstream is asked
        and recorded, with it nobody is. The file is written when the block ends. The options are those of `Replay.load`.

        Raises:
            ConfigurationError: options that cannot be, or the bridge is closed.
            CassetteError: the cassette cannot be read, or written.
        """
        from llmbridge.upstreams.replay import Replay

        if self.handle.closed:
            raise ConfigurationError("the bridge is closed: make a new one")
        before = self.upstream
        mode = options.setdefault("mode", "once")
        replay = Replay(source, upstream=None if mode == "none" else before, **options)
        self._equip(replay)
        self._upstreams.append(replay)
        try:
            yield replay
        finally:
            self._upstreams.remove(replay)
            replay.settle()

    # What goes wrong

    def faults(self, *faults: Fault) -> "AbstractContextManager[None]":
        """Inject these, before those that the bridge was made with, as long as the `with` block lasts.

        Raises:
            ConfigurationError: something is no fault.
        """
        return self._faults.during(faults)

    # What is changed on the way

    def rewrite(self, change: Change) -> Change:
        """Change each request before it leaves, after those changes that are there: `@bridge.rewrite`.

        `change(body, call)` takes the decoded JSON body and changes it in place, or returns another. It sees the
        provider's dialect, below the interceptors. `llmbridge.exchange.rewrite` has ready ones.
        One that is no function, or an async one, is a `ConfigurationError`.
        """
        self._rewriter.add(change)
        return change

    # Ways in

    @property
    def asgi(self) -> "ASGIApp":
        """The bridge as an ASGI app, to mount in FastAPI or Starlette at any prefix; see `asgi_app`.

        It answers to loopback Host names and to the bridge's `allowed_hosts`. Its `token` is what clients must send, None
        when no key could be spent.
        """
        if self._mounted is None:
            self._mounted = self.asgi_app()
        return self._mounted

    def asgi_app(
        self,
        *,
        token: str | Literal["auto"] | None = "auto",
        allowed_origins: Collection[str] = (),
        max_in_flight: int = 512,
    ) -> "ASGIApp":
        """An ASGI app with rules of its own; they mean what they mean for `serve`.

        Say `token=None` where the app around it decides who may come in; that may call it within `actor(...)`, too.
        """
        return self._app(token, self._allowed_hosts, allowed_origins, max_in_flight)

    def serve(  # noqa: PLR0913  # who may come in, and where
        self,
        host: str = "127.0.0.1",
        port: int | socket = 0,
        *,
        token: str | Literal["auto"] | None = "auto",
        allow_remote: bool = False,
        allowed_origins: Collection[str] = (),
        max_in_flight: int = 512,
        tls: "Certificate | SSLContext | None" = None,
        start: bool = True,
    ) -> "Server":
        """Serve over HTTP from a background thread; ready when it returns, stopped by `with` or `stop()`.

        `port` 0 takes a free one; it may be a socket that listens already. `token` "auto" makes a random one when a
        provider's key could be spent; None must be said. Beyond loopback `allow_remote=True` and a token are needed. Web
        pages of `allowed_origins` may call, and no others. More than `max_in_flight` calls at once get 503. With `tls`, a
        certificate's file or two, it speaks HTTPS. With `start=False` it waits for `start()`.

        Raises:
            ConfigurationError: the address cannot be served, or is not safe to serve.
        """
        from llmbridge.frontends.server import Server

        if self._closed:
            raise ConfigurationError("the bridge is closed: make a new one")
        hosts: Collection[str] | None = (host, *self._allowed_hosts)
        if host in ("0.0.0.0", "::") and not self._allowed_hosts:
            # Served under names that are not known here; the token keeps strange pages out.
            hosts = None
        app = self._app(token, hosts, allowed_origins, max_in_flight)
        portal = self._portal.open()
        server = Server(app, portal, host=host, port=port, allow_remote=allow_remote, tls=tls)
        self._servers.append(server)
        return server.start() if start else server

    # The end

    def flush(self) -> None:
        """Return when everything so far is in the store, and in the cassette of a replay that records."""
        self._upstream_part("flush")
        self.store.flush()

    def close(self) -> None:
        """Stop serving, let go of connections and threads, close the store. Twice is fine."""
        self._closed = self.handle.closed = True
        for server in tuple(self._servers):
            server.stop()
        # Last one first, each of them also where one before has failed.
        with ExitStack() as ending:
            ending.callback(self.store.close)
            ending.callback(self._upstream_part, "settle")
            ending.callback(self._look_away)
            ending.callback(self._portal.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        # Whoever is cancelled has a bridge to close, too.
        with anyio.CancelScope(shield=True):
            try:
                await self._close_upstream()
            finally:
                # Closing waits for the bridge's own thread.
                await anyio.to_thread.run_sync(self.close)

    # Inner workings

    def _portal_if_needed(self) -> "BlockingPortal | None":
        """Where sync clients are served; None while every call can be answered at once, in the client's thread."""
        return self._portal.open() if self._waits() else None

    def _waits(self) -> bool:
        """False while every call can be answered without waiting for anything."""
        at_once = not self._faults.armed and getattr(self._upstreams[-1], "at_once", False)
        return self._always_waits or not at_once

    def _served(self) -> list[str]:
        return [server.url for server in self._servers if server.running]

    @property
    def _spends_keys(self) -> bool:
        return bool(getattr(self.upstream, "spends_keys", True))

    def _encode_error(self, request: Request, error: BridgeError) -> bytes:
        own = self._calliope and self._calliope.error_body(error, request.path)
        return own or shape(request, self._router.destination(request)).encode_error(error)

    def _app(
        self,
        token: str | None,
        hosts: Collection[str] | None,
        origins: Collection[str],
        max_in_flight: int,
    ) -> "ASGIApp":
        from llmbridge.frontends.asgi import ASGIApp, Limits

        self._upstream_part("prepare")
        return ASGIApp(
            self._entry,
            self._encode_error,
            token=token_for(token, spends_keys=self._spends_keys, people=self._people),
            allowed_hosts=None if hosts is None else {*LOOPBACK_HOSTS, *hosts},
            allowed_origins=origins,
            people=self._people,
            limits=Limits(in_flight=max_in_flight),
            metrics=self._metrics,
            waits=self._waits,
        )

    def _equip(self, upstream: Handler) -> None:
        """Give an upstream what the bridge has, where it wants it."""
        equip: Callable[..., None] | None = getattr(upstream, "equip", None)
        if equip is not None:
            equip(self._redactor, Live)

    def _counting(self, breaker: CircuitBreaker | None) -> Callable[[], bytes] | None:
        """What a store that counts has to tell, with what becomes of the breaker's circuits."""
        metered: MeteredStore | None = getattr(self.store, "metrics", None)
        if metered is None:
            return None
        if breaker is not None:
            metered.watch(breaker)
        return metered.render_metrics

    def _upstream_part(self, name: str) -> None:
        """Call what the upstreams that keep something have under this name."""
        for upstream in self._upstreams:
            part: Callable[[], None] = getattr(upstream, name, lambda: None)
            part()

    async def _close_upstream(self) -> None:
        close: Callable[[], Awaitable[None]] | None = getattr(self.upstream, "aclose", None)
        if close is not None:
            await close()
