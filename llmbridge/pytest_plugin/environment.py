"""The variables that lead the SDKs to us, set and put back as they were."""

import os
from collections.abc import Mapping

_PROXIES = ("NO_PROXY", "no_proxy")


class Environment:
    """Sets variables of this process, and so of the programs that it starts; `restore` puts back what was there."""

    def __init__(self) -> None:
        self._before: dict[str, str | None] = {}

    def lead_to(self, url: str, key: str | None) -> None:
        """Point the SDKs to the bridge at `url`, with this key or one that opens nothing. Twice is once."""
        if self._before:
            return
        for name, value in _variables(url, key).items():
            self._before[name] = os.environ.get(name)
            os.environ[name] = value

    def restore(self) -> None:
        """Put everything back. Twice is once."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before = {}

    def real(self) -> Mapping[str, str]:
        """The environment without what was set here: with the user's keys and base URLs."""
        environ = {**os.environ, **self._before}
        return {name: value for name, value in environ.items() if value is not None}


def _variables(url: str, key: str | None) -> dict[str, str]:
    from llmbridge.frontends.variables import PLACEHOLDER_KEY, SDKS, variables  # noqa: PLC0415

    found = variables(url, key or PLACEHOLDER_KEY)
    # Frameworks read the older names, and some of them first.
    older = {name: found[row.url_env[0]] for row in SDKS for name in row.url_env[1:]}
    unproxied = {
        name: ",".join(filter(None, (os.environ.get(name), "127.0.0.1"))) for name in _PROXIES
    }
    return {**found, **older, **unproxied}
