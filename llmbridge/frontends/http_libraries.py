"""Which of the two HTTP libraries a client stands on: httpx2, or httpx, from which it came."""

import importlib
from types import ModuleType

from llmbridge.errors import ConfigurationError


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
