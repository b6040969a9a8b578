"""Every view in a real browser: its URL, what it says, its silence, and whether everybody can read it.

With SQUALL_PICTURES=DIR a picture of each is kept there.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, ImageStat
from playwright.sync_api import BrowserContext, Locator, Page, ViewportSize, expect
from tests.browser import SIZES, WIDTHS, fits, unreadable
from tests.chaos.report import folders
from tests.chaos.sweep import by_hand
from tests.chaos.test_live_file import write
from tests.dashboards.browsing import dashboard, follow, keep, looking, settled, unrolled
from tests.dashboards.made_runs import HOSTILE_SWEEP
from tests.dashboards.made_spans import TRACE, span
from tests.dashboards.made_spans import write as write_spans

from squall.chaos.run_folder import LIVE, VERDICT

pytestmark = pytest.mark.slow

NARROW, WIDE = SIZES
ROOT = Path(__file__).resolve().parents[2]
MAIN = '[data-testid="stMain"]'


@dataclass(frozen=True)
class View:
    """A view: the address at which it is shared, and texts that stand on it."""

    name: str
    address: str
    says: tuple[str, ...]


VIEWS = [
    View("runs", "", ("Runs", "11 runs, newest first", "short/", "lossy/", "unreadable")),
    View("overview", "overview?run=short", ("acknowledged events", "Over time", "no_loss", "errors", "billing")),
    View("overview-invalid", "overview?run=lossy", ("Invalid", "2 of 40 acknowledged events were lost", "Why")),
    View("overview-unfinished", "overview?run=unfinished", ("It was ended before it was judged", "Over time")),
    View("overview-idle", "overview?run=idle", ("Nothing was recorded",)),
    View("traces", "traces?run=short&order=most+tried", ("Traces", "20 events", "spans")),
    View("trace", "traces?run=dead&event=7", ("Dead-lettered for billing", "attempt 3", "given up", "under errors")),
    View(
        "trace-lost",
        "traces?run=forgotten-by-redis&event=17",
        ("process redis exited", "owed to audit, never delivered"),
    ),
    View("traces-lost", "traces?run=lossy", ("20 events", "never handled")),
    View("spans", "traces?run=traced&source=spans&why=failed", ("told by the tracer", "20 traces", "spans")),
    View("service-traces", "service_traces", ("Service traces", "2 traces", "spans", "Which", "Written until")),
    View(
        "service-trace",
        f"service_traces?trace={TRACE}",
        ("publish bill.made", "ledger · redrive", "no ledger <script>"),
    ),
    View("flow", "flow?run=short", ("Flow", "order.created", "billing", "dead-lettered")),
    View("dead-letters", "dead_letters?run=short", ("Dead letters", "billing", "failed", "errors")),
    View("service-gone", "dead_letters?source=service", ("The service tells nothing just now", "is it running there?")),
    View("sweeps", "sweeps", ("Sweeps", "2 sweeps, newest first", "Knee found", "capacity over rate")),
    View("sweep", f"sweeps?sweep={by_hand.NAME}", ("it breaks at rate", "The curve", "70 of 100 events", "swept/2026")),
    View("compare-real", "compare?run=short", ("Compare", "plugin retry")),
    View("compare", "compare?run=lossy&a=dead&b=lossy", ("Compare", "no_loss", "marked", "Both ran the same text")),
    View("plugins", "plugins?run=short", ("Publishing", "Delivering to billing, audit", "retry", "attempts 2")),
    View("live", "live", ("Live", "No run goes on now")),
]


@pytest.fixture(scope="module")
def address(runs: Path, service: Path, chromium: Path) -> Iterator[str]:
    """Where a dashboard of those runs, of what a service traced, and of one that is not there, is, for all tests."""
    options = ("--spans", str(service), "--service", "http://127.0.0.1:1", "--allow-changes")
    with dashboard(runs, options=options) as (_, told):
        address, page, _ = told.partition("service_traces")
        assert page
        yield address


PICTURE = "canvas => canvas.toDataURL()"


def changed(plot: Locator, before: str) -> str:
    """The canvas's picture, once it is another one than before."""
    handle = plot.element_handle()
    plot.page.wait_for_function("([canvas, before]) => canvas.toDataURL() !== before", arg=[handle, before])
    picture: str = plot.evaluate(PICTURE)
    return picture


