"""Which of the two HTTP libraries a client stands on: httpx2, or httpx, from which it came."""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from llmbridge.errors import ConfigurationError
from llmbridge.frontends.variables import PLACEHOLDER_KEY
from llmbridge.providers import PROVIDERS


def is_httpx(module: ModuleType | None) -> bool:
    """True for the older one; None stands for httpx2.

    Raises:
        ConfigurationError: it is neither.
    """
    name = getattr(module, "__name__", module)
    if name in (None, "httpx2"):
        return False
    if name == "httpx":
        return True
    raise ConfigurationError(f"no transport for {name!r}: give the module httpx2 or httpx")


def library_of(sdk: ModuleType) -> ModuleType:
    """httpx2 for anthropic from 1 and openai from 3, httpx for the SDKs before."""
    major = int(str(getattr(sdk, "__version__", "0")).partition(".")[0])
    first = {"anthropic": 1, "openai": 3}[sdk.__name__]
    return importlib.import_module("httpx2" if major >= first else "httpx")


def sdk_arguments(
    provider: str, module: ModuleType, transport: Any, options: Mapping[str, Any], *, sync: bool
) -> dict[str, Any]:
    """Keyword arguments for an SDK client: no key of ours, the provider's own address, this transport."""
    row = next(row for row in PROVIDERS if row.name == provider)
    client = module.Client if sync else module.AsyncClient
    return {
        "api_key": PLACEHOLDER_KEY,
        "base_url": row.base_url,
        "http_client": client(transport=transport),
        **options,
    }
