"""Runs, looked at in a browser: what came out, and what happened when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from squall.core.dashboard import DashboardPage
from squall.core.plugin import Plugin, hookimpl


class DashboardPlugin(Plugin):
    """Its pages enter by the hook that everybody's pages enter by."""

    summary: ClassVar[str] = "command dashboard: runs, looked at in a browser"

    @hookimpl
    def squall_cli_commands(self) -> Mapping[str, Callable[..., int]]:
        from squall.dashboards.command import dashboard

        return {"dashboard": dashboard}

    @hookimpl
    def squall_dashboard_pages(self) -> Mapping[str, DashboardPage]:
        from squall.dashboards.pages import own_pages

        return own_pages()
