"""The report in a real browser, opened from disk: narrow and wide, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.browser import SIZES, WIDTHS, fits
from tests.chaos.report import folders
from tests.chaos.report.test_report import HOSTILE

from squall.chaos.composition import Composed, Entry, save_composed
from squall.chaos.report import write_report
from squall.chaos.run_folder import COMPOSED

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that fails its test when it logs anything, raises, or asks for more than its file."""
    size, dark = getattr(request, "param", (SIZES[1], False))
    page = browser.new_page(viewport=size, color_scheme="dark" if dark else "light")
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: requests.append(asked.url))
    yield page
    page.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [
        url for url in requests if url.endswith("/report.html")
    ][:1]


@pytest.mark.parametrize("page", [(size, dark) for size in SIZES for dark in (False, True)], indirect=True)
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (folders.valid_folder, "60 acknowledged events, none lost"),
        (folders.invalid_folder, "2 of 40 acknowledged events were lost"),
        (folders.unknown_folder, "interrupted after 1.2 of 5s of load"),
        (folders.unfinished_folder, "It was ended before it was judged"),
        (folders.empty_folder, "no publish was acknowledged"),
    ],
)
def test_it_reads_at_every_width(page: Page, make: Callable[[Path], Path], told: str, tmp_path: Path) -> None:
    """The verdict is on the first screen, and nothing has to be scrolled sideways."""
    page.goto(write_report(make(tmp_path)).as_uri())
    headline = page.locator("h1")
    expect(headline).to_contain_text(told, ignore_case=True)
    expect(headline).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]  # type: ignore[index]
    outside = "all => all.filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('pre')).length"
    assert page.locator("main *").evaluate_all(outside) == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_names_are_not_broken_in_the_middle(page: Page, tmp_path: Path, width: int) -> None:
    """However long what stands beside them is: of plugins, faults, invariants and subscribers."""
    folder = folders.valid_folder(tmp_path)
    options = {f"an_option_of_a_plugin_{number}": "a value that is long" for number in range(12)}
    plugins = tuple(Entry(name, ("gate", "observer"), "", options) for name in ("breaker", "metrics", "redis_streams"))
    made = Composed(plugins, ("kernel's checks", "route", "sqlite"), {"billing": ("breaker", "handler", "retry")}, 1.0)
    save_composed(made, folder / COMPOSED)
    page.goto(write_report(folder).as_uri())
    fits(page, width, "main")
    lines = """heads => heads.filter(head => {
        const name = document.createRange();
        const text = document.createTreeWalker(head, NodeFilter.SHOW_TEXT);
        while (text.nextNode()) {
            if (text.currentNode.data.trim().length < 3 || text.currentNode.parentElement.tagName === "SMALL") continue;
            name.selectNodeContents(text.currentNode);
            if (name.getClientRects().length > 1 && !text.currentNode.data.trim().includes(" ")) return true;
        }
    }).map(head => head.innerText)"""
    heads = page.locator("tbody th[scope=row]")
    assert heads.evaluate_all(lines) == []
    assert {"breaker", "metrics", "redis_streams", "errors"} <= {
        text.partition("\n")[0] for text in heads.all_inner_texts()
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_scheme_and_can_be_read_in_it(browser: Browser, scheme: str, tmp_path: Path) -> None:
    """Every text stands out from what is behind it: a contrast of at least 4.5, as WCAG 2 asks."""
    page = browser.new_page(color_scheme="light" if scheme == "light" else "dark")
    page.goto(write_report(folders.invalid_folder(tmp_path)).as_uri())
    worst = page.evaluate(
        """() => {
            const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
            const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
            const parts = (text) => text.match(/[0-9.]+/g).map(Number);
            const behind = (e) => {
                for (; e; e = e.parentElement) {
                    const colour = parts(getComputedStyle(e).backgroundColor);
                    if (colour.length === 3 || colour[3] === 1) return colour;
                }
            };
            const says = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
            const texts = [...document.querySelectorAll("body :not(script)")].filter(says);
            return Math.min(...texts.map((e) => {
                const [a, b] = [light(parts(getComputedStyle(e).color)), light(behind(e))];
                return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            }));
        }"""
    )
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)[0] < 128")
    page.close()
    assert dark == (scheme == "dark")
    assert worst >= 4.5


def test_the_pointer_shows_one_moment_on_all_charts(page: Page, tmp_path: Path) -> None:
    """Legends tell its values while it is over a chart, and the sums again afterwards; the arrow keys do the same."""
    page.goto(write_report(folders.valid_folder(tmp_path)).as_uri())
    plot, value = page.locator(".plot").first, page.locator(".legend .value").nth(1)
    expect(value).to_have_text("60 events")
    plot.hover(position={"x": 40, "y": 40})
    expect(value).to_have_text("100/s")
    assert page.locator(".cursor:visible").count() == page.locator(".plot").count() == 3
    page.mouse.move(0, 0)
    expect(value).to_have_text("60 events")
    plot.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".moment")).to_have_text("0.00 s")
    page.keyboard.press("Escape")
    assert page.locator(".cursor:visible").count() == 0


def test_hostile_names_stay_texts(page: Page, tmp_path: Path) -> None:
    """A browser runs nothing of what a run contains."""
    folder = folders.hostile_folder(tmp_path, HOSTILE)
    page.goto(write_report(folder).as_uri())
    page.locator(".plot").first.hover()
    assert page.evaluate("typeof hostile") == "undefined"
    expect(page.locator("img")).to_have_count(0)
    expect(page.locator("#faults")).to_contain_text("<script>hostile=1</script>")
