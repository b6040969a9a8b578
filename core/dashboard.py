"""A page of the dashboard: what a plugin gives by squall_dashboard_pages, and what its page is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Look:
    """What is looked at: `runs`, the folder that run folders are in, and `run`, that of the chosen one."""

    runs: Path
    run: Path


@dataclass(frozen=True)
class DashboardPage:
    """A page: its title, and what shows it, with Streamlit's calls, each time that somebody looks.

    Where there is no run yet, the dashboard says so itself, and calls nothing.
    """

    title: str
    show: Callable[[Look], None]