def texts(page: Page) -> str:
    """All that stands in the main part."""
    return page.locator(MAIN).inner_text()


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_a_view_opens_by_its_address_and_can_be_read(browser: BrowserContext, address: str, view: View) -> None:
    """It says what it is for, nothing runs out of it sideways, and axe finds nothing that somebody could not read: on a
    desk by day, at any width, and when it is on a phone and night falls."""
    with looking(browser, WIDE) as page:
        page.goto(address + view.address)
        settled(page)
        for text in view.says:
            expect(page.locator(MAIN)).to_contain_text(text, ignore_case=True)
        for width in WIDTHS:
            fits(page, width, MAIN)
        _is_read(page, WIDE, view.name, "light")
        page.emulate_media(color_scheme="dark")
        _is_dark(page)
        _is_read(page, NARROW, view.name, "dark")
        assert page.url == address + view.address


@pytest.mark.parametrize("name", ["overview", "flow", "compare-real"])
def test_it_may_be_opened_at_night_on_a_phone(browser: BrowserContext, address: str, name: str) -> None:
    """Those with charts: what they are drawn in is known only when the page is there."""
    (view,) = [one for one in VIEWS if one.name == name]
    with looking(browser, NARROW, dark=True) as page:
        page.goto(address + view.address)
        _is_dark(page)
        for text in view.says:
            expect(page.locator(MAIN)).to_contain_text(text, ignore_case=True)
        _is_read(page, NARROW, f"{name}-opened", "dark")


def _is_dark(page: Page) -> None:
    """Charts too have been drawn so."""
    page.wait_for_selector("html[data-scheme=dark]", state="attached")
    settled(page)


def _is_read(page: Page, size: ViewportSize, name: str, scheme: str) -> None:
    fits(page, size["width"], MAIN)
    with unrolled(page):
        assert unreadable(page) == []
    keep(page, f"{name}-{'narrow' if size is NARROW else 'wide'}-{scheme}")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_heading_is_not_covered(browser: BrowserContext, address: str, width: int) -> None:
    """By the bar at the top, which is there where the side is folded away."""
    with looking(browser, {"width": width, "height": 900}) as page:
        page.goto(f"{address}plugins?run=dead")
        settled(page)
        page.locator("h1").click(position={"x": 2, "y": 2}, trial=True)


def test_a_phone_is_told_of_no_wheel(browser: BrowserContext, address: str) -> None:
    """Nor of a keyboard; a desk is."""
    for size, told in ((NARROW, False), (WIDE, True)):
        with looking(browser, size) as page:
            for view in ("traces?run=dead&event=7", "overview?run=dead"):
                page.goto(address + view)
                settled(page)
                expect(page.get_by_text("Shift").first).to_be_visible(visible=told)


def test_links_lead_from_view_to_view_and_back(browser: BrowserContext, address: str) -> None:
    """Each with its own address, which survives a reload; nothing is loaded anew in between."""
    with looking(browser, WIDE) as page:
        page.goto(address)
        settled(page)
        page.evaluate("window.same = true")
        follow(page, "dead/")
        page.wait_for_url(re.compile(r"/overview\?run=dead(/|%2F)"))
        expect(page.locator("h1")).to_contain_text("acknowledged")
        follow(page, "Dead letters")
        page.wait_for_url(re.compile(r"/dead_letters\?run=dead(/|%2F)"))
        expect(page.locator("h1")).to_have_text("Dead letters")
        follow(page, "order.created 7")
        page.wait_for_url(re.compile(r"/traces\?run=dead(/|%2F).*event=7$"))
        expect(page.locator("h2").first).to_have_text("order.created 7 key k-1")
        assert page.evaluate("window.same")
        page.reload()
        expect(page.locator("h2").first).to_have_text("order.created 7 key k-1")
        page.go_back()
        page.wait_for_url(re.compile(r"/dead_letters\?run=dead(/|%2F)"))
        expect(page.locator("h1")).to_have_text("Dead letters")


def test_another_run_is_chosen_at_the_side(browser: BrowserContext, address: str) -> None:
    """The same view of it, and its name in the address."""
    with looking(browser, WIDE) as page:
        page.goto(f"{address}overview?run=dead")
        settled(page)
        page.get_by_role("combobox", name="Run").click()
        page.get_by_role("option", name="lossy/").click()
        page.wait_for_url(re.compile(r"/overview\?run=lossy(/|%2F)"))
        expect(page.locator("h1")).to_contain_text("2 of 40 acknowledged events were lost")


def test_a_long_name_of_a_run_is_told_apart_at_the_side(browser: BrowserContext, address: str) -> None:
    """Chosen, its end is in sight, where names differ; of those to choose from, the whole."""
    cut = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent)"
    with looking(browser, WIDE) as page:
        page.goto(f"{address}plugins?run=forgotten-by-redis")
        settled(page)
        run = page.get_by_role("combobox", name="Run")
        expect(run).to_have_css("direction", "rtl")
        run.click()
        expect(page.get_by_role("option").first).to_be_visible()
        names = page.get_by_role("option").filter(has_not_text="hostile")
        assert names.locator("*").evaluate_all(cut) == []


