"""A bridge from a file: YAML, TOML or JSON, with values from the environment.

A file with `provider: proxy` at the top is one that bitop's agent reads, and means a bridge before that server.
"""

import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from llmbridge.bridge import Bridge
from llmbridge.canon.messages import Model
from llmbridge.configuration.environment import expanded, expanded_as_go
from llmbridge.configuration.file import tree_of
from llmbridge.configuration.settings import (
    BreakerRow,
    BudgetRow,
    LogFormat,
    LogLevel,
    McpServerRow,
    PersonRow,
    ProviderRow,
    Proxied,
    RateLimitRow,
    Rewrite,
    Settings,
    ToolLimitsRow,
    checked,
)
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.breaker import CircuitBreaker
from llmbridge.exchange.budgets import Budget
from llmbridge.exchange.call import Call, Handler
from llmbridge.exchange.rate_limits import RateLimit
from llmbridge.exchange.record import Store
from llmbridge.exchange.rewrite import (
    Body,
    Change,
    add_system,
    append_text,
    drop_fields,
    set_fields,
    swap_models,
)
from llmbridge.exchange.toolbox import Toolbox, ToolLimits
from llmbridge.frontends.people import People, Person
from llmbridge.providers import DIALECTS, Provider
from llmbridge.upstreams.live import Live
from llmbridge.upstreams.replay import Replay

__all__ = [
    "BreakerRow",
    "Configuration",
    "LogFormat",
    "LogLevel",
    "McpServerRow",
    "PersonRow",
    "ProviderRow",
    "Rewrite",
    "Settings",
]


