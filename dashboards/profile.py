"""What a run's profile says, where one was asked for: how late the event loop was, waiting against handling."""

from __future__ import annotations

from pathlib import Path

from squall.chaos.figures import latency
from squall.chaos.profile import TEXT, Times, read_figures
from squall.chaos.report.words import NOTHING
from squall.chaos.run_folder import PROFILE
from squall.dashboards.markup import show_markup


def show_profile(folder: Path) -> None:
    """Its figures, and where its files are. Raises StoreFileError."""
    figures = read_figures(folder)
    if figures is None:
        return
    lag = figures.loop_lag
    show_markup(
        "profile.html.j2",
        html=str(folder / PROFILE),
        text=TEXT,
        lag=[(name, _told(value)) for name, value in (("p50", lag.p50_s), ("p99", lag.p99_s), ("longest", lag.max_s))],
        subscribers=[
            (name, one.attempts, [_told(value) for times in (one.waited, one.handled) for value in _both(times)])
            for name, one in figures.subscribers.items()
        ],
    )


def _both(times: Times) -> tuple[float | None, float | None]:
    return times.p50_s, times.p99_s


def _told(seconds: float | None) -> str:
    return NOTHING if seconds is None else latency(seconds)
