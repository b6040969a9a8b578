"""The dashboard as a process of its own, and a browser that looks at it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, ViewportSize, expect
from tests.browser import READY_MS

STOP_S = 30.0


@contextlib.contextmanager
def dashboard(
    runs: Path, env: Mapping[str, str] | None = None, options: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`squall dashboard` on a free port, and the address that it told; stopped as Ctrl-C stops it. env: instead of the
    tests' own environment. options: further ones."""
    command = [sys.executable, "-m", "squall", "dashboard", "--runs", str(runs), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True)
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        if "http://" not in told:
            process.kill()
            raise AssertionError(f"it did not start: {told}{process.communicate()[1]}")
        process.stdout.readline()
        yield process, told.split()[2]
    finally:
        stop(process, signal.SIGINT)


def stop(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """End it by a signal, and wait for that. Raises TimeoutExpired after STOP_S; then it is killed."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.communicate(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


@contextlib.contextmanager
def looking(browser: BrowserContext, size: ViewportSize, *, dark: bool = False, touch: bool = False) -> Iterator[Page]:
    """A page that fails its test when it logs anything, raises, or asks anybody but the dashboard for something. What
    a page before has stored in the browser is not there."""
    context = browser
    if touch:  # is for a whole context
        assert browser.browser is not None
        context = browser.browser.new_context(has_touch=True)
    page = context.new_page()
    page.set_viewport_size(size)
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.set_default_timeout(READY_MS)
    complaints: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: hosts.add(asked.url.partition("://")[2].partition("/")[0].partition(":")[0]))
    try:
        yield page
    finally:
        stored = {"origin": origin(page), "storageTypes": "cookies,local_storage"}
        context.new_cdp_session(page).send("Storage.clearDataForOrigin", stored)
        page.close()
        if context is not browser:
            context.close()
    assert complaints == []
    assert hosts - {""} <= {"127.0.0.1"}, hosts


def origin(page: Page) -> str:
    """Whose the page is: scheme, host and port."""
    return "/".join(page.url.split("/")[:3])


def settled(page: Page) -> None:
    """Wait until the script behind the page has run to its end, and the page shows what it said."""
    page.wait_for_selector(".stHtml h1")
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    expect(page.locator('[data-testid="stSpinner"]')).to_have_count(0)


def follow(page: Page, name: str) -> None:
    """Click a link once the page follows its links by itself."""
    settled(page)
    page.wait_for_selector("html[data-links=followed]", state="attached")
    page.get_by_role("link", name=name).click()


def keep(page: Page, name: str) -> None:
    """Keep a picture of the whole page, where SQUALL_PICTURES names a folder for them."""
    folder = os.environ.get("SQUALL_PICTURES")
    if folder is None:
        return
    with unrolled(page):
        page.wait_for_timeout(500)  # charts are drawn anew
        Path(folder, f"{name}.png").write_bytes(page.screenshot())


@contextlib.contextmanager
def unrolled(page: Page) -> Iterator[None]:
    """The whole page in sight: of what one has to scroll to, axe says nothing of the contrast."""
    size = page.viewport_size or {"width": 1280, "height": 900}
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": min(int(height), 6000)})
    yield
    page.set_viewport_size(size)
