"""The browser that pages are looked at in: Debian's chromium, headless."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SIZES: list[ViewportSize] = [{"width": 375, "height": 800}, {"width": 1280, "height": 900}]


@contextlib.contextmanager
def headless(chromium: Path) -> Iterator[Browser]:
    """A browser that nobody sees, until it is left."""
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS) as browser,
    ):
        yield browser
