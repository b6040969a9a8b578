"""A store in memory that was full too late for growth to be told from its filling: by when it is, and what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence

from squall.chaos.scenario_models import MAX_STAGE_S
from squall.core.units import format_count, format_seconds

HALFWAY = 3 / 8
"""So much of what comes after the warm-up, a fifth of the load, has passed when half of the load has."""
STEPS_S = ((120, 10), (7200, 60), (math.inf, 600))
"""Up to so long, advice is in whole steps of so much."""


def still_filling(kept: Sequence[tuple[int, int]], begun: int, most: int | None) -> tuple[str, str]:
    """Why growth is unknown, and what to do: the store is to be full before half of the load is over.

    `kept`: at which moments after the warm-up, monotonic ns, it held how many events: at first fewer than at most.
    `begun`: when the load did. `most`: so many events fill the store; None: nobody knows.
    """
    first_ns, first = kept[0]
    held = max(count for _, count in kept)
    if most is None:
        return _why(f"{format_count(held)} events so far, and nobody knows how many fill it"), ""
    rise_s = (next(time for time, count in kept if count == held) - first_ns) / 1e9
    rate = (held - first) / rise_s
    full_s = (first_ns - begun) / 1e9 + (most - first) / rate
    soak_s = _rounded(2 * full_s)
    longer = f"Soak for longer (--soak {format_seconds(soak_s)}), or bound" if soak_s <= MAX_STAGE_S else "Bound"
    fewer = _two_digits(first + rate * HALFWAY * (kept[-1][0] - first_ns) / 1e9)
    told = f"{format_count(held)} of {format_count(most)} events; full after about {format_seconds(round(full_s))}"
    return _why(told), f"{longer} the store to {format_count(fewer)} events (max_events, or what it calls that)."


def _why(told: str) -> str:
    return f"the store was still filling ({told}), and holds some or all of them in memory"


def _rounded(seconds: float) -> int:
    step = next(step for most, step in STEPS_S if seconds <= most)
    return math.ceil(seconds / step) * step


def _two_digits(number: float) -> int:
    """Rounded down; at least 1."""
    step: int = 10 ** max(0, math.floor(math.log10(max(number, 1))) - 1)
    return max(1, math.floor(number / step) * step)
