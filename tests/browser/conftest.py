"""One JupyterLab and one browser for all of these tests; both are gone when they are through."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import NO_CHROMIUM, Watched, browser, chromium
from tests.browser.desk import Desk
from tests.browser.jupyter import Lab, jupyterlab

if TYPE_CHECKING:
    from playwright.sync_api import Browser

INSTALL = "needs {}: pip install -e '.[dev]'"


# Playwright's loop counts as running until it is let go of, so it must not outlive this package.
@pytest.fixture(scope="package")
def chrome() -> Iterator["Browser"]:
    pytest.importorskip("playwright.sync_api", reason=INSTALL.format("Playwright"))
    path = chromium()
    if path is None:
        pytest.skip(NO_CHROMIUM)
    with browser(path) as launched:
        yield launched


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    pytest.importorskip("jupyterlab", reason=INSTALL.format("JupyterLab"))
    with jupyterlab(tmp_path_factory.mktemp("jupyter")) as running:
        yield running


@pytest.fixture(scope="package")
def window(chrome: "Browser") -> Iterator[Watched]:
    """A window that all tests share; what a page in it must not do fails the test that sees it."""
    context = chrome.new_context(viewport={"width": 1200, "height": 900})
    yield Watched(context)
    context.close()


@pytest.fixture(scope="package")
def blank(chrome: "Browser") -> Iterator[Watched]:
    """Likewise, for pages of a test's own."""
    context = chrome.new_context(viewport={"width": 1200, "height": 900})
    yield Watched(context)
    context.close()


@pytest.fixture
def watched(blank: Watched) -> Iterator[Watched]:
    """Pages that must not ask other hosts, open dialogs or fail in their scripts."""
    yield blank
    blank.clear()
    assert blank.trespasses() == []


@pytest.fixture(scope="package")
def lab_page(window: Watched, lab: Lab) -> Desk:
    """JupyterLab takes seconds to load, so it is loaded once."""
    return Desk(lab, window)


@pytest.fixture(scope="module")
def desk(lab_page: Desk, window: Watched) -> Iterator[Desk]:
    """A page of JupyterLab; the tests of a module open one notebook after another in it."""
    yield lab_page
    lab_page.close()
    assert window.trespasses() == []