def documented() -> list[str]:
    """The addresses in the documentation, each of the run whose event 7 is a dead letter."""
    told = re.findall(r"^\|[^|]*\| `/([^`]*)` \|", (ROOT / "docs" / "dashboard.md").read_text(encoding="utf-8"), re.M)
    return [one.replace("run=", "run=dead") for one in told]


def test_every_documented_address_opens_without_any_option(browser: BrowserContext, runs: Path, chromium: Path) -> None:
    """Where something has to be started for a page, it says what; nothing is logged."""
    assert len(documented()) > 10
    with dashboard(runs) as (_, address), looking(browser, WIDE) as page:
        for one in documented():
            page.goto("about:blank")
            page.goto(address + one)
            settled(page)
            expect(page.get_by_text("Page not found")).to_have_count(0)
            if "service" in one:
                option = "--spans" if "traces" in one else "--service"
                expect(page.locator(MAIN)).to_contain_text(f"squall dashboard {option}")


def test_filters_are_in_the_address(browser: BrowserContext, address: str) -> None:
    """And work from there."""
    with looking(browser, WIDE) as page:
        page.goto(f"{address}dead_letters?run=dead&find=7")
        settled(page)
        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_label("Key contains").fill("nothing is called so")
        page.keyboard.press("Enter")
        expect(page.locator(".empty")).to_contain_text("None of the 1 dead letter fits")
        page.wait_for_url("**find=nothing*")
        page.goto(f"{address}traces?run=dead&order=dead+letters")
        settled(page)
        expect(page.locator(MAIN)).to_contain_text("1 event, ")


def test_the_waterfall_works_by_keyboard_and_pointer(browser: BrowserContext, address: str) -> None:
    """It tells what is under the pointer, zooms by keys, and a name opens its event."""
    with looking(browser, WIDE) as page:
        page.goto(f"{address}traces?run=dead&event=7,9")
        settled(page)
        plot, says = page.locator("canvas.plot"), page.locator(".says")
        plot.hover(position={"x": 60, "y": 26 + 22 * 2 + 11})
        expect(says).to_contain_text("billing · attempt 1")
        before = plot.evaluate(PICTURE)
        page.locator(".scroll").focus()
        page.keyboard.press("+")
        zoomed = changed(plot, before)
        page.keyboard.press("ArrowRight")
        moved = changed(plot, zoomed)
        page.keyboard.press("0")
        assert changed(plot, moved) == before
        plot.click(position={"x": 60, "y": 26 + 11 + 22 * 6})
        page.wait_for_url("**event=9")
        expect(page.locator("h2").first).to_contain_text("order.created 9")


def test_the_waterfall_follows_the_scheme(browser: BrowserContext, address: str) -> None:
    """Dark when night falls, light when the day breaks, each time the same, and so it stays."""
    with looking(browser, WIDE) as page:
        page.clock.install()
        page.goto(f"{address}traces?run=dead&event=7")
        settled(page)
        plot = page.locator("canvas.plot")
        seen = [plot.evaluate(PICTURE)]
        for scheme in ("dark", "light", "dark", "light"):
            page.emulate_media(color_scheme=scheme)
            seen.append(changed(plot, seen[-1]))
            page.wait_for_selector(f"html[data-scheme={scheme}]", state="attached")
            settled(page)
            page.clock.run_for(1000)
            assert plot.evaluate(PICTURE) == seen[-1]
        _, *nights_and_days = seen
        assert nights_and_days[:2] == nights_and_days[2:]
        assert brightness(seen[1]) < 128 < brightness(seen[2])


def brightness(picture: str) -> float:
    """Of a canvas, on average, from 0 to 255; where nothing was drawn it is 0."""
    _, _, encoded = picture.partition(",")
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        return float(ImageStat.Stat(image.convert("L")).mean[0])


