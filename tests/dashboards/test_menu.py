"""The menu: which run it leads to, whether one sees where one is, and that it is out of the way on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from tests.browser import SIZES
from tests.chaos.report import folders
from tests.dashboards import made_runs
from tests.dashboards.browsing import dashboard, follow, looking, settled

pytestmark = pytest.mark.slow

NARROW, WIDE = SIZES
SIDE = '[data-testid="stSidebar"]'


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One run, with dead letters."""
    made_runs.by_hand(tmp_path / "runs", "dead", made_runs.dead_letter_folder)
    return tmp_path / "runs"


@pytest.fixture
def address(runs: Path, chromium: Path) -> Iterator[str]:
    """Where a dashboard of it is."""
    with dashboard(runs) as (_, told):
        yield told


def newer(runs: Path) -> None:
    """Another run is made, elsewhere."""
    made = made_runs.by_hand(runs, "lossy", folders.invalid_folder)
    made.rename(made.with_name("20260102-000000-abc123"))


def test_an_address_without_a_run_stays_at_the_newest_of_then(
    browser: BrowserContext, runs: Path, address: str
) -> None:
    """It is named in the address, so that a filter that is changed after another run was made is of the same one. And
    there is a way back."""
    with looking(browser, WIDE) as page:
        page.goto(address)
        settled(page)
        page.goto(f"{address}dead_letters")
        page.wait_for_url(re.compile(r"/dead_letters\?run=dead(/|%2F)"))
        settled(page)
        page.go_back()
        page.go_back()
        page.wait_for_url(address)
        page.goto(f"{address}dead_letters")
        page.wait_for_url(re.compile(r"/dead_letters\?run=dead(/|%2F)"))
        settled(page)
        newer(runs)
        page.get_by_label("Key contains").fill("7")
        page.keyboard.press("Enter")
        page.wait_for_url("**find=7*")
        settled(page)
        assert re.search(r"run=dead(/|%2F)", page.url)
        expect(page.locator("tbody tr")).to_have_count(1)
        for one in ("", "live", "sweeps"):
            page.goto(address + one)
            settled(page)
            assert page.url == address + one


def test_the_menu_leads_to_the_run_that_stands_above_it(browser: BrowserContext, runs: Path, address: str) -> None:
    """From a page whose address names none, too, though another run was made since."""
    with looking(browser, WIDE) as page:
        page.goto(address)
        settled(page)
        newer(runs)
        follow(page, "Flow")
        page.wait_for_url(re.compile(r"/flow\?run=dead(/|%2F)"))
        settled(page)
        expect(page.locator("h1")).to_have_text("Flow")


OUTLINE = "one => [getComputedStyle(one).outlineStyle, getComputedStyle(one).outlineWidth]"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_one_sees_where_one_is_in_the_menu(browser: BrowserContext, address: str, dark: bool) -> None:
    """By the keyboard: a link that has the focus looks otherwise than one that has not, the page's own too."""
    with looking(browser, WIDE, dark=dark) as page:
        page.goto(f"{address}flow?run=dead")
        settled(page)
        links = [page.locator(SIDE).get_by_role("link", name=name, exact=True) for name in ("Traces", "Flow")]
        links[0].focus()
        page.keyboard.press("Shift+Tab")
        for one in links:
            page.keyboard.press("Tab")
            expect(one).to_be_focused()
            assert one.evaluate(OUTLINE) == ["solid", "2px"]
        assert links[0].evaluate(OUTLINE)[0] == "none"


def folded(page: Page, *, away: bool) -> None:
    """Wait until the menu lies over the page, or does not."""
    expect(page.locator(SIDE)).to_have_attribute("data-collapsed", "true" if away else "false")


def test_on_a_phone_the_menu_is_folded_away_after_a_choice(browser: BrowserContext, runs: Path, address: str) -> None:
    """Of a page, or of another run, by touch; it stays where there is room for both."""
    newer(runs)
    with looking(browser, NARROW, touch=True) as page:
        page.goto(f"{address}flow?run=dead")
        settled(page)
        for choose in (one_page, one_run):
            page.locator('[data-testid="stExpandSidebarButton"]').tap()
            folded(page, away=False)
            page.wait_for_selector("html[data-links=followed]", state="attached")
            choose(page)
            folded(page, away=True)
            settled(page)
        page.wait_for_url(re.compile(r"/traces\?run=lossy(/|%2F)"))
    with looking(browser, WIDE) as page:
        page.goto(f"{address}flow?run=dead")
        follow(page, "Plugins")
        page.wait_for_url("**/plugins*")
        settled(page)
        folded(page, away=False)


def one_page(page: Page) -> None:
    """Traces, in the menu."""
    page.locator(SIDE).get_by_role("link", name="Traces", exact=True).tap()


def one_run(page: Page) -> None:
    """Another than the one that is looked at."""
    page.get_by_role("combobox", name="Run").click()
    page.get_by_role("option", name="lossy/").click()


def test_a_tab_is_told_apart_by_its_title(browser: BrowserContext, address: str) -> None:
    """The page, and the run where it is of one."""
    with looking(browser, WIDE) as page:
        for one, title in (
            ("", "Runs · squall"),
            ("flow?run=dead", "Flow · dead · squall"),
            ("overview", "Overview · dead/20260101-000000-abc123 · squall"),
        ):
            page.goto(address + one)
            settled(page)
            expect(page).to_have_title(title)


def test_what_is_no_page_says_so(browser: BrowserContext, address: str) -> None:
    """And leads to the pages that there are."""
    page = browser.new_page()
    answer = page.goto(f"{address}overvew")
    assert answer is not None
    assert answer.status == 404
    expect(page.locator("main")).to_contain_text("The dashboard has no page overvew")
    page.get_by_role("link", name="All runs").click()
    expect(page.locator("h1")).to_have_text("Runs")
    page.close()
