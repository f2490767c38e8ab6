"""Cassettes that no test has any more: nobody's by name, and opened by nobody in this run."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from llmbridge.pytest_plugin.options import MARKER
from llmbridge.pytest_plugin.places import cassette_of

_SUFFIXES = (".yaml", ".yml", ".json")


class Orphans:
    """Notes what belongs to the collected tests, and which files are opened while they run.

    A folder of a module that is there but was not collected is left alone; with tests deselected nothing is told.
    """

    def __init__(self) -> None:
        self.partly = False
        self.candidates: set[str] = set()
        self.opened: set[str] = set()
        self._watching = True
        # There is no way to take a hook of this kind off again.
        sys.addaudithook(self._heard)

    def look(self, items: Iterable[pytest.Item], asked: Iterable[str]) -> None:
        """The collection is complete; `asked` are the arguments that it was made from."""
        self.partly = self.partly or any("::" in argument for argument in asked)
        modules: dict[Path, set[str]] = {}
        owned: set[Path] = set()
        for item in items:
            modules.setdefault(item.path.parent, set()).add(item.path.stem)
            owned.update(_owned_by(item))
        for folder, stems in modules.items():
            for place in _folders(folder / "cassettes"):
                if place.name not in stems and (folder / f"{place.name}.py").exists():
                    continue
                files = (path for path in place.rglob("*") if path.name.endswith(_SUFFIXES))
                self.candidates.update(str(path) for path in files if path not in owned)

    def close(self) -> None:
        """Listen no more."""
        self._watching = False

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching or event != "open":
            return
        # What a Path opens is a string here, too.
        if isinstance(arguments[0], str) and arguments[0].endswith(_SUFFIXES):
            self.opened.add(str(Path(arguments[0]).absolute()))


def _folders(cassettes: Path) -> list[Path]:
    return (
        sorted(path for path in cassettes.iterdir() if path.is_dir()) if cassettes.is_dir() else []
    )


def _owned_by(item: pytest.Item) -> Iterable[Path]:
    """Where this test's cassettes lie, ours and pytest-recording's."""
    names = [mark.args[0] for mark in item.iter_markers(MARKER) if mark.args]
    names += [mark.kwargs["name"] for mark in item.iter_markers(MARKER) if "name" in mark.kwargs]
    yield cassette_of(item, None)
    for name in names:
        yield cassette_of(item, str(name))
    folder = item.path.parent / "cassettes" / item.path.stem
    for mark in item.iter_markers("vcr"):
        for name in mark.args:
            yield folder / str(name)
            yield Path(str(name)).absolute()
