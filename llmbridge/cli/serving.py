"""`llmbridge serve`: a bridge on a port until a signal comes."""

import gc
import logging
import socket
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from threading import Event
from typing import TypedDict, get_args

import typer
from msgspec.structs import asdict
from msgspec.structs import replace as replace_fields

from llmbridge.bridge import Bridge
from llmbridge.certificates import Certificate
from llmbridge.cli.log import JSONFormatter, LoggedStore, json_line, json_message, log_line
from llmbridge.cli.signals import on_stop
from llmbridge.cli.workers import Workers, counting_together
from llmbridge.configuration import Configuration, LogFormat, LogLevel, Settings
from llmbridge.errors import BridgeError, ConfigurationError
from llmbridge.exchange.printable import without_password
from llmbridge.exchange.record import Store
from llmbridge.frontends.server import Server
from llmbridge.providers import Provider
from llmbridge.stores.memory import MemoryStore
from llmbridge.stores.opening import is_url, open_store
from llmbridge.upstreams.source import RECORDING

MEMORY_BYTES = 256 * 2**20
"""What `--store memory` keeps; the oldest goes first."""
LOOPBACK = "127.0.0.1"
TOKEN_VARIABLE = "LLMBRIDGE_TOKEN"
FLUSH_S = 5.0
"""How long a call may wait to be written to a file."""

_logger = logging.getLogger("llmbridge")


def serve_until_stopped(options: Settings, config: str | None = None) -> None:
    """Serve as the options say, and the file where they say nothing; returns after SIGINT or SIGTERM.

    Raises:
        ConfigurationError: options that cannot be, or an address that cannot be served.
        CassetteError: a recording cannot be read.
    """
    configuration = _configured(options, config)
    said = configuration.settings
    if (said.workers or 1) > 1:
        _serve_together(configuration, options, config)
        return
    stop = Event()
    on_stop(stop.set)
    with _opened(configuration) as bridge:
        server = bridge.serve(said.host or LOOPBACK, said.port or 0, **_door(said))
        _direct(said, bridge, server)
        typer.echo(f"llmbridge listening on {server.url}")
        _wait(stop, bridge)


def _serve_together(configuration: Configuration, options: Settings, config: str | None) -> None:
    """Serve from several processes; what is wrong is told by this one, once, before it starts them."""
    said = configuration.settings
    _check_workers(said)
    with _opened(configuration) as bridge:
        server = bridge.serve(said.host or LOOPBACK, said.port or 0, **_door(said), start=False)
        listener = server.listen()
    if server.token:
        options = replace_fields(options, token=server.token)
    share = partial(_serve_a_share, options, config, listener)
    with listener, counting_together() if said.metrics else nullcontext():
        workers = Workers(said.workers or 1, share)
        if workers.wait_until_ready():
            _direct(said, bridge, server)
            _speaker(said)(f"workers: processes {', '.join(map(str, workers.pids))}")
            typer.echo(f"llmbridge listening on {server.url}")
            workers.keep()
            # Who comes now is refused, and does not wait until the last of them has ended.
            listener.close()
            workers.end()


def _serve_a_share(
    options: Settings,
    config: str | None,
    listener: socket.socket,
    stop: Event,
    ready: Callable[[], None],
) -> None:
    """What one of several processes does."""
    configuration = _configured(options, config)
    said = configuration.settings
    with _opened(configuration) as bridge:
        bridge.serve(said.host or LOOPBACK, listener, **_door(said))
        ready()
        _wait(stop, bridge)


def _configured(options: Settings, config: str | None) -> Configuration:
    """The file, if any, with the options over it."""
    _check(options)
    configuration = Configuration("") if config is None else Configuration.load(config)
    said = _over(options, configuration.settings)
    _check_replay(said)
    if said.workers is not None and said.workers < 1:
        raise ConfigurationError(f"workers: {said.workers} is too few: give 1 or more")
    if options.no_token and said.people:
        raise ConfigurationError(
            "--no-token lets anybody in, and the file has people with tokens: leave out one of them"
        )
    return replace(configuration, settings=said)


@contextmanager
def _opened(configuration: Configuration) -> Generator[Bridge]:
    """The bridge, and the log as it is wanted."""
    said = configuration.settings
    log = said.log or "info"
    logging.basicConfig(level=logging.WARNING, handlers=[_handler(said.log_format)])
    bridge = configuration.bridge(store=_store(said, log))
    with _log_at(log), _collecting_rarely(), bridge:
        yield bridge


