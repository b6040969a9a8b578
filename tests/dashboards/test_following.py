"""The live page and the list of runs, left open while runs begin and end: they find them, and keep the last verdict."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from tests.browser import SIZES
from tests.chaos.report import folders
from tests.chaos.test_live_file import write
from tests.dashboards.browsing import dashboard, looking

from squall.chaos.run_folder import LIVE, VERDICT

pytestmark = pytest.mark.slow

WIDE = SIZES[1]
AHEAD = time.time() + 3600.0
"""When runs have last said something: none of them is stale, however slow the machine is."""
MAIN = '[data-testid="stMain"]'


def begin(runs: Path, scenario: str, day: int) -> Path:
    """A run of that scenario that goes on; the later the day, the newer."""
    made = folders.bare_folder(runs.parent / f"made-{scenario}")
    folder = runs / scenario / f"202601{day:02}-000000-abc123"
    folder.parent.mkdir(parents=True, exist_ok=True)
    write(made, [0.0, 1.0])
    os.utime(made / LIVE, times=(AHEAD, AHEAD))
    made.rename(folder)  # with all that is in it at once
    return folder


def end(folder: Path) -> None:
    """It has its verdict."""
    judged = folders.valid_folder(folder.parents[2] / f"judged-{folder.parent.name}")
    (judged / VERDICT).rename(folder / VERDICT)


def shows(page: Page, *texts: str) -> None:
    """Without anything being clicked or loaded anew."""
    for text in texts:
        expect(page.locator(MAIN)).to_contain_text(text)


def test_the_page_is_open_before_there_is_any_run(browser: BrowserContext, tmp_path: Path) -> None:
    """The first one is there when it begins, and so is its verdict; then the next, of another scenario."""
    runs = tmp_path / "runs"
    with dashboard(runs) as (_, address), looking(browser, WIDE) as page:
        page.goto(f"{address}live")
        shows(page, "No runs yet")
        first = begin(runs, "first", 1)
        shows(page, "first/", "load and faults")
        end(first)
        shows(page, "The run is over", "first/")
        begin(runs, "second", 2)
        shows(page, "second/", "load and faults")


def test_the_page_is_open_before_the_run(browser: BrowserContext, tmp_path: Path) -> None:
    """Of runs that were over before nothing is told; the verdict of one that was seen to go on stays."""
    runs = tmp_path / "runs"
    folders.valid_folder(runs)
    with dashboard(runs) as (_, address), looking(browser, WIDE) as page:
        page.goto(f"{address}live")
        shows(page, "No run goes on now")
        first = begin(runs, "first", 2)
        shows(page, "load and faults")
        end(first)
        shows(page, "The run is over", "first/")
        assert page.url == f"{address}live"


def test_the_list_is_open_before_the_run(browser: BrowserContext, tmp_path: Path) -> None:
    """Nothing goes on, and the list is not loaded anew: a run is in it when it begins, and its verdict at its end."""
    runs = tmp_path / "runs"
    folders.valid_folder(runs)
    with dashboard(runs) as (_, address), looking(browser, WIDE) as page:
        page.goto(address)
        shows(page, "none lost")
        first = begin(runs, "first", 2)
        shows(page, "goes on now: load and faults")
        end(first)
        expect(page.locator(MAIN)).not_to_contain_text("goes on now")


def test_the_page_is_opened_during_a_run(browser: BrowserContext, tmp_path: Path) -> None:
    """By its name: it is followed though another goes on, which is shown when the first is over."""
    runs = tmp_path / "runs"
    first = begin(runs, "first", 1)
    second = begin(runs, "second", 2)
    with dashboard(runs) as (_, address), looking(browser, WIDE) as page:
        page.goto(f"{address}live?run=first")
        shows(page, "first/", "load and faults")
        end(first)
        shows(page, "second/", "load and faults")
        end(second)
        shows(page, "The run is over", "second/")


def test_the_list_of_runs_follows_what_goes_on(browser: BrowserContext, tmp_path: Path) -> None:
    """What a run has acknowledged, another one that begins, and the verdict, without anything being loaded anew."""
    runs = tmp_path / "runs"
    first = begin(runs, "first", 1)
    with dashboard(runs) as (_, address), looking(browser, WIDE) as page:
        page.goto(address)
        shows(page, "1 run, newest first", "goes on now: load and faults")
        begin(runs, "second", 2)
        shows(page, "2 runs, newest first", "second/")
        end(first)
        shows(page, "acknowledged events, none lost")