def test_the_waterfall_can_be_read_and_left_without_a_pointer(browser: BrowserContext, address: str) -> None:
    """The arrows choose a row, which is marked and told with its durations, errors and faults; Z zooms to its event,
    and Enter opens that."""
    with looking(browser, WIDE) as page:
        page.goto(f"{address}traces?run=dead&event=7,9")
        settled(page)
        plot, says = page.locator("canvas.plot"), page.locator(".says")
        whole = plot.evaluate(PICTURE)
        page.get_by_role("application", name="Waterfall of 2 events").focus()
        page.keyboard.press("ArrowUp")
        expect(says).to_have_text("order.created 7 · key k-1")
        marked = changed(plot, whole)
        for _ in range(2):
            page.keyboard.press("ArrowDown")
        expect(says).to_have_text(
            "billing · attempt 1 · waited to be delivered: 1 ms · attempt 1 failed (fault errors: exception): 3 ms · "
            "given back: 1 ms · fault active: errors"
        )
        chosen = changed(plot, marked)
        page.keyboard.press("z")
        assert changed(plot, chosen) != marked
        page.keyboard.press("End")
        expect(says).to_contain_text("attempt 2 ended well: 3 ms")
        page.keyboard.press("Enter")
        page.wait_for_url("**event=9")
        expect(page.locator("h2").first).to_contain_text("order.created 9")


ROW_INK = """plot => {
    const ratio = plot.width / plot.clientWidth, top = Math.round(26 * ratio), high = Math.round(22 * ratio);
    const { data, width } = plot.getContext("2d").getImageData(0, top, Math.round(140 * ratio), high);
    const dark = [];
    for (let at = 0; at < data.length; at += 4)
        if (Math.abs(data[at] - data[0]) > 60) dark.push(Math.floor(at / 4 / width) / ratio);
    return [Math.min(...dark), Math.max(...dark)];
}"""


def test_a_label_stands_in_the_middle_of_its_row(browser: BrowserContext, address: str) -> None:
    """The first one's too: as far from the axis above as from the row below."""
    with looking(browser, WIDE) as page:
        page.goto(f"{address}traces?run=dead&event=7")
        settled(page)
        first, last = page.locator("canvas.plot").evaluate(ROW_INK)
        assert first >= 4
        assert abs(first + last - 22) <= 5


def test_what_a_run_contains_is_text(browser: BrowserContext, address: str) -> None:
    """Markup, scripts, turned directions, Streamlit's own markdown and a megabyte: shown, cut, never done."""
    with looking(browser, NARROW) as page:
        for view in (
            "overview",
            "traces",
            "flow",
            "dead_letters",
            "compare",
            "traces?event=5",
            f"sweeps?sweep={HOSTILE_SWEEP}",
        ):
            page.goto(f"{address}{view}{'&' if '?' in view else '?'}run=hostile")
            settled(page)
            assert page.evaluate("typeof hostile") == "undefined", view
            main = page.locator(MAIN)
            expect(main.locator(".stHtml :is(img, script, svg, a[href^=javascript])")).to_have_count(0)
            shown = texts(page)
            assert len(shown) < 100_000, view
            assert not {"\u202e", "\x1b"} & set(shown), view
            assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"], view
        page.goto(f"{address}overview?run=hostile")
        settled(page)
        expect(page.locator("table").last).to_contain_text("<script>hostile=1</script>")


def test_a_mistake_says_what_to_do(browser: BrowserContext, address: str) -> None:
    """A run that is not there, one that is damaged, an event that nobody knows, a page that is none."""
    with looking(browser, WIDE) as page:
        for view, said in (
            ("overview?run=losy", "did you mean 'lossy'?"),
            ("overview?run=damaged", "verdict.json: is not a verdict that squall wrote"),
            ("traces?run=dead&event=4711", "this run knows no event 4711"),
            ("traces?run=dead&event=x", "expected numbers of events"),
        ):
            page.goto(address + view)
            expect(page.get_by_role("alert")).to_contain_text(said)
            expect(page.get_by_role("alert").get_by_role("link", name="All runs")).to_be_visible()
        settled(page)
        page.get_by_role("link", name="All runs").click()
        expect(page.locator("h1")).to_have_text("Runs")


COUNTED = """(() => {
    window.calls = 0;
    for (const name of ["fillRect", "fillText", "measureText", "fill", "stroke", "strokeRect", "drawImage"]) {
        const own = CanvasRenderingContext2D.prototype[name];
        CanvasRenderingContext2D.prototype[name] = function (...all) { window.calls++; return own.apply(this, all); };
    }
})()"""
"""Counts what is drawn, before anything is."""
FRAMES = """async (scroll) => {
    const frames = [];
    for (let turn = 0; turn < 30; turn++) {
        const key = ["+", "ArrowRight", "-", "ArrowDown"][turn % 4], before = window.calls, begun = performance.now();
        scroll.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
        scroll.scrollTop += 4000;
        await new Promise(requestAnimationFrame);
        await new Promise(requestAnimationFrame);
        frames.push([window.calls - before, performance.now() - begun]);
    }
    return frames;
}"""