@dataclass(frozen=True, slots=True)
class Configuration:
    """A file's settings, checked; `path` is empty where they come from elsewhere.

    `model` is whom a bitop file asks, for `bridge.stream(configuration.model, ...)`.
    """

    path: str
    settings: Settings = field(repr=False, default=Settings())
    model: Model | None = None
    changes: tuple[Change, ...] = field(default=(), repr=False)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], environ: Mapping[str, str] | None = None
    ) -> "Configuration":
        """Read a file that ends in .yaml, .yml, .json or .toml; `${NAME}` in a value is taken from the environment.

        Raises:
            ConfigurationError: the file or one of its keys is not what it should be; the message names both.
        """
        name = os.fspath(path)
        tree = tree_of(Path(name))
        environ = os.environ if environ is None else environ
        if tree.get("provider") == "proxy":
            return _of_bitop(name, checked(name, Proxied, expanded_as_go(tree, environ)))
        settings = checked(name, Settings, expanded(name, tree, environ))
        _check_choices(name, settings)
        _check_providers(name, settings.providers)
        People(_people(name, settings.people))
        _breaker(name, settings.breaker)
        _tool_limits(name, settings.tool_limits)
        # To be told of a mistake now.
        list(_budgets(name, settings.budgets))
        list(_rate_limits(name, settings.rate_limits))
        list(_mcp_servers(name, settings.mcp_servers))
        return cls(name, settings, changes=tuple(_changes(name, settings.rewrite)))

    def bridge(
        self,
        upstream: Handler | None = None,
        *,
        store: Store | str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Bridge:
        """The bridge that the file describes; `upstream` and `store` stand in for the file's.

        Raises:
            ConfigurationError: a route, a name or an address that cannot be.
        """
        said = self.settings
        kept = None if said.store == "memory" else said.store
        try:
            bridge = Bridge(
                upstream or self.upstream(),
                store=kept if store is None else store,
                record_bodies=said.record_bodies,
                providers=[_row(row) for row in said.providers],
                base_urls=said.upstream,
                routes=said.routes,
                passthrough=said.passthrough,
                tools=_mcp_servers(self.path, said.mcp_servers),
                tool_limits=_tool_limits(self.path, said.tool_limits),
                retries=said.retries,
                breaker=_breaker(self.path, said.breaker),
                allowed_hosts=said.allowed_hosts,
                people=_people(self.path, said.people),
                budgets=_budgets(self.path, said.budgets),
                rate_limits=_rate_limits(self.path, said.rate_limits),
                environ=environ,
            )
        except ConfigurationError as error:
            if not self.path:
                raise
            told = error.message.replace("base_urls names", "upstream names")
            raise ConfigurationError(f"{self.path}: {told}") from error
        for change in self.changes:
            bridge.rewrite(change)
        return bridge

    @property
    def replay(self) -> tuple[str, ...]:
        """The cassettes to answer from."""
        said = self.settings.replay
        return (said,) if isinstance(said, str) else said

    def upstream(self) -> Handler:
        """Where replies come from: the providers, or recordings."""
        said = self.settings
        live = Live(client_keys=said.client_keys, actor_headers=said.actor_headers)
        if said.record:
            return Replay(said.record, mode="all", upstream=live)
        if self.replay:
            return Replay(
                list(self.replay),
                mode=said.mode or "none",
                upstream=live if said.mode not in (None, "none") else None,
                speed=said.speed or 0,
                strict=False,
            )
        return live


def _row(row: ProviderRow) -> Provider:
    return Provider(
        row.name,
        row.base_url,
        row.dialects,
        key_env=row.key_env,
        auth=row.auth,
        key=row.key,
        keyless=row.keyless,
        keys=row.keys,
        passthrough=row.passthrough,
        stream_usage=row.stream_usage,
        ca=row.ca,
        cert=(row.cert,) if isinstance(row.cert, str) else row.cert,
    )


def _breaker(path: str, said: BreakerRow | None) -> CircuitBreaker | None:
    if said is None:
        return None
    with _told(path, "breaker"):
        return CircuitBreaker(**asdict(said))


def _tool_limits(path: str, row: ToolLimitsRow) -> ToolLimits:
    with _told(path, "tool_limits"):
        return ToolLimits(**asdict(row))


def _people(path: str, rows: Iterable[PersonRow]) -> Iterator[Person]:
    for index, row in enumerate(rows):
        with _told(path, f"people[{index}]"):
            person = Person(row.name, row.token, row.acts_for_others, row.metadata)
        yield person


def _budgets(path: str, rows: Iterable[BudgetRow]) -> Iterator[Budget]:
    for index, row in enumerate(rows):
        with _told(path, f"budgets[{index}]"):
            budget = Budget(**asdict(row))
        yield budget


def _rate_limits(path: str, rows: Iterable[RateLimitRow]) -> Iterator[RateLimit]:
    for index, row in enumerate(rows):
        with _told(path, f"rate_limits[{index}]"):
            limit = RateLimit(**asdict(row))
        yield limit


def _mcp_servers(path: str, rows: Iterable[McpServerRow]) -> Iterator[Toolbox]:
    for index, row in enumerate(rows):
        with _told(path, f"mcp_servers[{index}]"):
            if (row.url is None) == (not row.command):
                raise ConfigurationError(f"{row.name!r} needs a command or a url: give one of them")
            # The SDK is an extra, and slow to import.
            from llmbridge.tools.mcp import mcp_server  # noqa: PLC0415

            server = mcp_server(
                row.name,
                row.url if row.url is not None else row.command,
                env=row.env or None,
                cwd=row.cwd,
                headers=row.headers or None,
                allow=row.allow,
                deny=row.deny,
                start_timeout_s=row.start_timeout_s,
                required=row.required,
            )
        yield server


@contextmanager
def _told(path: str, key: str) -> Generator[None]:
    """A mistake with its place in front."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {key}: {error.message}") from error


def _check_choices(path: str, said: Settings) -> None:
    if said.no_token and said.token is not None:
        wrong = "token and no_token contradict each other: give one of them"
    elif said.no_token and said.people:
        wrong = "no_token lets anybody in, and people come in with tokens: leave out one of them"
    elif said.record and (said.replay or said.mode):
        wrong = "record is a replay with mode all: give the one or the other"
    elif said.tls_key and not said.tls_cert:
        wrong = "tls_key is the key of a certificate: give tls_cert with it"
    elif not said.replay and (said.mode or said.speed is not None):
        wrong = f"{'mode' if said.mode else 'speed'} is for a replay: give replay with it"
    else:
        return
    raise ConfigurationError(f"{path}: {wrong}")


def _check_providers(path: str, rows: Iterable[ProviderRow]) -> None:
    for index, row in enumerate(rows):
        key = f"{path}: providers[{index}]"
        for name in row.dialects:
            if name not in DIALECTS:
                raise ConfigurationError(
                    f"{key}.dialects: there is no {name!r}: there are {', '.join(DIALECTS)}"
                )
        if row.key and row.keys:
            raise ConfigurationError(f"{key} has key and keys: give one of them")
        if not row.dialects:
            raise ConfigurationError(f"{key}.dialects is empty: name one, such as openai.chat")
        try:
            _row(row).at(row.base_url)
        except ConfigurationError as error:
            raise ConfigurationError(f"{key}.base_url: {error.message}") from error


def _changes(path: str, rewrites: Iterable[Rewrite]) -> Iterator[Change]:
    for index, said in enumerate(rewrites):
        if said == Rewrite():
            raise ConfigurationError(
                f"{path}: rewrite[{index}] changes nothing:"
                f" give one of {', '.join(Rewrite.__struct_fields__)}"
            )
        if said.append_text is not None:
            yield append_text(said.append_text)
        if said.add_system is not None:
            yield add_system(said.add_system)
        if said.set_fields:
            yield set_fields(**said.set_fields)
        if said.drop_fields:
            yield drop_fields(*said.drop_fields)
        if said.swap_models:
            yield swap_models(said.swap_models)


def _of_bitop(path: str, said: Proxied) -> Configuration:
    if not said.base_url:
        raise ConfigurationError(f"{path}: base_url: proxy provider requires base_url")
    # Without a model the client's own is asked for.
    target = f"proxy/{said.model}" if said.model else "proxy"
    row = ProviderRow(
        "proxy",
        said.base_url.rstrip("/"),
        ("proxy.stream",),
        key=said.api_key or None,
        keyless=not said.api_key,
    )
    _check_providers(path, [row])
    options = {
        "max_tokens": said.max_tokens,
        "temperature": said.temperature,
        "thinking_level": said.thinking_level,
        "cache_retention": said.cache_retention,
    }
    given = {name: value for name, value in options.items() if value not in (None, "", 0)}
    if said.temperature is not None:
        given["temperature"] = said.temperature
    return Configuration(
        path,
        Settings(providers=(row,), routes={"*": target}),
        Model("proxy", said.model),
        (_defaults(given),) if given else (),
    )


def _defaults(options: dict[str, Any]) -> Change:
    """Set options of `/stream` that the client left open."""

    def fill(body: Body, call: Call) -> None:
        if call.provider.name == "proxy":
            body["options"] = {**options, **(body.get("options") or {})}

    return fill
