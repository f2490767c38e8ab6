"""The pictures of the documentation are made of the real inspector, which can be read in both themes."""

from pathlib import Path

import pytest

from tests.browser import screenshots
from tests.browser.contrast import READABLE, hardest
from tests.browser.desk import Desk

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(300)]

PICTURES = ["inspector-dark.png", "inspector-light.png"]


def test_the_inspector_is_readable_and_its_pictures_are_small(desk: Desk, tmp_path: Path) -> None:
    screenshots.take(desk, tmp_path, speed=5)
    dark = hardest(desk, ".llmb *")
    desk.theme("Light")
    light = hardest(desk, ".llmb *")

    assert [theme for theme in (dark, light) if theme[0] < READABLE] == []
    taken = sorted(tmp_path.iterdir())
    assert [path.name for path in taken] == PICTURES
    assert [path for path in taken if not 5_000 < path.stat().st_size < 100_000] == []


def test_the_documentation_has_these_pictures() -> None:
    assert sorted(path.name for path in screenshots.IMAGES.iterdir()) == PICTURES
