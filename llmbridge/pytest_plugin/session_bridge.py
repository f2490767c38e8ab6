"""A test's bridge: reached over the run's one server, and without a socket."""

from collections.abc import Mapping

from llmbridge.bridge import Bridge
from llmbridge.exchange.call import Handler
from llmbridge.frontends.variables import PLACEHOLDER_KEY, variables


class SessionBridge(Bridge):
    """A `Bridge` that holds this test's calls alone; the run's server at `url` leads to it while the test runs."""

    def __init__(
        self, upstream: Handler, url: str, key: str | None, environ: Mapping[str, str]
    ) -> None:
        super().__init__(upstream, environ=environ)
        self.url = url
        self._key = key or PLACEHOLDER_KEY

    def env(self) -> dict[str, str]:
        """The variables that lead SDKs to the server; they are set in this process already."""
        return variables(self.url, self._key)
