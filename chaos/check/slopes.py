"""How fast something grows, and how sure that is: a line through measurements that waver and depend on each other.

The slope is Theil's (1950) and Sen's (1968): the median of the slopes between all pairs of points, which a few wild
ones do not move. Its standard error is that of a line's slope through a first order autoregression, since memory that
was high a moment ago is high now: the autoregression is fitted to what is left beside the line, as Santer et al. (2000)
do for trends of temperatures, but with its variance worked out for these places, and without the share of it that the
line itself has taken. In a short series the coefficient comes out too small, by about 2(1 + 2φ)/n beside a line (after
Kendall, 1954, and Marriott and Pope, 1954): that is put back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

LEAST_POINTS = 10
ERRORS = 3.0
"""Standard errors on either side. Each side is wrong one time in seven hundred where the points know nothing of each
other, and one time in a hundred where they know nearly all, and the error itself is badly known."""
MOST_CORRELATED = 0.98

Points = Sequence[tuple[float, float]]
"""Places, never falling and evenly spaced for the most part, and what was measured there."""


@dataclass(frozen=True)
class Slope:
    """By how much what is measured rises for each step of its place, at the least and at the most."""

    estimate: float
    low: float
    high: float


def slope(points: Points) -> Slope | None:
    """The slope of a line through the points; None where there are too few, or all are at one place."""
    slopes = [
        (y - before) / (x - since)
        for number, (x, y) in enumerate(points)
        for since, before in points[:number]
        if x > since
    ]
    if len(points) < LEAST_POINTS or not slopes:
        return None
    estimate = median(slopes)
    reach = ERRORS * _error([x for x, _ in points], [y - estimate * x for x, y in points])
    return Slope(estimate, estimate - reach, estimate + reach)


def _error(places: Sequence[float], rest: Sequence[float]) -> float:
    """The standard error of a slope over the places, by what is left beside the line."""
    count, middle, level = len(places), fmean(places), fmean(rest)
    off = [value - level for value in rest]
    squares = sum(one * one for one in off)
    if squares == 0:
        return 0.0
    found = sum(one * after for one, after in pairwise(off)) / squares
    phi = min(MOST_CORRELATED, max(0.0, (count * found + 2) / (count - 4)))
    alike = [phi**lag for lag in range(count)]
    far = [place - middle for place in places]
    spread = sum(one * one for one in far)
    pairs = [(here, there, alike[abs(here - there)]) for here in range(count) for there in range(count)]
    of_level = sum(weight for _, _, weight in pairs) / count
    of_slope = sum(far[here] * far[there] * weight for here, there, weight in pairs) / spread
    variance = squares / (count - of_level - of_slope)  # the line has taken the rest
    return math.sqrt(variance * of_slope / spread)


def lowest(points: Points, most: int) -> list[tuple[float, float]]:
    """At most so many points instead of all: of each run of neighbours the middle of their places, and the least that
    was measured there. What comes and goes, such as a backlog, stands above that; what is kept lifts it."""
    size = -(-len(points) // most)
    runs = [points[begin : begin + size] for begin in range(len(points) % size if size else 0, len(points), size)]
    return [(fmean(x for x, _ in run), min(y for _, y in run)) for run in runs]
