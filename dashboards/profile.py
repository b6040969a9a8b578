"""What a run's profile says, where one was asked for: how late the event loop was, waiting against handling."""

from __future__ import annotations

from pathlib import Path

import msgspec

from squall.chaos.figures import latency
from squall.chaos.profile import FIGURES, TEXT
from squall.chaos.report.words import NOTHING
from squall.chaos.run_folder import PROFILE
from squall.core.errors import StoreFileError
from squall.dashboards.markup import show_markup


class Times(msgspec.Struct, frozen=True):
    """Seconds; None: there were none."""

    p50_s: float | None = None
    p99_s: float | None = None
    max_s: float | None = None


class Profiled(msgspec.Struct, frozen=True):
    """A subscriber: how long its deliveries waited for their first attempt, how long its handlers took."""

    attempts: int
    waited: Times
    handled: Times


class Figures(msgspec.Struct, frozen=True):
    """What stands in profile.json."""

    loop_lag: Times
    subscribers: dict[str, Profiled]


def read_figures(folder: Path) -> Figures | None:
    """None where no profile was asked for. Raises StoreFileError."""
    path = folder / FIGURES
    try:
        return msgspec.json.decode(path.read_bytes(), type=Figures)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreFileError(f"{path}: is not a profile that squall wrote ({error})") from error


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
