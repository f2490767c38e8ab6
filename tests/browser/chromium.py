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
        self.trespasses: list[str] = []
        context.on("request", self._asked)
        context.on("dialog", self._dialog)
        context.on("weberror", lambda error: self.trespasses.append(f"error: {error.error}"))

    def page(self) -> "Page":
        """Another page of it."""
        return self.context.new_page()

    def _asked(self, request: "Request") -> None:
        url = urlsplit(request.url)
        if url.scheme in ("http", "https", "ws", "wss") and url.hostname != "127.0.0.1":
            self.trespasses.append(f"request: {request.url}")

    def _dialog(self, dialog: "Dialog") -> None:
        self.trespasses.append(f"dialog: {dialog.message}")
        dialog.dismiss()
