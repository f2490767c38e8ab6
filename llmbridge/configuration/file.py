"""A file of settings as a tree: YAML, TOML or JSON; data alone."""

import tomllib
from pathlib import Path
from typing import Any

from llmbridge.errors import CassetteError, ConfigurationError
from llmbridge.stores.safe_load import is_object, safe_load

LIMIT_BYTES = 1024 * 1024


def tree_of(path: Path) -> dict[str, Any]:
    """What the file says.

    Raises:
        ConfigurationError: it cannot be read, or is no mapping.
    """
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
    except RecursionError as error:
        raise ConfigurationError(f"{path} is nested too deeply: write it flatter") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    if not is_object(tree):
        raise ConfigurationError(f"{path} is no mapping of names to values")
    return tree
