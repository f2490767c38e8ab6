"""Who speaks what: one row a provider. Adding one that speaks a known dialect is adding a row."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal
from urllib.parse import unquote, urlsplit

from llmbridge.errors import ConfigurationError
from llmbridge.wire.anthropic_messages import ANTHROPIC_MESSAGES
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.google_gemini import GOOGLE_GEMINI
from llmbridge.wire.opaque import (
    COUNT_TOKENS,
    OPAQUE,
    OPENAI_COMPLETIONS,
    OPENAI_EMBEDDINGS,
    OPENAI_MODELS,
    RERANK,
)
from llmbridge.wire.openai_chat import OPENAI_CHAT
from llmbridge.wire.openai_responses import OPENAI_RESPONSES
from llmbridge.wire.proxy_api_stream import API_STREAM
from llmbridge.wire.proxy_stream import PROXY_STREAM

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        dialect.name: dialect
        for dialect in (
            ANTHROPIC_MESSAGES,
            OPENAI_CHAT,
            OPENAI_RESPONSES,
            GOOGLE_GEMINI,
            OPENAI_COMPLETIONS,
            OPENAI_EMBEDDINGS,
            OPENAI_MODELS,
            COUNT_TOKENS,
            RERANK,
            PROXY_STREAM,
            API_STREAM,
            OPAQUE,
        )
    }
)

Auth = Literal["bearer", "x-api-key", "api-key", "x-goog-api-key"]


_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# The server's own routes begin with these.
_TAKEN = frozenset(
    {"api", "crawl", "healthz", "metrics", "model-proxy", "stream", "v1", "v1beta", "web"}
)


def dialect_named(name: str) -> Dialect:
    """The dialect of this name; `opaque` for a name from elsewhere."""
    return DIALECTS.get(name, OPAQUE)


@dataclass(frozen=True, slots=True)
class Provider:
    """A host that speaks one or more dialects.

    `base_url` is what its SDK calls the base URL; operations such as `/chat/completions` are joined to it. `key` is
    never shown; of several `keys` the first one that the provider takes is used. `hosts` are further host names in-process
    requests may name; a leading `*` stands for any subdomain.
    `renames` are names that this host has for keys of a translated request. `passthrough` are further paths below the
    base URL that a server passes on unread, `/files/` with all that is below it, `/` with everything. `stream_usage` says
    that chat streams tell their usage where `stream_options` asks for it.
    `ca` is a file of authorities to trust beside the system's, `cert` one with the certificate and the key to show, or a
    file for each.
    """

    name: str
    base_url: str
    dialects: tuple[str, ...] = ("openai.chat",)
    key_env: tuple[str, ...] = ()
    url_env: tuple[str, ...] = ()
    auth: Auth = "bearer"
    key: str | None = None
    hosts: tuple[str, ...] = ()
    # A mapping proxy has a hash, and so passes for a default, only from Python 3.12 on.
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    keyless: bool = False
    renames: Mapping[str, str] = field(default_factory=dict[str, str])
    keys: tuple[str, ...] = ()
    passthrough: tuple[str, ...] = ()
    stream_usage: bool = False
    ca: str | None = None
    cert: tuple[str, ...] = ()

    def __repr__(self) -> str:
        keys = f"{len(self.keys)} keys" if len(self.keys) > 1 else "key=set"
        return f"Provider({self.name!r}, {self.base_url!r}, {keys if self.key else 'key=None'})"

    @property
    def prefix(self) -> str:
        """The path of the row's base URL, such as `/v1`."""
        return urlsplit(self.base_url).path.rstrip("/")

    def url(self, target: str) -> str:
        """The address of an operation such as `/chat/completions?x=1`."""
        if self.prefix.endswith("/v1") and target.startswith("/v1/"):
            target = target.removeprefix("/v1")
        return self.base_url.rstrip("/") + target

    def passes_on(self, target: str) -> bool:
        """True for an operation that nobody here reads, but that a server lets through."""
        path = target.partition("?")[0]
        # What another server would make of these is not what was allowed.
        if {".", ".."}.intersection(unquote(path).replace("\\", "/").split("/")):
            return False
        return any(
            path.startswith(allowed) if allowed.endswith("/") else path == allowed
            for allowed in self.passthrough
        )

    def serves(self, host: str) -> bool:
        """True when `host` (with its port, if it names one) is this provider's."""
        own = urlsplit(self.base_url).netloc.lower()
        return any(_host_matches(pattern, host) for pattern in (own, *self.hosts))

    def at(self, base_url: str) -> "Provider":
        """The same provider at another origin; without a path of its own the row's path stays.

        Raises:
            ConfigurationError: it is not an http(s) URL.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                f"base URL of {self.name!r} is {base_url!r}: give http://HOST or https://HOST"
            )
        # Some variables hold the whole address of an operation.
        path = parts.path.rstrip("/").removesuffix("/v1/messages") or self.prefix
        if parts.username or parts.password:
            raise ConfigurationError(
                f"the base URL of {self.name!r} holds a password: give the key with its variable"
            )
        hosts = (*self.hosts, urlsplit(self.base_url).netloc.lower())
        return replace(self, base_url=f"{parts.scheme}://{parts.netloc}{path}", hosts=hosts)

    def configured(self, environ: Mapping[str, str]) -> "Provider":
        """The same provider with base URL and keys from the environment, where they are set.

        A variable may hold several keys, with commas between them.
        """
        url = next((environ[name] for name in self.url_env if environ.get(name)), None)
        said = next((environ[name] for name in self.key_env if environ.get(name)), "")
        own = [key for key in (self.key, *self.keys) if key]
        keys = tuple(dict.fromkeys(own or filter(None, map(str.strip, said.split(",")))))
        return replace(self.at(url) if url else self, key=keys[0] if keys else None, keys=keys)


def _host_matches(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*") else bool(host) and host == pattern


def _compatible(name: str, base_url: str, **more: object) -> Provider:
    """A row for a host that needs only a name, a base URL and `NAME_API_KEY`."""
    upper = name.upper()
    row = Provider(
        name,
        base_url,
        key_env=(f"{upper}_API_KEY",),
        url_env=(f"{upper}_BASE_URL",),
        renames={"max_completion_tokens": "max_tokens"},
    )
    return replace(row, **more)  # type: ignore[arg-type]  # the keywords are Provider's own fields


PROVIDERS: tuple[Provider, ...] = (
    Provider(
        "anthropic",
        "https://api.anthropic.com",
        dialects=("anthropic.messages",),
        key_env=("ANTHROPIC_API_KEY",),
        url_env=("ANTHROPIC_BASE_URL", "ANTHROPIC_API_URL"),
        auth="x-api-key",
        passthrough=("/api/event_logging/",),
    ),
    Provider(
        "openai",
        "https://api.openai.com/v1",
        dialects=("openai.chat", "openai.responses"),
        key_env=("OPENAI_API_KEY",),
        url_env=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        passthrough=("/conversations", "/conversations/", "/responses/"),
        stream_usage=True,
    ),
    Provider(
        "google",
        "https://generativelanguage.googleapis.com",
        dialects=("google.gemini",),
        key_env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        url_env=("GOOGLE_GEMINI_BASE_URL",),
        auth="x-goog-api-key",
    ),
    # A key of Vertex's express mode, or an access token that somebody renews.
    Provider(
        "vertex",
        "https://aiplatform.googleapis.com",
        dialects=("google.gemini", "anthropic.messages"),
        key_env=("VERTEX_ACCESS_TOKEN",),
        url_env=("GOOGLE_VERTEX_BASE_URL",),
        hosts=("*-aiplatform.googleapis.com",),
        aliases={":rawPredict": "anthropic.messages", ":streamRawPredict": "anthropic.messages"},
    ),
    _compatible(
        "openrouter",
        "https://openrouter.ai/api/v1",
        dialects=("openai.chat", "openai.responses"),
    ),
    _compatible("cohere", "https://api.cohere.ai/v1", dialects=("rerank",), renames={}),
    _compatible("groq", "https://api.groq.com/openai/v1", stream_usage=True),
    _compatible("mistral", "https://api.mistral.ai/v1"),
    _compatible(
        "deepseek",
        "https://api.deepseek.com",
        dialects=("openai.chat", "openai.responses"),
        stream_usage=True,
    ),
    _compatible("xai", "https://api.x.ai/v1", dialects=("openai.chat", "openai.responses")),
    _compatible("together", "https://api.together.ai/v1", hosts=("api.together.xyz",)),
    _compatible("fireworks", "https://api.fireworks.ai/inference/v1"),
    _compatible("cerebras", "https://api.cerebras.ai/v1"),
    _compatible("perplexity", "https://api.perplexity.ai"),
    _compatible("moonshot", "https://api.moonshot.ai/v1", hosts=("api.moonshot.cn",)),
    _compatible("zai", "https://api.z.ai/api/paas/v4"),
    _compatible("nvidia", "https://integrate.api.nvidia.com/v1"),
    _compatible("writer", "https://api.writer.com/v1", aliases={"/chat": "openai.chat"}),
    _compatible("avian", "https://api.avian.io/v1"),
    _compatible(
        "huggingface",
        "https://router.huggingface.co/v1",
        key_env=("HF_TOKEN", "HUGGINGFACE_API_KEY"),
    ),
    _compatible("vercel", "https://ai-gateway.vercel.sh/v1", key_env=("AI_GATEWAY_API_KEY",)),
    _compatible("heroku", "https://us.inference.heroku.com/v1", key_env=("HEROKU_INFERENCE_KEY",)),
    _compatible("portkey", "https://api.portkey.ai/v1"),
    _compatible("ollama", "http://localhost:11434/v1", keyless=True),
    _compatible("vllm", "http://localhost:8000/v1", keyless=True, stream_usage=True),
    _compatible("lmstudio", "http://localhost:1234/v1", keyless=True),
    _compatible("llamacpp", "http://localhost:8080/v1", keyless=True),
    _compatible("gpustack", "http://localhost:80/v1"),
    # One host name an account: reachable live once the environment gives the URL.
    _compatible(
        "azure",
        "",
        dialects=("openai.chat", "openai.responses"),
        key_env=("AZURE_OPENAI_API_KEY",),
        url_env=("AZURE_OPENAI_ENDPOINT",),
        auth="api-key",
        stream_usage=True,
        renames={},
        hosts=("*.openai.azure.com", "*.services.ai.azure.com"),
    ),
    _compatible(
        "databricks",
        "",
        key_env=("DATABRICKS_TOKEN",),
        url_env=("DATABRICKS_BASE_URL",),
        hosts=("*.azuredatabricks.net", "*.cloud.databricks.com"),
    ),
    _compatible("snowflake", "", hosts=("*.snowflakecomputing.com",)),
    _compatible("cloudflare", "", key_env=("CLOUDFLARE_API_TOKEN",), hosts=("api.cloudflare.com",)),
)
"""Every provider known from the start; `Bridge(providers=[...])` adds rows."""


def rows_with(
    providers: Iterable[Provider],
    base_urls: Mapping[str, str],
    environ: Mapping[str, str],
    passthrough: Mapping[str, Iterable[str]] | None = None,
) -> list[Provider]:
    """The table with the user's rows, keys and URLs in it; a row replaces one of the table of the same name.

    Raises:
        ConfigurationError: a name that is none or is there twice, that no provider has, or an address that cannot be.
    """
    own = _named(providers)
    table = {row.name: row for row in (*PROVIDERS, *own.values())}
    for what, names in (("base_urls", base_urls), ("passthrough", passthrough or {})):
        for name in names:
            if name not in table:
                raise ConfigurationError(
                    f"{what} names {name!r}, which is no provider: there are {', '.join(table)}"
                )
    for name, paths in (passthrough or {}).items():
        table[name] = _passing(table[name], paths)
    rows = (row.configured(environ) for row in table.values())
    return [row.at(base_urls[row.name]) if row.name in base_urls else row for row in rows]


def _named(providers: Iterable[Provider]) -> dict[str, Provider]:
    """The user's rows by name, which stands in paths."""
    own: dict[str, Provider] = {}
    for row in providers:
        if not _NAME.fullmatch(row.name) or row.name in _TAKEN:
            raise ConfigurationError(
                f"{row.name!r} is no name of a provider: give lower-case letters and digits, with single"
                f" hyphens inside, but none of {', '.join(sorted(_TAKEN))}"
            )
        if row.name in own:
            raise ConfigurationError(
                f"the provider {row.name!r} is there twice: name one of them anew"
            )
        own[row.name] = row
    return own


def _passing(row: Provider, paths: Iterable[str]) -> Provider:
    if isinstance(paths, str):
        raise ConfigurationError(f"passthrough of {row.name!r} is {paths!r}: give a list of paths")
    more = tuple(paths)
    for path in more:
        if not path.startswith("/"):
            raise ConfigurationError(
                f"passthrough of {row.name!r} has {path!r}: give paths below its base URL, such as"
                " '/files', '/files/' with all that is below it, or '/' for everything"
            )
    return replace(row, passthrough=(*row.passthrough, *more))
