"""`llmbridge serve`: a bridge on a port until a signal comes."""

import gc
import logging
import signal
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from types import FrameType
from typing import get_args

import typer
from msgspec.structs import asdict
from msgspec.structs import replace as replace_fields

from llmbridge.bridge import Bridge
from llmbridge.certificates import Certificate
from llmbridge.cli.log import JSONFormatter, LoggedStore, json_line, json_message, log_line
from llmbridge.configuration import Configuration, LogFormat, LogLevel, Settings
from llmbridge.errors import BridgeError, ConfigurationError
from llmbridge.exchange.record import Store
from llmbridge.frontends.server import Server
from llmbridge.providers import Provider
from llmbridge.stores.memory import MemoryStore
from llmbridge.stores.opening import open_store

MEMORY_BYTES = 256 * 2**20
"""What `--store memory` keeps; the oldest goes first."""
TOKEN_VARIABLE = "LLMBRIDGE_TOKEN"
FLUSH_S = 5.0
"""How long a call may wait to be written to a file."""


def serve_until_stopped(options: Settings, config: str | None = None) -> None:
    """Serve as the options say, and the file where they say nothing; returns after SIGINT or SIGTERM.

    Raises:
        ConfigurationError: options that cannot be, or an address that cannot be served.
        CassetteError: a recording cannot be read.
    """
    _check(options)
    configuration = Configuration("") if config is None else Configuration.load(config)
    said = _over(options, configuration.settings)
    _check_replay(said)
    if options.no_token and said.people:
        raise ConfigurationError(
            "--no-token lets anybody in, and the file has people with tokens: leave out one of them"
        )
    say = _say_json if said.log_format == "json" else _say
    log = said.log or "info"
    logging.basicConfig(level=logging.WARNING, handlers=[_handler(said.log_format)])
    tls = _certificate(said)
    bridge = replace(configuration, settings=said).bridge(store=_store(said, log))
    stop = _stopped_by_signals()
    with _log_at(log), _collecting_rarely(), bridge:
        server = bridge.serve(
            said.host or "127.0.0.1",
            said.port or 0,
            token=None if said.no_token else "auto" if said.token is None else said.token,
            allow_remote=said.allow_remote,
            tls=tls,
        )
        say(_directions(server, made=said.token in (None, "auto")))
        if server.guarded or said.no_token:
            say(_keys(bridge.providers))
        typer.echo(f"llmbridge listening on {server.url}")
        while not stop.wait(FLUSH_S):
            _flush(bridge)


def _store(said: Settings, log: str) -> Store:
    """What keeps the calls, and whoever follows it."""
    memory = said.store in (None, "memory")
    store = MemoryStore(MEMORY_BYTES) if memory else open_store(said.store)
    if said.metrics:
        from llmbridge.frames.metrics import MeteredStore  # noqa: PLC0415  # an extra

        store = MeteredStore(store)
    if said.traces:
        from llmbridge.frames.traces import TracedStore  # noqa: PLC0415  # an extra

        store = TracedStore(store)
    if log == "warning":
        return store
    return LoggedStore(store, _say, json_line if said.log_format == "json" else log_line)


def _handler(log_format: str | None) -> logging.Handler:
    text = logging.Formatter("%(levelname)s %(name)s: %(message)s")
    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter() if log_format == "json" else text)
    return handler


def base_urls(upstreams: Iterable[str]) -> dict[str, str]:
    """What `--upstream NAME=URL` says, one by one.

    Raises:
        ConfigurationError: one is not NAME=URL.
    """
    return dict(_name_and_url(text) for text in upstreams)


def _check(options: Settings) -> None:
    """Refuse options that contradict each other, or say what there is not."""
    if options.log not in (None, *get_args(LogLevel)):
        raise ConfigurationError(
            f"--log is {options.log!r}: give one of {', '.join(get_args(LogLevel))}"
        )
    if options.log_format not in (None, *get_args(LogFormat)):
        raise ConfigurationError(
            f"--log-format is {options.log_format!r}: give one of {', '.join(get_args(LogFormat))}"
        )
    if options.no_token and options.token not in (None, "auto"):
        raise ConfigurationError(
            f"--token (or {TOKEN_VARIABLE}) and --no-token contradict each other: give one of them"
        )
    if options.record and (options.replay or options.mode):
        raise ConfigurationError(
            "--record PATH is --replay PATH --mode all: give the one or the other"
        )
    if options.replay and options.upstream and options.mode in (None, "none"):
        raise ConfigurationError(
            "--replay asks no provider, so --upstream would do nothing: give one of them, or a --mode"
        )


def _certificate(said: Settings) -> Certificate | None:
    if said.tls_cert is None:
        if said.tls_key is not None:
            raise ConfigurationError(
                "--tls-key is the key of a certificate: give --tls-cert with it"
            )
        return None
    return said.tls_cert if said.tls_key is None else (said.tls_cert, said.tls_key)


def _check_replay(said: Settings) -> None:
    for option, value in (("--speed", said.speed), ("--mode", said.mode)):
        if value is not None and not said.replay:
            raise ConfigurationError(f"{option} is for a replay: give --replay PATH with it")


def _over(options: Settings, file: Settings) -> Settings:
    """The file's settings with what the options say instead; what excludes each other goes together."""
    default = asdict(Settings())
    given = {key: value for key, value in asdict(options).items() if value != default[key]}
    if options.replay or options.record:
        file = replace_fields(file, replay=(), record=None, mode=None, speed=None)
    if options.token is not None or options.no_token:
        file = replace_fields(file, token=None, no_token=False)
    given["upstream"] = {**file.upstream, **options.upstream}
    return replace_fields(file, **given)


@contextmanager
def _log_at(level: str) -> Generator[None]:
    """Who is turned away at the door makes no interception, and so no line of the log's own."""
    levels = {"llmbridge.server": logging.INFO} if level != "warning" else {}
    if level == "debug":
        levels["llmbridge.bodies"] = logging.DEBUG
    loggers = {logging.getLogger(name): value for name, value in levels.items()}
    before = {logger: logger.level for logger in loggers}
    for logger, value in loggers.items():
        logger.setLevel(value)
    try:
        yield
    finally:
        for logger, value in before.items():
            logger.setLevel(value)


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


def _say_json(line: str) -> None:
    _say(json_message(line))


def _stopped_by_signals() -> Event:
    """Set by the first signal; the second one ends the process as usual."""
    stop = Event()

    def handle(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return stop


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
    sent = f"${TOKEN_VARIABLE}" if server.guarded else None
    lines += [f"  export {name}={value}" for name, value in server.env(token=sent).items()]
    if server.guarded and not server.token:
        lines.append(f"{TOKEN_VARIABLE} is the token that each person was given")
    if not server.guarded:
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
