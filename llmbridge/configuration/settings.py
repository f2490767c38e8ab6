"""What a configuration file may say, checked key by key."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args

import msgspec

from llmbridge.configuration.complaint import complaint
from llmbridge.errors import ConfigurationError
from llmbridge.providers import Auth
from llmbridge.upstreams.source import Mode

_Kind = TypeVar("_Kind")


LogLevel = Literal["warning", "info", "debug"]
"""What `llmbridge serve` writes to standard error; `info` where nothing is said."""

LogFormat = Literal["text", "json"]
"""A line a call, or an object a line."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "log": get_args(LogLevel),
    "log_format": get_args(LogFormat),
    "client_keys": ("true", "false", "first"),
    "mode": get_args(Mode),
    "auth": get_args(Auth),
    "per": ("day", "month"),
}


class ProviderRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A provider beside those that are known."""

    name: str
    base_url: str
    dialects: tuple[str, ...] = ("openai.chat",)
    key: str | None = None
    key_env: tuple[str, ...] = ()
    auth: Auth = "bearer"
    keyless: bool = False
    passthrough: tuple[str, ...] = ()
    stream_usage: bool = False
    keys: tuple[str, ...] = ()
    ca: str | None = None
    cert: str | tuple[str, ...] = ()


class PersonRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody with a token of their own."""

    name: str
    token: str | tuple[str, ...]
    acts_for_others: bool = False
    metadata: dict[str, str] = {}


class BudgetRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be taken in a day or a month."""

    usd: float | None = None
    tokens: int | None = None
    per: Literal["day", "month"] = "day"
    actor: str = "*"
    model: str = "*"
    shared: bool = False


class RateLimitRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be taken in a minute."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    actor: str = "*"
    model: str = "*"
    shared: bool = False


class McpServerRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An MCP server whose tools are offered to models: a command, or a URL."""

    name: str
    command: tuple[str, ...] = ()
    url: str | None = None
    env: dict[str, str] = {}
    cwd: str | None = None
    headers: dict[str, str] = {}
    allow: str | None = None
    deny: str | None = None
    start_timeout_s: float = 30
    required: bool = False


class ToolLimitsRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the bridge goes with tools for one answer."""

    rounds: int = 10
    tool_timeout_s: float = 60
    result_chars: int = 100_000
    memory_bytes: int = 64 * 1024 * 1024


class Rewrite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Changes of a request, made in this order."""

    append_text: str | None = None
    add_system: str | None = None
    set_fields: dict[str, Any] = {}
    drop_fields: tuple[str, ...] = ()
    swap_models: dict[str, str] = {}


class BreakerRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a provider that fails is left alone, and how long."""

    failures: int = 5
    interval_s: float = 10.0
    open_s: float = 30.0
    trials: int = 3


ROWS: Mapping[str, type[msgspec.Struct]] = MappingProxyType(
    {
        "breaker": BreakerRow,
        "budgets": BudgetRow,
        "mcp_servers": McpServerRow,
        "people": PersonRow,
        "providers": ProviderRow,
        "rate_limits": RateLimitRow,
        "rewrite": Rewrite,
        "tool_limits": ToolLimitsRow,
    }
)
"""What stands below these keys of a file."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file may say. The names of `llmbridge serve`'s options mean the same here."""

    host: str | None = None
    port: int | None = None
    token: str | None = None
    no_token: bool = False
    allow_remote: bool = False
    replay: str | tuple[str, ...] = ()
    mode: Mode | None = None
    record: str | None = None
    speed: float | None = None
    store: str | None = None
    record_bodies: bool = True
    workers: int | None = None
    upstream: dict[str, str] = {}
    providers: tuple[ProviderRow, ...] = ()
    routes: dict[str, str] = {}
    passthrough: dict[str, tuple[str, ...]] = {}
    rewrite: tuple[Rewrite, ...] = ()
    mcp_servers: tuple[McpServerRow, ...] = ()
    tool_limits: ToolLimitsRow = ToolLimitsRow()
    retries: int = 0
    breaker: BreakerRow | None = None
    allowed_hosts: tuple[str, ...] = ()
    tls_cert: str | None = None
    tls_key: str | None = None
    client_keys: bool | Literal["first"] = False
    actor_headers: bool = False
    people: tuple[PersonRow, ...] = ()
    budgets: tuple[BudgetRow, ...] = ()
    rate_limits: tuple[RateLimitRow, ...] = ()
    log: LogLevel | None = None
    log_format: LogFormat | None = None
    metrics: bool = False
    traces: bool = False


class Proxied(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What bitop's agent reads; `tools` are its own affair."""

    provider: Literal["proxy"]
    model: str = ""
    base_url: str = ""
    api_key: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    thinking_level: str = ""
    cache_retention: str = ""
    tools: dict[str, Any] = {}


def checked(path: str, kind: type[_Kind], tree: dict[str, Any]) -> _Kind:
    """The tree as settings.

    Raises:
        ConfigurationError: a key is not there, or its value cannot be; the message names it.
    """
    try:
        # Not strict: what comes from the environment is text, also where a number is meant.
        return msgspec.convert(tree, kind, strict=False)
    except msgspec.ValidationError as error:
        keys = _keys_of(str(error), bitop=tree.get("provider") == "proxy")
        raise ConfigurationError(
            f"{path}: {complaint(str(error), tree, keys, _CHOICES)}"
        ) from error


def _keys_of(message: str, *, bitop: bool) -> tuple[str, ...]:
    """What may stand where the message is about."""
    if bitop:
        return Proxied.__struct_fields__
    top = message.rpartition("`$.")[2].rstrip("`").partition("[")[0]
    return ROWS.get(top, Settings).__struct_fields__
