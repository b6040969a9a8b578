"""Squall's own pages, by their names in URLs, in the order in which they are offered."""

from __future__ import annotations

from collections.abc import Mapping

from squall.core.dashboard import DashboardPage
from squall.dashboards.live import show_live
from squall.dashboards.overview import show_overview
from squall.dashboards.runs import show_runs
from squall.dashboards.traces import show_traces


def own_pages() -> Mapping[str, DashboardPage]:
    """All of them."""
    return {
        "runs": DashboardPage("Runs", show_runs),
        "overview": DashboardPage("Overview", show_overview),
        "live": DashboardPage("Live", show_live),
        "traces": DashboardPage("Traces", show_traces),
    }
