"""The static form of a widget, kept up to date: it is what a saved notebook, an export and a preview show.

A notebook keeps what was displayed first, when nothing had come yet. So it is told anew when a cell ends, and when all is
quiet; never while something streams, since a front end may draw the widget again for it.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

Bundle = tuple[dict[str, Any], dict[str, Any]]
"""The forms of a widget by MIME type, and what a front end such as Colab has to know of them."""

QUIET_S = 1.0
MAX_HANDLES = 8


class Fallback:
    """Where a widget was displayed. `state` tells by its value whether something has changed."""

    def __init__(
        self,
        bundle: Callable[[], Bundle],
        state: Callable[[], object],
        read: Callable[[], object],
        live: Callable[[], bool],
    ) -> None:
        self._bundle = bundle
        self._state = state
        self._read = read
        self._live = live
        self._handles: list[Any] = []
        self._events: Any = None
        self._shown: object = None
        self._seen: object = None
        self._since_s = 0.0

    def display(self) -> None:
        """Show it below the cell that runs."""
        # IPython asked for this, so it is there. It leaves these without types.
        ipython: Any = import_module("IPython")
        shell = ipython.get_ipython()
        if shell is not None and self._events is None:
            self._events = shell.events
            self._events.register("post_run_cell", self._after_cell)
        self._read()
        self._shown = self._state()
        data, about = self._bundle()
        handle = ipython.display.display(data, metadata=about, raw=True, display_id=True)
        self._handles = [*self._handles, handle][-MAX_HANDLES:]

    def refresh(self, now_s: float) -> bool:
        """Tell what has changed once it is quiet; True when nothing is left to tell."""
        state = self._state()
        if self._live() or not self._handles or state == self._shown:
            return True
        if state != self._seen:
            self._seen, self._since_s = state, now_s
        if now_s < self._since_s + QUIET_S:
            return False
        self._tell(state)
        return True

    def close(self) -> None:
        """Tell it for the last time."""
        if self._events is not None:
            self._events.unregister("post_run_cell", self._after_cell)
            self._events = None
        self._tell(self._state())
        self._handles = []

    def _after_cell(self, *_: object) -> None:
        self._read()
        state = self._state()
        if state != self._shown and not self._live():
            self._tell(state)

    def _tell(self, state: object) -> None:
        self._shown = state
        for handle in self._handles:
            data, about = self._bundle()
            handle.update(data, metadata=about, raw=True)
