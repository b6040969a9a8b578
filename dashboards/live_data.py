"""What a run that goes on has written of itself so far."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from squall.chaos.live_file import Moment, read_live
from squall.chaos.run_folder import LIVE, VERDICT, list_runs

STALE_S = 15.0
JUDGING_S = 1800.0
"""Judging writes nothing meanwhile, and takes long where there are tens of millions of records."""
POINTS = 400
EVERY_S = 1.0
"""So often pages look again at what goes on."""
NEWEST = 50
"""Of so many runs it is asked whether they go on."""
PHASES = {"setup": "sets up", "steady": "steady state", "load": "load and faults", "heal": "heals everything"}
PHASES |= {"drain": "drains", "check": "judges the history"}


@dataclass(frozen=True)
class Window:
    """When a fault was active so far, seconds since the run began."""

    name: str
    begun_s: float
    ended_s: float


def going_on(folder: Path) -> bool:
    """Whether the run has written of itself just now, and has no verdict yet. Raises StoreFileError."""
    try:
        age_s = time.time() - (folder / LIVE).stat().st_mtime
    except OSError:
        return False
    if (folder / VERDICT).exists():
        return False
    if age_s < STALE_S or age_s >= JUDGING_S:
        return age_s < STALE_S
    moments = read_live(folder)
    return bool(moments) and moments[-1].progress.phase == "check"


def newest_going_on(runs: Path) -> Path | None:
    """The newest run that goes on. Raises StoreFileError."""
    return next((folder for folder in list_runs(runs)[:NEWEST] if going_on(folder)), None)


def thinned(moments: Sequence[Moment]) -> list[Moment]:
    """At most so many as a chart can show, the last one among them."""
    step = -(-len(moments) // POINTS) or 1
    return [*moments[::-1][::step]][::-1]


def windows(moments: Sequence[Moment]) -> list[Window]:
    """The faults that have been active, by the last word on each."""
    last = moments[-1]
    found = []
    for one in last.progress.faults:
        begun_s = last.at_s + one.in_s
        if one.state == "active":
            found.append(Window(one.id, begun_s, last.at_s))
        elif one.state == "healed":
            found.append(Window(one.id, begun_s, min(last.at_s, begun_s + one.for_s)))
    return found


def faults_so_far(folder: Path) -> list[Window]:
    """The faults of a run that has no verdict, whose history has none of them yet; seconds since its first publish.
    Raises StoreFileError."""
    if not (folder / LIVE).exists() or not (moments := read_live(folder)):
        return []
    began_s = [one.at_s - one.progress.phase_s for one in moments if one.progress.phase in ("steady", "load")]
    zero_s = min(began_s, default=0.0)
    return [Window(one.name, one.begun_s - zero_s, one.ended_s - zero_s) for one in windows(moments)]
