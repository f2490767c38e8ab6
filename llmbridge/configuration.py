"""A bridge from a file: YAML, TOML or JSON, with values from the environment.

A file with `provider: proxy` at the top is one that bitop's agent reads, and means a bridge before that server.
"""

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import msgspec
import yaml

from llmbridge.bridge import Bridge
from llmbridge.canon.messages import Model
from llmbridge.errors import CassetteError, ConfigurationError
from llmbridge.exchange.call import Call, Handler
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
from llmbridge.providers import DIALECTS, Auth, Provider
from llmbridge.stores.safe_load import is_array, is_object, safe_load
from llmbridge.upstreams.replay import Replay
from llmbridge.upstreams.source import Mode

LIMIT_BYTES = 1024 * 1024

_Kind = TypeVar("_Kind")


LogLevel = Literal["warning", "info", "debug"]
"""What `llmbridge serve` writes to standard error; `info` where nothing is said."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "log": get_args(LogLevel),
    "mode": get_args(Mode),
    "auth": get_args(Auth),
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


class Rewrite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Changes of a request, made in this order."""

    append_text: str | None = None
    add_system: str | None = None
    set_fields: dict[str, Any] = {}
    drop_fields: tuple[str, ...] = ()
    swap_models: dict[str, str] = {}


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
    upstream: dict[str, str] = {}
    providers: tuple[ProviderRow, ...] = ()
    routes: dict[str, str] = {}
    rewrite: tuple[Rewrite, ...] = ()
    retries: int = 0
    allowed_hosts: tuple[str, ...] = ()
    log: LogLevel | None = None


class _Proxied(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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
        tree = _tree(Path(name))
        environ = os.environ if environ is None else environ
        if tree.get("provider") == "proxy":
            return _of_bitop(name, _checked(name, _Proxied, _expanded_as_go(tree, environ)))
        settings = _checked(name, Settings, _expanded(name, tree, environ))
        _check_choices(name, settings)
        _check_providers(name, settings.providers)
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
                providers=[_row(row) for row in said.providers],
                base_urls=said.upstream,
                routes=said.routes,
                retries=said.retries,
                allowed_hosts=said.allowed_hosts,
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

    def upstream(self) -> Handler | None:
        """Where replies come from; None for the providers themselves."""
        said = self.settings
        if said.record:
            return Replay(said.record, mode="all")
        if self.replay:
            return Replay(
                list(self.replay), mode=said.mode or "none", speed=said.speed or 0, strict=False
            )
        return None


# The file


def _tree(path: Path) -> dict[str, Any]:
    if path.suffix not in (".yaml", ".yml", ".json", ".toml"):
        raise ConfigurationError(
            f"{str(path)!r} is no configuration: its name ends in .yaml, .yml, .json or .toml"
        )
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > LIMIT_BYTES:
        raise ConfigurationError(f"{path} is larger than 1 MiB: that is no configuration")
    if not data.strip():
        return {}
    try:
        tree: Any = (
            tomllib.loads(data.decode("utf-8-sig"))
            if path.suffix == ".toml"
            else safe_load(data, str(path))
        )
    except CassetteError as error:
        raise ConfigurationError(error.message) from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    if path.suffix != ".toml":
        _check_twice(path, data)
    if not is_object(tree):
        raise ConfigurationError(f"{path} is no mapping of names to values")
    return tree


def _check_twice(path: Path, data: bytes) -> None:
    """Refuse a key that is given twice: the first one would be lost without a word."""
    try:
        left = [yaml.compose(data, yaml.SafeLoader)]
    except yaml.YAMLError:
        # JSON that has been read, and is no YAML.
        return
    # An alias is the node that it names.
    met: set[int] = set()
    while left:
        node = left.pop()
        if id(node) in met:
            continue
        met.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += node.value
        elif isinstance(node, yaml.MappingNode):
            left += [value for _, value in node.value]
            names = [(key.tag, key.value) for key, _ in node.value if isinstance(key.value, str)]
            for (_, name), count in Counter(names).items():
                if count > 1:
                    raise ConfigurationError(f"{path}: {name!r} is there twice, give it once")


def _checked(path: str, kind: type[_Kind], tree: dict[str, Any]) -> _Kind:
    try:
        # Not strict: what comes from the environment is text, also where a number is meant.
        return msgspec.convert(tree, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}: {_complaint(str(error), tree)}") from error


_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`", re.DOTALL)


def _complaint(message: str, tree: dict[str, Any]) -> str:
    """What msgspec says, with the key in front."""
    said, _, where = message.partition(" - at `$")
    key = where.removesuffix("`").removeprefix(".")
    if unknown := _UNKNOWN.match(said):
        full = f"{key}.{unknown[1]}" if key else unknown[1]
        known = _keys_of(key, bitop=tree.get("provider") == "proxy")
        near = get_close_matches(unknown[1], known, 1)
        return f"there is no key {full!r}: " + (
            f"do you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        )
    if said.startswith("Invalid enum value") and (choices := _CHOICES.get(key.rpartition(".")[2])):
        said += f": there are {', '.join(choices)}"
    return f"{key or 'the file'}: {said[:1].lower()}{said[1:]}"


def _keys_of(place: str, *, bitop: bool) -> tuple[str, ...]:
    if bitop:
        return _Proxied.__struct_fields__
    if place.startswith("rewrite"):
        return Rewrite.__struct_fields__
    return ProviderRow.__struct_fields__ if place else Settings.__struct_fields__


# The environment

_REFERENCE = re.compile(r"\$\$|\$\{([^}]*)\}")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_GO_REFERENCE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


def _expanded(path: str, value: Any, environ: Mapping[str, str], key: str = "") -> Any:
    """The value with `${NAME}` and `${NAME:-otherwise}` replaced in texts; `$$` is a dollar."""

    def variable(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        parts = _NAME.fullmatch(found[1])
        if parts is None:
            raise ConfigurationError(
                f"{path}: {key}: {found[0]!r} names no variable: write ${{NAME}}, or $$ for a dollar"
            )
        said = environ.get(parts[1]) or parts[2]
        if said is None:
            raise ConfigurationError(
                f"{path}: {key}: the variable {parts[1]!r} is not set:"
                f" set it, or write ${{{parts[1]}:-otherwise}}"
            )
        return said

    if isinstance(value, str):
        return _REFERENCE.sub(variable, value)
    if is_object(value):
        return {
            name: _expanded(path, inner, environ, f"{key}.{name}" if key else str(name))
            for name, inner in value.items()
        }
    if is_array(value):
        return [_expanded(path, x, environ, f"{key}[{i}]") for i, x in enumerate(value)]
    return value


def _expanded_as_go(tree: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """As bitop does it: `$NAME` too, and a variable that is not set is empty; an empty value is none."""

    def variable(found: re.Match[str]) -> str:
        return environ.get(found[1] or found[2], "")

    expanded = {
        key: _GO_REFERENCE.sub(variable, value) if isinstance(value, str) else value
        for key, value in tree.items()
    }
    return {key: value for key, value in expanded.items() if value not in ("", None)}


# What it means


def _row(row: ProviderRow) -> Provider:
    return Provider(
        row.name,
        row.base_url,
        row.dialects,
        key_env=row.key_env,
        auth=row.auth,
        key=row.key,
        keyless=row.keyless,
    )


def _check_choices(path: str, said: Settings) -> None:
    if said.no_token and said.token is not None:
        wrong = "token and no_token contradict each other: give one of them"
    elif said.record and (said.replay or said.mode):
        wrong = "record is a replay with mode all: give the one or the other"
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


def _of_bitop(path: str, said: _Proxied) -> Configuration:
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
