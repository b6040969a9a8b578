"""The guide leads to one's own plugin in the dashboard, and the pictures of the documentation can be taken anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect
from tests.dashboards.browsing import dashboard, follow, looking
from tests.docs import pictures
from tests.docs.test_docs import PAGES, links

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the guide was followed to its end."""
    return pictures.guide_followed(tmp_path_factory.mktemp("guide") / "clone")


def test_the_guide_runs_as_written(guide: Path) -> None:
    """As every page does: each of its blocks, in order; what it is followed to is a run."""
    assert (guide / "storm-kit" / "runs" / "storm-kit" / "latest" / "report.html").exists()


def test_the_guide_ends_with_the_plugin_in_the_dashboards_chain(browser: Browser, guide: Path) -> None:
    """As its last section says: the run at the top, and under Plugins the plugin, where an event passes it."""
    with (
        pictures.guide_dashboard(guide) as (_, address),
        looking(browser.new_context(), {"width": pictures.WIDTH, "height": 900}) as page,
    ):
        page.goto(address)
        follow(page, "storm-kit/")
        page.wait_for_url(re.compile(r"/overview\?run=storm-kit"))
        follow(page, "Plugins")
        page.wait_for_url(re.compile(r"/plugins\?run=storm-kit"))
        chain = page.locator(".chain").first.locator("li")
        expect(chain).to_have_text(["kernel's checks", re.compile(r"validate\s*storm_kit"), "route", "memory (memory)"])


def test_every_picture_can_be_taken_anew(browser: Browser, guide: Path, tmp_path: Path) -> None:
    """Of any run, by what `make pictures` calls: each that the pages show, of one width, and small."""
    said = pictures.ran("calm", tmp_path, ["rate=200", "seconds=2s"])
    run = (tmp_path / "runs" / "calm" / "latest").resolve()
    into = tmp_path / "pictures"
    into.mkdir()
    pictures.take_terminal(browser, said, into / "verdict.png")
    pictures.take_report(browser, run, into / "report.png")
    with dashboard(tmp_path / "runs") as (_, address):
        pictures.take_dashboard(browser, address, run, into)
    pictures.take_first_plugin(browser, guide, into / "first-plugin.png")
    shown = {Path(target).name for page in PAGES for target in links(page) if "pictures/" in target}
    assert {path.name for path in into.iterdir()} == shown == {path.name for path in pictures.PICTURES.iterdir()}
    for path in (*into.iterdir(), *pictures.PICTURES.iterdir()):
        with Image.open(path) as picture:
            assert picture.width == pictures.WIDTH, path
        assert path.stat().st_size <= pictures.MAX_BYTES, path


def test_a_picture_that_would_show_a_path_is_refused(browser: Browser, tmp_path: Path) -> None:
    """Of the machine that it is taken on."""
    with pictures.page_of(browser) as page:
        page.set_content("<p>runs/short</p>")
        pictures.keep(page, tmp_path / "fine.png")
        page.set_content(f"<p>see {Path.home()}/runs</p>")
        with pytest.raises(RuntimeError, match=r"taken\.png would show"):
            pictures.keep(page, tmp_path / "taken.png")
    assert not (tmp_path / "taken.png").exists()


def test_a_run_that_is_not_valid_is_no_picture(tmp_path: Path) -> None:
    """It is told what it said."""
    with pytest.raises(RuntimeError, match="ended with 2"):
        pictures.ran("no-such.yaml", tmp_path)
