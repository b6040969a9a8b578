"""sweep.html in a real browser, opened from disk: narrow and wide, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from tests.browser import WIDTHS, fits, unreadable
from tests.chaos.report.test_report import HOSTILE
from tests.chaos.sweep import by_hand

from squall.chaos.report.sweep_page import SWEEP_REPORT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_reads_at_every_width(browser: Browser, tmp_path: Path, dark: bool) -> None:
    """The knee and its interval are told, each value has a dot and each run a row; the page logs nothing, asks for
    nothing but itself, never has to be scrolled sideways, and axe finds nothing that somebody could not read."""
    address = (by_hand.sweep_folder(tmp_path) / SWEEP_REPORT).as_uri()
    page = browser.new_page(color_scheme="dark" if dark else "light")
    said: list[str] = []
    asked: set[str] = set()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.add(request.url.partition(":")[0] + ":"))
    page.goto(address)
    expect(page.locator("h1")).to_contain_text("Knee found it breaks at rate", ignore_case=True)
    expect(page.locator(".key")).to_contain_text("95 % interval")
    expect(page.locator(".plot").first.locator(".dot")).to_have_count(len(by_hand.OUTCOMES))
    expect(page.locator("tbody tr")).to_have_count(len(by_hand.OUTCOMES))
    for width in WIDTHS:
        fits(page, width, "main")
        assert unreadable(page) == []
    page.close()
    assert said == []
    assert asked <= {"file:", "data:"}


def test_the_line_takes_the_colour_of_the_page(browser: Browser, tmp_path: Path) -> None:
    """It goes through what was decided alone, from one side of the knee to the other."""
    page = browser.new_page(color_scheme="light")
    page.goto((by_hand.sweep_folder(tmp_path) / SWEEP_REPORT).as_uri())
    lines = page.locator(".line")
    broke, slow = lines.evaluate_all("lines => lines.map(line => decodeURIComponent(getComputedStyle(line).maskImage))")
    assert '<path d="M0.0 100.00L111.1 100.00L222.2 0.00L333.3 0.00"' in broke
    assert slow.count("L") == 3
    colour = lines.first.evaluate("line => getComputedStyle(line).backgroundColor")
    assert colour == "rgb(37, 99, 196)"
    page.close()


def test_hostile_texts_of_a_sweep_stay_texts(browser: Browser, tmp_path: Path) -> None:
    """Names of scenarios, keys, invariants and runs."""
    made = by_hand.sweep((HOSTILE,), HOSTILE, HOSTILE, (HOSTILE,))
    page = browser.new_page()
    page.goto((by_hand.sweep_folder(tmp_path, made) / SWEEP_REPORT).as_uri())
    assert page.evaluate("typeof hostile") == "undefined"
    expect(page.locator("img, script, svg")).to_have_count(0)
    expect(page.locator("tbody")).to_contain_text("<script>hostile=1</script>")
    page.close()
