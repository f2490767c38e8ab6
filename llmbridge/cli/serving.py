"""`llmbridge serve`: a bridge on a port until a signal comes."""

import gc
import logging
import signal
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from types import FrameType
from typing import cast

import typer

from llmbridge.bridge import Bridge
from llmbridge.cli.log import LoggedStore
from llmbridge.errors import BridgeError, ConfigurationError
from llmbridge.frontends.server import Server
from llmbridge.providers import Provider
from llmbridge.stores.memory import MemoryStore
from llmbridge.stores.opening import open_store
from llmbridge.upstreams.replay import Replay
from llmbridge.upstreams.source import Mode

MEMORY_BYTES = 256 * 2**20
"""What `--store memory` keeps; the oldest goes first."""
TOKEN_VARIABLE = "LLMBRIDGE_TOKEN"
FLUSH_S = 5.0
"""How long a call may wait to be written to a file."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of `llmbridge serve`, as given."""

    host: str = "127.0.0.1"
    port: int = 0
    token: str = "auto"
    no_token: bool = False
    replay: tuple[str, ...] = ()
    mode: str | None = None
    record: str | None = None
    speed: float | None = None
    store: str = "memory"
    upstreams: tuple[str, ...] = ()
    allow_remote: bool = False

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            ConfigurationError: two options that exclude each other.
        """
        if self.no_token and self.token != "auto":
            raise ConfigurationError(
                f"--token (or {TOKEN_VARIABLE}) and --no-token contradict each other: give one of them"
            )
        if self.record and (self.replay or self.mode):
            raise ConfigurationError(
                "--record PATH is --replay PATH --mode all: give the one or the other"
            )
        if self.replay and self.upstreams and self.mode in (None, "none"):
            raise ConfigurationError(
                "--replay asks no provider, so --upstream would do nothing: give one of them, or a --mode"
            )
        for option, value in (("--speed", self.speed), ("--mode", self.mode)):
            if value is not None and not self.replay:
                raise ConfigurationError(f"{option} is for a replay: give --replay PATH with it")


def serve_until_stopped(plan: Plan) -> None:
    """Serve as planned; returns after SIGINT or SIGTERM, when open replies have ended.

    Raises:
        ConfigurationError: options that cannot be, or an address that cannot be served.
        CassetteError: a recording cannot be read.
    """
    plan.check()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    upstream, base_urls = _replay(plan), _base_urls(plan.upstreams)
    store = MemoryStore(MEMORY_BYTES) if plan.store == "memory" else open_store(plan.store)
    bridge = Bridge(upstream, store=LoggedStore(store, _say), base_urls=base_urls)
    stop = _stopped_by_signals()
    with _refusals_logged(), _collecting_rarely(), bridge:
        token = None if plan.no_token else plan.token
        server = bridge.serve(plan.host, plan.port, token=token, allow_remote=plan.allow_remote)
        _say(_directions(server, made=plan.token == "auto"))
        if server.token or plan.no_token:
            _say(_keys(bridge.providers))
        typer.echo(f"llmbridge listening on {server.url}")
        while not stop.wait(FLUSH_S):
            _flush(bridge)


@contextmanager
def _refusals_logged() -> Generator[None]:
    """Who is turned away at the door makes no interception, and so no line of the log's own."""
    logger = logging.getLogger("llmbridge.server")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _collecting_rarely() -> Generator[None]:
    """What is recorded stays: walking it again and again took a fifth of the time of a call."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _stopped_by_signals() -> Event:
    """Set by the first signal; the second one ends the process as usual."""
    stop = Event()

    def handle(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return stop


def _replay(plan: Plan) -> Replay | None:
    if plan.record:
        return Replay(plan.record, mode="all")
    if not plan.replay:
        return None
    mode = cast(Mode, plan.mode or "none")
    return Replay(list(plan.replay), mode=mode, speed=plan.speed or 0, strict=False)


def _base_urls(upstreams: Iterable[str]) -> dict[str, str]:
    return dict(_name_and_url(text) for text in upstreams)


def _name_and_url(text: str) -> tuple[str, str]:
    name, _, url = text.partition("=")
    if not name or not url:
        raise ConfigurationError(
            f"--upstream {text!r} is not NAME=URL: write for example openai=http://127.0.0.1:9000"
        )
    return name, url


def _directions(server: Server, *, made: bool) -> str:
    """How to reach the server; the token is shown when it was made here, once."""
    lines = ["point the SDKs here:"]
    if made and server.token:
        lines.append(f"  export {TOKEN_VARIABLE}={server.token}")
    for name, value in server.env().items():
        lines.append(f"  export {name}={f'${TOKEN_VARIABLE}' if value == server.token else value}")
    if server.token is None:
        lines.append("no token: whoever reaches the port may use it")
    return "\n".join(lines)


def _keys(providers: Iterable[Provider]) -> str:
    """Which providers can be asked."""
    known = [row.name for row in providers if row.key]
    if known:
        return f"keys for: {', '.join(known)}"
    return (
        "no provider has a key: set OPENAI_API_KEY, ANTHROPIC_API_KEY or the like and start again"
    )


def _flush(bridge: Bridge) -> None:
    try:
        bridge.flush()
    except BridgeError as error:
        # The calls go on; closing the store says it again, and then it counts.
        logging.getLogger("llmbridge").error("%s", error.message)
