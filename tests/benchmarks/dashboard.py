"""The dashboard in a real browser: how long somebody waits for what they asked to see, and what it keeps in memory.

A run of a million records, whose overview nobody has asked for before; a run that says something new, from when its
line is written until it can be read; a waterfall of 20,000 spans, until it has drawn what a key asked of it.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, expect
from tests.benchmarks.checker import make_history
from tests.benchmarks.rounds import Sample, Scale, alternate, child, median, progress
from tests.benchmarks.table import Row
from tests.browser import READY_MS, SIZES, headless
from tests.chaos.check.runs import CLAIMS, DURABLE, clean
from tests.chaos.report.folders import bare_folder, judged_folder
from tests.chaos.test_live_file import write as write_live
from tests.dashboards.browsing import dashboard, settled
from tests.dashboards.made_runs import by_hand
from tests.needed import needed

from squall.chaos.check.engine import check
from squall.chaos.check.facts import RunFacts, Span, save_facts
from squall.chaos.check.output import save_verdict
from squall.chaos.run_folder import LIVE, VERDICT

RECORDS, SPANS, TICKS = 1_000_000, 20_000, 5
SPANS_AN_EVENT = 4


def make_runs(folder: str, records: int, spans: int) -> Sample:
    """Runs named large, spans and live; how many records the large one has."""
    runs = Path(folder) / "runs"
    by_hand(runs, "large", lambda root: _large(root, records))
    by_hand(runs, "spans", lambda root: judged_folder(root, clean(spans // SPANS_AN_EVENT, DURABLE)))
    write_live(by_hand(runs, "live", bare_folder), [0.0])
    return {"records": records}


def _large(root: Path, records: int) -> Path:
    folder, facts = bare_folder(root), RunFacts(load=Span(0, 10**15), drain=Span(10**15, 10**15 + 1))
    make_history(folder / "history", records)
    save_facts(facts, folder)
    save_verdict(check(folder / "history", CLAIMS, (), facts), folder / VERDICT)
    return folder


def look(folder: str) -> Sample:
    """Seconds: `first` and `again` of the large run's overview, `tick`, `waterfall`; `memory` of the dashboard, MiB."""
    chromium = needed("chromium", "apt-get install chromium")
    with dashboard(Path(folder) / "runs") as (process, address), headless(chromium) as browser:
        page = browser.new_page(viewport=SIZES[1])
        page.set_default_timeout(READY_MS)
        _seconds(page, address, "h1")  # what all views need is loaded
        return {
            "first": _seconds(page, f"{address}overview?run=large", "canvas"),
            "again": _seconds(page, f"{address}overview?run=large", "canvas"),
            "waterfall": _waterfall(page, f"{address}traces?run=spans&limit=10000"),
            "tick": _tick(page, address, Path(folder) / "runs" / "live"),
            "memory": _peak_mib(process),
        }


def _seconds(page: Page, address: str, shown: str) -> float:
    """From asking for the view until all of it is there."""
    began = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(shown)
    settled(page)
    return time.perf_counter() - began


def _waterfall(page: Page, address: str) -> float:
    """From asking for the traces until a key has moved what is drawn."""
    began = time.perf_counter()
    page.goto(address)
    expect(page.locator(".waterfall")).to_have_attribute("data-spans", re.compile(r"^\d+$"))
    page.locator(".scroll").evaluate(
        """async (scroll) => {
            scroll.dispatchEvent(new KeyboardEvent("keydown", {key: "+", bubbles: true}));
            await new Promise(requestAnimationFrame);
            await new Promise(requestAnimationFrame);
        }"""
    )
    return time.perf_counter() - began


def _tick(page: Page, address: str, runs: Path) -> float:
    """From when a run writes a line until it can be read on the page: the median of TICKS."""
    live = next(runs.iterdir()) / LIVE
    line = live.read_bytes().splitlines(keepends=True)[0]
    live.write_bytes(line)  # of a run that has only begun, and says so now
    page.goto(f"{address}live?run=live")
    main, took = page.locator('[data-testid="stMain"]'), []
    expect(main).to_contain_text("nothing acknowledged yet")
    for number in range(1, TICKS + 1):
        with live.open("ab") as file:
            file.write(line.replace(b'"acknowledged":0', b'"acknowledged":%d' % (4000 + number)))
        began = time.perf_counter()
        page.wait_for_function(
            "([main, text]) => main.innerText.includes(text)",
            arg=[main.element_handle(), f"{4000 + number:,} events acknowledged"],
        )
        took.append(time.perf_counter() - began)
    return sorted(took)[TICKS // 2]


def _peak_mib(process: subprocess.Popen[str]) -> float:
    """The most that was resident of it."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(scale: Scale) -> list[Row]:
    """What is waited for, and the memory."""
    records, spans = scale.of(RECORDS), scale.of(SPANS)
    with TemporaryDirectory() as folder:
        progress("dashboard: making the runs")
        child(make_runs, folder=folder, records=records, spans=spans)
        found = alternate(look, {"squall": {"folder": folder}}, scale, "dashboard")["squall"]
    return list(_rows(found, records, spans))


def _rows(found: Sequence[Sample], records: int, spans: int) -> list[Row]:
    jobs = {
        "first": f"overview of {records:,} records, the first time",
        "again": f"overview of {records:,} records, again",
        "waterfall": f"traces of {spans:,} spans, until they answer a key",
        "tick": "live: from what a run writes until it is seen, looked for each second",
    }
    rows = [Row("dashboard", job, median(found, figure), "s") for figure, job in jobs.items()]
    return [*rows, Row("dashboard", "its process, after all of these, at most", median(found, "memory"), "MiB")]
