"""When the saved form of a widget is told anew."""

from typing import Any

import pytest

from llmbridge.notebook import fallback
from llmbridge.notebook.fallback import Fallback


class IPython:
    """As much of it as a fallback uses."""

    def __init__(self) -> None:
        self.after_cell: Any = None
        self.told: list[dict[str, Any]] = []
        self.events = self.display = self

    def get_ipython(self) -> "IPython":
        return self

    def register(self, name: str, run: Any) -> None:
        assert name == "post_run_cell"
        self.after_cell = run

    def unregister(self, name: str, run: Any) -> None:
        assert (name, run) == ("post_run_cell", self.after_cell)
        self.after_cell = None

    def __call__(self, bundle: dict[str, Any], **how: Any) -> "IPython":
        assert how == {"metadata": {"a": 1}, "raw": True, "display_id": True}
        return self

    def update(self, bundle: dict[str, Any], **how: Any) -> None:
        assert how == {"metadata": {"a": 1}, "raw": True}
        self.told.append(bundle)


class Widget:
    """What it shows and whether more may come."""

    def __init__(self) -> None:
        self.said = ""
        self.live = False


@pytest.fixture
def shown(monkeypatch: Any) -> tuple[Fallback, Widget, IPython]:
    ipython = IPython()
    monkeypatch.setattr(fallback, "import_module", lambda name: ipython)
    widget = Widget()
    made = Fallback(
        lambda: ({"text/html": widget.said}, {"a": 1}),
        lambda: widget.said,
        lambda: None,
        lambda: widget.live,
    )
    made.display()
    return made, widget, ipython


def test_it_is_told_when_a_cell_ends_and_something_has_changed(shown: Any) -> None:
    _, widget, ipython = shown

    ipython.after_cell()
    widget.said = "Hello"
    ipython.after_cell()
    ipython.after_cell(None)

    assert ipython.told == [{"text/html": "Hello"}]


def test_it_is_told_once_all_is_quiet_and_not_while_something_streams(shown: Any) -> None:
    made, widget, ipython = shown

    widget.said, widget.live = "Hel", True
    ipython.after_cell()
    while_live = made.refresh(1.0), len(ipython.told)
    widget.said, widget.live = "Hello", False
    soon = made.refresh(2.0), made.refresh(2.9)
    quiet = made.refresh(3.1), made.refresh(9.0)

    assert (while_live, soon, quiet) == ((True, 0), (False, False), (True, True))
    assert ipython.told == [{"text/html": "Hello"}]


def test_what_is_closed_is_told_once_more_and_then_never(shown: Any) -> None:
    made, widget, ipython = shown

    widget.said, widget.live = "Hel", True
    made.close()
    widget.said, widget.live = "Hello", False

    assert made.refresh(100.0)
    assert (ipython.told, ipython.after_cell) == ([{"text/html": "Hel"}], None)


def test_what_was_never_displayed_is_told_nobody() -> None:
    never = Fallback(lambda: ({}, {}), lambda: "new", lambda: None, lambda: False)

    assert never.refresh(100.0)
