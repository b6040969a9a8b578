"""Squall's own pages, by their names in URLs, in the order in which they are offered."""

from __future__ import annotations

from collections.abc import Mapping

from squall.core.dashboard import DashboardPage
from squall.dashboards.chain import show_chain
from squall.dashboards.compare import show_compare
from squall.dashboards.dead_letters import show_dead_letters
from squall.dashboards.flow import show_flow
from squall.dashboards.live import show_live
from squall.dashboards.overview import show_overview
from squall.dashboards.runs import show_runs
from squall.dashboards.sweeps import show_sweeps
from squall.dashboards.traces import show_traces


def own_pages() -> Mapping[str, DashboardPage]:
    """All of them."""
    return {
        "runs": DashboardPage("Runs", show_runs),
        "live": DashboardPage("Live", show_live),
        "overview": DashboardPage("Overview", show_overview),
        "traces": DashboardPage("Traces", show_traces),
        "flow": DashboardPage("Flow", show_flow),
        "dead_letters": DashboardPage("Dead letters", show_dead_letters),
        "sweeps": DashboardPage("Sweeps", show_sweeps),
        "compare": DashboardPage("Compare", show_compare),
        "plugins": DashboardPage("Plugins", show_chain),
    }