@pytest.mark.alone
def test_twenty_thousand_spans_do_not_stutter(browser: BrowserContext, address: str) -> None:
    """A frame of the waterfall costs what is in sight: so few calls of the canvas as its rows need, wherever one
    scrolls, zooms and moves; and so it is drawn at once, on a machine that does much else besides."""
    with looking(browser, WIDE) as page:
        page.add_init_script(COUNTED)
        page.goto(f"{address}traces?run=many&limit=10000")
        settled(page)
        waterfall = page.locator(".waterfall")
        expect(waterfall).to_have_attribute("data-spans", re.compile(r"^2\d{4}$"))
        page.wait_for_function("window.calls > 20000")  # the map above it shows all spans, once
        frames = page.locator(".scroll").evaluate(FRAMES)
        rows = 560 // 22 + 2
        assert all(rows < calls < 20 * rows for calls, _ in frames), frames
        assert sorted(took_ms for _, took_ms in frames)[15] < 100, frames


def test_a_live_run_is_shown_as_it_goes_on(browser: BrowserContext, tmp_path: Path) -> None:
    """Without a reload: what it says next is there soon, then its verdict."""
    folder = folders.bare_folder(tmp_path / "runs")
    write(folder, [0.0])
    first = (folder / LIVE).read_bytes()
    with dashboard(tmp_path / "runs") as (_, address), looking(browser, NARROW, dark=True) as page:
        page.goto(f"{address}live?run=by-hand")
        main = page.locator(MAIN)
        expect(main).to_contain_text("load and faults")
        expect(main).to_contain_text("nothing acknowledged yet")
        for acknowledged in (4711, 4712):
            line = first.replace(b'"acknowledged":0', b'"acknowledged":%d' % acknowledged)
            with (folder / LIVE).open("ab") as file:
                file.write(line)
            expect(main).to_contain_text(f"{acknowledged:,} events acknowledged")
        assert unreadable(page) == []
        keep(page, "live-goes-on")
        judged = folders.valid_folder(tmp_path / "judged")
        (judged / VERDICT).rename(folder / VERDICT)
        expect(main).to_contain_text("The run is over")


def test_the_way_from_an_event_to_its_trace(browser: BrowserContext, address: str) -> None:
    """In a run that was traced: from what the recorder saw to what the tracer did, and back."""
    with looking(browser, WIDE) as page:
        page.goto(f"{address}traces?run=traced&order=dead+letters&limit=20")
        settled(page)
        expect(page.locator(MAIN)).to_contain_text("told by the recorder")
        page.locator("canvas.plot").click(position={"x": 60, "y": 26 + 11})
        page.wait_for_url("**event=*")
        expect(page.locator("h2").first).to_contain_text("order.created")
        follow(page, "told by the tracer")
        page.wait_for_url("**source=spans**")
        expect(page.locator("table.spans")).to_contain_text("dead letter")
        follow(page, "told by the recorder")
        page.wait_for_url(re.compile(r"/traces\?run=traced(/|%2F)[^&]*$"))
        expect(page.locator("h1")).to_have_text("Traces")


def test_a_trace_of_a_service_is_opened_and_shared(browser: BrowserContext, address: str, tmp_path: Path) -> None:
    """Its address says until when files are looked at; what is written afterwards is there when the page is loaded
    anew. None of its texts is done."""
    write_spans(tmp_path, 0, span("5" * 32, "a"))
    with (
        dashboard(tmp_path / "none", options=("--spans", str(tmp_path))) as (_, own),
        looking(browser, WIDE) as page,
    ):
        page.goto(own)
        settled(page)
        main = page.locator(MAIN)
        expect(main).to_contain_text("1 trace,")
        write_spans(tmp_path, 1, span("6" * 32, "a", topic="bill.made", at_ms=5))
        page.reload()
        expect(main).to_contain_text("2 traces,")
        settled(page)
        page.locator("canvas.plot").click(position={"x": 60, "y": 26 + 11})
        page.wait_for_url(re.compile(r"service_traces\?trace=6{32}&written=20\d\d-"))
        expect(page.locator("table.spans")).to_contain_text("publish bill.made")
        shared = page.url
        page.goto(f"{own}?written=2026-01-01&trace={'6' * 32}")
        expect(main).to_contain_text("No such trace")
        page.goto(shared)
        expect(page.locator("table.spans")).to_contain_text("publish bill.made")
    with looking(browser, NARROW) as page:
        page.goto(f"{address}service_traces?trace={TRACE}")
        settled(page)
        assert page.evaluate("typeof hostile") == "undefined"
        expect(page.locator(MAIN).locator(".stHtml :is(img, script, svg)")).to_have_count(0)
