"""squall_dashboard_pages: pages of the dashboard, by their names in its URLs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from tests.chaos.report import folders

from squall import Plugin, WiringError, hookimpl
from squall.chaos.catalogue import load_classes
from squall.core.dashboard import DashboardPage, Look
from squall.dashboards import app


def show_mine(look: Look) -> None:
    """A page of one's own."""
    st.text(f"mine, of {look.run.parent.name} in {look.runs.name}")


def show_broken(look: Look) -> None:
    """A page with a mistake."""
    raise ZeroDivisionError(f"<b>no</b> {look.run.name}")


class Mine(Plugin):
    """Brings two pages along."""

    @hookimpl
    def squall_dashboard_pages(self) -> Mapping[str, DashboardPage]:
        return {"mine": DashboardPage("Mine", show_mine), "broken": DashboardPage("Broken", show_broken)}


class Takes(Plugin):
    """Takes a name that is taken."""

    @hookimpl
    def squall_dashboard_pages(self) -> Mapping[str, DashboardPage]:
        return {"overview": DashboardPage("Mine", show_mine)}


class Wrong(Plugin):
    """Gives no page."""

    @hookimpl
    def squall_dashboard_pages(self) -> Mapping[str, DashboardPage]:
        return {"a/b": DashboardPage("Mine", show_mine)}


def install(monkeypatch: pytest.MonkeyPatch, kind: type[Plugin]) -> None:
    """As if the plugin were installed besides the built-in ones."""
    classes = load_classes()
    monkeypatch.setattr(app, "load_classes", lambda: {**classes, "own": kind})


def test_a_plugins_pages_come_after_squalls_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the hook by which those come."""
    own = list(app.all_pages())
    assert own[:2] == ["runs", "live"]
    install(monkeypatch, Mine)
    assert list(app.all_pages()) == [*own, "mine", "broken"]


def test_a_name_that_is_taken_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the plugin."""
    install(monkeypatch, Takes)
    with pytest.raises(WiringError, match="plugin Takes: there is a dashboard page 'overview' already"):
        app.all_pages()


def test_what_is_no_page_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what no URL could name."""
    install(monkeypatch, Wrong)
    with pytest.raises(WiringError, match="plugin Wrong: squall_dashboard_pages returned"):
        app.all_pages()


def shown(runs: str, name: str) -> None:
    """What Streamlit runs: that page alone."""
    from pathlib import Path

    from tests.hooks import test_dashboard_pages

    from squall.dashboards.app import show_page

    show_page(Path(runs), test_dashboard_pages.Mine().squall_dashboard_pages()[name])


def test_a_page_is_given_what_is_looked_at(tmp_path: Path) -> None:
    """The run that is chosen, and where runs are."""
    folders.valid_folder(tmp_path / "runs")
    page = AppTest.from_function(shown, args=(str(tmp_path / "runs"), "mine"), default_timeout=60).run()
    assert [one.value for one in page.text] == ["mine, of by-hand in runs"]


def test_a_page_that_raises_says_so_and_nothing_else_is_lost(tmp_path: Path) -> None:
    """Its error is text."""
    folders.valid_folder(tmp_path / "runs")
    page = AppTest.from_function(shown, args=(str(tmp_path / "runs"), "broken"), default_timeout=60).run()
    assert not page.exception
    (html,) = [one.proto.body for one in page.get("html")]
    assert "The page Broken raised an error" in html
    assert "ZeroDivisionError: &lt;b&gt;no&lt;/b&gt;" in html
