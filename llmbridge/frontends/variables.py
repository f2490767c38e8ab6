"""The environment variables that lead the providers' SDKs to a bridge."""

from collections.abc import Iterable

from llmbridge.providers import PROVIDERS, Provider

PLACEHOLDER_KEY = "llmbridge"
"""What clients send where a key must be given and none is needed."""

SDKS = tuple(
    row for row in PROVIDERS if row.name in ("anthropic", "openai", "google", "openrouter")
)


def variables(url: str, key: str, providers: Iterable[Provider] = SDKS) -> dict[str, str]:
    """Base URLs below `url`, and this key."""
    found: dict[str, str] = {}
    for row in providers:
        for name in row.url_env[:1]:
            found[name] = f"{url}/{row.name}{row.prefix}"
        for name in row.key_env[:1]:
            found[name] = key
    return found
