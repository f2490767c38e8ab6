"""The system's Chromium, headless, with nothing but this machine in reach."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Request

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
NO_CHROMIUM = (
    "needs Chromium: apt-get install chromium, or set LLMBRIDGE_CHROMIUM to the path of one"
)
# As root, in containers and without a graphics card; no name is looked up.
FLAGS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def chromium() -> str | None:
    """The path of the browser; None where there is none."""
    named = os.environ.get("LLMBRIDGE_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browser(path: str) -> Iterator["Browser"]:
    """One browser process, gone at the end of the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield launched
        finally:
            launched.close()


class Watched:
    """A browser context that notes what a page must not do: ask another host, open a dialog, fail in its scripts."""

    def __init__(self, context: "BrowserContext") -> None:
        self.context = context
        self._free: list[Page] = []
        self._trespasses: list[str] = []
        context.on("request", self._asked)
        context.on("dialog", self._dialog)
        context.on("weberror", lambda error: self._trespasses.append(f"error: {error.error}"))

    def page(self) -> "Page":
        """Another page of it."""
        return self._free.pop() if self._free else self.context.new_page()

    def trespasses(self) -> list[str]:
        """What was noted since this was asked last."""
        noted, self._trespasses = self._trespasses, []
        return noted

    def clear(self) -> None:
        """Let its pages be had again, empty: a new one is a process, and takes three times as long."""
        for page in self.context.pages:
            page.goto("about:blank")
        self._free = self.context.pages

    def _asked(self, request: "Request") -> None:
        url = urlsplit(request.url)
        if url.scheme in ("http", "https", "ws", "wss") and url.hostname != "127.0.0.1":
            self._trespasses.append(f"request: {request.url}")

    def _dialog(self, dialog: "Dialog") -> None:
        self._trespasses.append(f"dialog: {dialog.message}")
        dialog.dismiss()
