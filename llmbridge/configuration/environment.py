"""Values of the environment in a file of settings, put in after it was read: none of them can add a key."""

import re
from collections.abc import Mapping
from typing import Any

from llmbridge.errors import ConfigurationError
from llmbridge.stores.safe_load import is_array, is_object

_REFERENCE = re.compile(r"\$\$|\$\{([^}]*)\}")
# A reference inside of another would end with the first brace.
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-((?:(?!\$\{).)*))?", re.DOTALL)
_GO_REFERENCE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


def expanded(path: str, value: Any, environ: Mapping[str, str], key: str = "") -> Any:
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
            name: expanded(path, inner, environ, f"{key}.{name}" if key else str(name))
            for name, inner in value.items()
        }
    if is_array(value):
        return [expanded(path, x, environ, f"{key}[{i}]") for i, x in enumerate(value)]
    return value


def expanded_as_go(tree: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """As bitop does it: `$NAME` too, and a variable that is not set is empty; an empty value is none."""

    def variable(found: re.Match[str]) -> str:
        return environ.get(found[1] or found[2], "")

    expanded = {
        key: _GO_REFERENCE.sub(variable, value) if isinstance(value, str) else value
        for key, value in tree.items()
    }
    return {key: value for key, value in expanded.items() if value not in ("", None)}
