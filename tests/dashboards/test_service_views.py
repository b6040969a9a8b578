"""Dead letters of a running service in a real browser: looked at, and given back, the whole way.

With SQUALL_PICTURES=DIR pictures are kept there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from tests.browser import SIZES, fits, unreadable
from tests.chaos.report import folders
from tests.chaos.report.test_report import HOSTILE as MARKUP
from tests.dashboards.a_service import ENV, ask, bury, delivered, serving
from tests.dashboards.browsing import dashboard, follow, keep, looking, settled, unrolled

pytestmark = pytest.mark.slow

NARROW, WIDE = SIZES
WIDTHS = (375, 768, 1280)
MAIN = '[data-testid="stMain"]'
HOSTILE = f"{MARKUP}🎉\u202eevil\x1b[31m[link](javascript:hostile=1) :red[x] $$y$$"
SOURCE = "dead_letters?source=service"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dashboard of a service whose letters would do something if they were more than text."""
    folder = tmp_path_factory.mktemp("hostile")
    folders.valid_folder(folder / "runs")
    long = HOSTILE + "x" * 1_000_000
    events = (("order.created", {HOSTILE: HOSTILE}), ("order.paid", long), ("user.born", b"\x00\xff"))
    bury(folder, *events, error=HOSTILE, key=MARKUP, metadata={MARKUP: HOSTILE})
    options = ("--token", "env:BUS_TOKEN", "--allow-changes")
    with (
        serving(folder) as (_, url),
        dashboard(folder / "runs", {**os.environ, **ENV}, ("--service", url, *options)) as (_, address),
    ):
        yield address


def dry_run(page: Page) -> None:
    """Ask for it, and wait for what it shows."""
    page.get_by_role("button", name="Dry run").click()
    expect(page.locator(MAIN)).to_contain_text("Nothing was.")
    settled(page)


@pytest.mark.parametrize(("size", "dark"), [(WIDE, False), (NARROW, True)], ids=["wide-light", "narrow-dark"])
@pytest.mark.parametrize("view", ["list", "letter", "binary", "none", "mistake"])
def test_what_a_service_gave_up_is_text_that_can_be_read(
    browser: BrowserContext, hostile: str, view: str, size: dict[str, int], dark: bool
) -> None:
    """Markup, scripts, turned directions and a megabyte: shown, cut, never done; on a phone and at a desk."""
    query, says = {
        "list": ("", "3 dead letters of squall serve"),
        "letter": ("&seq=1", "<script>hostile=1</script>"),
        "binary": ("&seq=3", "0000 00 ff"),
        "none": ("&reason=timeout", "fits"),
        "mistake": ("&pattern=a..b", "This cannot be asked for"),
    }[view]
    with looking(browser, size, dark=dark) as page:  # type: ignore[arg-type]
        page.goto(f"{hostile}{SOURCE}{query}")
        settled(page)
        expect(page.locator(MAIN)).to_contain_text(says)
        if view == "list":
            dry_run(page)
        with unrolled(page):
            assert unreadable(page) == []
        assert page.evaluate("typeof hostile") == "undefined"
        expect(page.locator(f"{MAIN} .stHtml :is(img, script, svg, a[href^=javascript])")).to_have_count(0)
        shown = page.locator(MAIN).inner_text()
        assert len(shown) < 200_000
        assert not {"\u202e", "\x1b"} & set(shown)
        for width in WIDTHS:
            fits(page, width, MAIN)
        page.set_viewport_size(size)  # type: ignore[arg-type]
        keep(page, f"service-{view}-{'narrow' if size is NARROW else 'wide'}-{'dark' if dark else 'light'}")


def test_dead_letters_are_given_back_the_whole_way(browser: BrowserContext, tmp_path: Path) -> None:
    """From the page of a run to the service, to one letter and back, a filter, a dry run, the password: just those are
    given back, and delivered to who gave them up."""
    folders.valid_folder(tmp_path / "runs")
    bury(tmp_path, ("order.created", {"total": 5}), ("user.born", {"name": "Ada"}), ("order.paid", {"total": 7}))
    with serving(tmp_path) as (_, url):
        options = ("--service", url, "--token", "env:BUS_TOKEN", "--allow-changes")
        with (
            dashboard(tmp_path / "runs", {**os.environ, **ENV}, options) as (process, address),
            looking(browser, WIDE) as page,
        ):
            assert process.stdout is not None
            process.stdout.readline()
            password = process.stdout.readline().split()[-1]
            main = page.locator(MAIN)
            page.goto(f"{address}dead_letters")
            follow(page, "Of the service, now")
            page.wait_for_url(f"{address}{SOURCE}")
            expect(main).to_contain_text("3 dead letters of squall serve")
            follow(page, "user.born 2")
            page.wait_for_url(re.compile("seq=2"))
            expect(main).to_contain_text('"name": "Ada"')
            follow(page, "All dead letters of the service")
            expect(main).to_contain_text("3 dead letters of squall serve")
            settled(page)
            page.get_by_label("Types").fill("order.*")
            page.keyboard.press("Enter")
            page.wait_for_url(re.compile(r"pattern=order\.(\*|%2A)"))
            expect(main).to_contain_text("2 dead letters of squall serve")
            settled(page)
            dry_run(page)
            expect(main).to_contain_text("2 dead letters would be given back. Nothing was.")
            page.get_by_label("Password").fill("a guess")
            page.keyboard.press("Enter")  # gives nothing back: a button does
            settled(page)
            expect(main.get_by_role("alert")).to_have_count(0)
            page.get_by_role("button", name="Give these 2 back").click()
            expect(main.get_by_role("alert")).to_contain_text("this is not the password")
            settled(page)
            assert unreadable(page) == []
            keep(page, "service-password")
            page.get_by_label("Password").fill(password)
            page.get_by_role("button", name="Give these 2 back").click()
            expect(main).to_contain_text("2 dead letters given back")
            settled(page)
            assert unreadable(page) == []
            keep(page, "service-given-back")
            assert password not in page.url + page.content()
            assert ENV["BUS_TOKEN"] not in page.url + page.content()
        letters = ask(url)["dead_letters"]
        assert [(one["seq"], one["given_back"] is None) for one in letters] == [(1, False), (2, True), (3, False)]
    assert sorted(delivered(tmp_path, 2)) == [1, 3]


def test_a_service_that_is_gone_is_told(browser: BrowserContext, tmp_path: Path) -> None:
    """Of what is asked, and of the list: each says what to do, and a button asks again."""
    folders.valid_folder(tmp_path / "runs")
    bury(tmp_path, ("order.created", {"total": 5}))
    with serving(tmp_path) as (process, url):
        options = ("--service", url, "--token", "env:BUS_TOKEN")
        with (
            dashboard(tmp_path / "runs", {**os.environ, **ENV}, options) as (_, address),
            looking(browser, WIDE) as page,
        ):
            page.goto(f"{address}{SOURCE}")
            expect(page.locator(MAIN)).to_contain_text("1 dead letter of squall serve")
            settled(page)
            process.terminate()
            process.wait()
            page.get_by_role("button", name="Dry run").click()
            expect(page.get_by_role("alert").first).to_contain_text("is it running there?")
            expect(page.locator(MAIN)).to_contain_text("The dry run did not come about")
            settled(page)
            expect(page.get_by_role("button", name="Ask again")).to_be_visible()
            assert unreadable(page) == []
            keep(page, "service-gone")