class _Door(TypedDict):
    """Who may come in."""

    token: str | None
    allow_remote: bool
    tls: Certificate | None


def _door(said: Settings) -> _Door:
    token = None if said.no_token else "auto" if said.token is None else said.token
    return _Door(token=token, allow_remote=said.allow_remote, tls=_certificate(said))


def _direct(said: Settings, bridge: Bridge, server: Server) -> None:
    """Say how to reach the server."""
    say = _speaker(said)
    say(_directions(server, made=said.token in (None, "auto")))
    if server.guarded or said.no_token:
        say(_keys(bridge.providers, clients_bring=bool(said.client_keys)))
    say(_keeping(said))
    if said.traces:
        _check_tracing()


def _wait(stop: Event, bridge: Bridge) -> None:
    while not stop.wait(FLUSH_S):
        _flush(bridge)


def _store(said: Settings, log: str) -> Store:
    """What keeps the calls, and whoever follows it."""
    store = MemoryStore(MEMORY_BYTES) if _in_memory(said) else open_store(said.store)
    if said.metrics:
        from llmbridge.frames.metrics import MeteredStore  # noqa: PLC0415  # an extra

        store = MeteredStore(store)
    if said.traces:
        from llmbridge.frames.traces import TracedStore  # noqa: PLC0415  # an extra

        store = TracedStore(store)
    if log == "warning":
        return store
    return LoggedStore(store, _say, json_line if said.log_format == "json" else log_line)


def _in_memory(said: Settings) -> bool:
    return said.store in (None, "memory")


def _handler(log_format: str | None) -> logging.Handler:
    text = logging.Formatter("%(levelname)s %(name)s: %(message)s")
    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter() if log_format == "json" else text)
    return handler


def base_urls(upstreams: Iterable[str]) -> dict[str, str]:
    """What `--upstream NAME=URL` says, one by one.

    Raises:
        ConfigurationError: one is not NAME=URL, or is there twice.
    """
    found: dict[str, str] = {}
    for name, url in map(_name_and_url, upstreams):
        if found.setdefault(name, url) != url:
            raise ConfigurationError(
                f"--upstream {name} is {found[name]} and {url}: give one of them"
            )
    return found


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


def _check_workers(said: Settings) -> None:
    """Refuse what processes cannot share."""
    if said.replay or said.record:
        raise ConfigurationError(
            f"--workers {said.workers} would each answer from the recordings in an order of their own: serve a replay"
            " with one"
        )
    if said.store is None or not is_url(said.store):
        raise ConfigurationError(
            f"--workers {said.workers} cannot share --store {said.store or 'memory'}: give a database, such as"
            " sqlite:///usage.db or postgresql://user@host/database"
        )


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


def _speaker(said: Settings) -> Callable[[str], None]:
    return _say_json if said.log_format == "json" else _say


def _say_json(line: str) -> None:
    _say(json_message(line))


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


def _keeping(said: Settings) -> str:
    """Where the calls are kept."""
    size_mb = MEMORY_BYTES // 2**20
    where = f"memory, the newest {size_mb} MB, until it ends: --store keeps them"
    if not _in_memory(said):
        where = without_password(said.store or "")
    lines = [f"calls are kept in {where}"]
    if said.record or said.mode in RECORDING:
        played = (said.replay,) if isinstance(said.replay, str) else said.replay
        lines.append(f"what providers answer is recorded in {said.record or played[0]}")
    return "\n".join(lines)


def _check_tracing() -> None:
    from llmbridge.frames.traces import spans_go_nowhere  # noqa: PLC0415  # an extra

    if spans_go_nowhere():
        _logger.warning(
            "--traces: no OpenTelemetry SDK is set up, so spans go nowhere:"
            " pip install opentelemetry-distro opentelemetry-exporter-otlp, and start with"
            " 'opentelemetry-instrument -- llmbridge serve ...'"
        )


def _keys(providers: Iterable[Provider], *, clients_bring: bool) -> str:
    """Which providers can be asked."""
    known = [row.name for row in providers if row.key]
    if known:
        return f"keys for: {', '.join(known)}"
    if clients_bring:
        return "no provider has a key: clients bring theirs"
    return (
        "no provider has a key: set OPENAI_API_KEY, ANTHROPIC_API_KEY or the like and start again"
    )


def _flush(bridge: Bridge) -> None:
    try:
        bridge.flush()
    except BridgeError as error:
        # The calls go on; closing the store says it again, and then it counts.
        _logger.error("%s", error.message)
