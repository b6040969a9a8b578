"""The browser that pages are looked at in: Debian's chromium, headless."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SIZES: list[ViewportSize] = [{"width": 375, "height": 800}, {"width": 1280, "height": 900}]

WIDTHS = (375, 768, 1440)
"""Of a phone, a tablet and a desk, pixels."""
HIGH = 900
READY_MS = 60_000
"""How long a page, or anything on it, may take to come."""


@contextlib.contextmanager
def headless(chromium: Path) -> Iterator[Browser]:
    """A browser that nobody sees, until it is left."""
    expect.set_options(READY_MS)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS) as browser,
    ):
        yield browser


@contextlib.contextmanager
def keeping(chromium: Path) -> Iterator[BrowserContext]:
    """The same, that keeps what it has compiled: a page that is loaded again costs half as much."""
    expect.set_options(READY_MS)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        sync_playwright() as playwright,
        playwright.chromium.launch_persistent_context(profile, executable_path=chromium, args=ARGUMENTS) as context,
    ):
        yield context


def unreadable(page: Page) -> list[str]:
    """What axe-core finds that somebody cannot read or reach."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = """axe.run({resultTypes: ["violations"]}).then(({violations}) => violations.map((one) =>
        `${one.id}: ${one.help} ${one.nodes.map((node) => node.html).join(" ").slice(0, 500)}`))"""
    problems: list[str] = page.evaluate(found)
    return problems


def fits(page: Page, width: int, within: str) -> None:
    """Make the page so wide, and wait until nothing in that part of it runs out sideways; but for what may scroll by
    itself."""
    page.set_viewport_size({"width": width, "height": HIGH})
    outside = f"""[...document.querySelectorAll({within!r})].flatMap(part => [...part.querySelectorAll("*")])
        .filter(one => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest("pre, .fan"))"""
    page.wait_for_function(
        f"innerWidth === {width} && document.documentElement.scrollWidth <= {width} && !{outside}.length"
    )
