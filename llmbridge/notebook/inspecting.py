"""What a person at a notebook wants of a bridge: see what is under way, and stop it.

The widget and what it needs is imported when it is asked for.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from llmbridge.exchange.record import Interception, Store
from llmbridge.exchange.recorder import Recorder
from llmbridge.exchange.redact import Redactor
from llmbridge.exchange.stopping import Stops
from llmbridge.exchange.watching import Watchers
from llmbridge.frontends.portal import Portal

if TYPE_CHECKING:
    from llmbridge.notebook.control import Control
    from llmbridge.notebook.feed import Feed
    from llmbridge.notebook.widgets import Inspector


class Inspected:
    """What passes here can be watched and stopped."""

    def _inspect(
        self,
        watchers: Watchers,
        stops: Stops,
        recorder: Recorder,
        redactor: Redactor,
        store: Store,
        inflight: Mapping[str, Interception],
        portal: Portal,
    ) -> None:
        """Show what these know."""
        self._watchers = watchers
        self._stops = stops
        self._shown = (redactor, recorder.sent, store, inflight)
        self._door = portal
        self._away = False
        self._feed: Feed | None = None
        self._control: Control | None = None

    def live(self) -> "Inspector":
        """A widget that shows each interception while it streams, and steps through it afterwards.

        Raises:
            ConfigurationError: anywidget is not installed.
        """
        from llmbridge.notebook.control import Control  # noqa: PLC0415  # all of these: notebooks only
        from llmbridge.notebook.feed import Feed  # noqa: PLC0415
        from llmbridge.notebook.widgets import live  # noqa: PLC0415

        if self._feed is None:
            self._feed = Feed(self._watchers, *self._shown)
        if self._away:
            self._feed.close()
        elif self._control is None:
            self._control = Control(self._stops.stop)
            self._door.open().call(self._control.open)
            self._door.before_end(self._control.close)
        return live(self._feed, self._shown[2], self._stops.stop, self._control)

    def stop(self, interception: Interception | str) -> bool:
        """End an interception that is under way, from any thread, and let go of its upstream; False where it has ended."""
        return self._stops.stop(interception if isinstance(interception, str) else interception.id)

    def _look_away(self) -> None:
        """Show what is left, and nothing more."""
        self._away = True
        if self._feed is not None:
            self._feed.close()
