"""Which value a sweep tries next: over a grid or by bisection, then again around the knee."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["held", "broke", "generator", "unknown"]
"""What one run came to. `generator`: it could not keep the rate that was asked for, so nothing is known of the target
at that rate; `unknown`: for another reason."""
State = Literal["knee", "holds", "broken", "generator", "unknown"]
"""What a sweep came to: a knee in its range; it holds all over the range; it is broken at its lowest value already; the
generator was the limit before anything broke; too little could be decided."""
UNDECIDED: tuple[Outcome, ...] = ("generator", "unknown")


@dataclass(frozen=True)
class Plan:
    """How values are chosen.

    grid: values tried in any case, rising; the first and the last are the ends of the range. bisect: between them,
    until what holds and what breaks are apart by at most `tolerance` of the latter. Then each of the two is run
    `repeats` times in all, and where chance shows, what is beside them too. runs: at most so many. whole: values are
    whole numbers. log: halves are taken on a logarithmic axis.
    """

    grid: tuple[float, ...]
    bisect: bool = True
    tolerance: float = 0.05
    repeats: int = 5
    runs: int = 40
    whole: bool = False
    log: bool = False

    def middle(self, low: float, high: float) -> float | None:
        """A value between the two; None where they are near enough, or none is between them."""
        if not self.bisect or high - low <= self.tolerance * abs(high):
            return None
        middle = math.sqrt(low * high) if self.log else (low + high) / 2
        middle = float(round(middle)) if self.whole else float(f"{middle:.6g}")
        return middle if low < middle < high else None


@dataclass(frozen=True)
class Bracket:
    """What is known of where it breaks: the highest value that holds below all that break, the lowest that breaks, and
    the lowest value below that where nothing could be decided."""

    held: float | None
    broke: float | None
    undecided: float | None


def bracket(outcomes: Sequence[tuple[float, Outcome]]) -> Bracket:
    """By the majority of the runs at each value; half of them is enough to break."""
    by_value: dict[float, list[Outcome]] = {}
    for value, outcome in outcomes:
        by_value.setdefault(value, []).append(outcome)
    states = {value: _majority(found) for value, found in by_value.items()}
    broke = _least([value for value, state in states.items() if state == "broke"])
    below = {value: state for value, state in states.items() if broke is None or value < broke}
    undecided = _least([value for value, state in below.items() if state in UNDECIDED])
    held = max((value for value, state in below.items() if state == "held"), default=None)
    return Bracket(held, broke, undecided)


def next_value(plan: Plan, outcomes: Sequence[tuple[float, Outcome]]) -> float | None:
    """The value of the next run; None: the sweep is over."""
    if len(outcomes) >= plan.runs:
        return None
    tried: dict[float, int] = {}
    for value, _ in outcomes:
        tried[value] = tried.get(value, 0) + 1
    known = bracket(outcomes)
    rising = plan.grid if not plan.bisect else _ends(plan, known)
    for value in rising:
        if value not in tried:
            return value
    upper = known.broke if known.undecided is None or _above(known.held, known.undecided) else known.undecided
    if known.held is not None and upper is not None:
        between = plan.middle(known.held, upper)
        if between is not None and between not in tried:
            return between
    near = [value for value in (known.held, known.broke, known.undecided) if value is not None]
    if known.broke is None and known.held is not None and known.undecided is None:
        near = [known.held]  # nothing breaks: only the end of the range is worth another look
    near += _neighbours(outcomes, near)
    again = [value for value in near if tried[value] < plan.repeats]
    return min(again, key=lambda value: (tried[value], value), default=None)


def state_of(plan: Plan, outcomes: Sequence[tuple[float, Outcome]]) -> State:
    """What the runs so far come to."""
    known = bracket(outcomes)
    if known.broke is not None:
        return "knee" if known.held is not None else "broken" if known.broke == plan.grid[0] else "unknown"
    if any(outcome == "generator" for _, outcome in outcomes) and known.undecided is not None:
        return "generator"
    return "holds" if known.held == plan.grid[-1] else "unknown"


def _ends(plan: Plan, known: Bracket) -> Mapping[float, None]:
    """The range's ends; where the lowest value breaks already, the other end is of no interest."""
    low, high = plan.grid[0], plan.grid[-1]
    return dict.fromkeys((low,) if low in (known.broke, known.undecided) else (low, high))


def _neighbours(outcomes: Sequence[tuple[float, Outcome]], near: Sequence[float]) -> list[float]:
    """The nearest values on both sides of those where runs came out differently, and of these their neighbours: chance
    blurs the knee there, and how far is seen beside it."""
    by_value: dict[float, set[Outcome]] = {}
    for value, outcome in outcomes:
        by_value.setdefault(value, set()).add(outcome)
    values = sorted(by_value)
    mixed = [place for place, value in enumerate(values) if {"held", "broke"} <= by_value[value]]
    if not mixed:
        return []
    around = values[max(0, mixed[0] - 1) : mixed[-1] + 2]
    return [value for value in around if value not in near]


def _above(held: float | None, undecided: float) -> bool:
    """Whether what was undecided lies below what holds, and so does not matter."""
    return held is not None and held > undecided


def _majority(found: Sequence[Outcome]) -> Outcome:
    """Of the decided runs, if there are any."""
    decided = [one for one in found if one not in UNDECIDED]
    if not decided:
        return "unknown"
    return "broke" if 2 * decided.count("broke") >= len(decided) else "held"


def _least(values: Sequence[float]) -> float | None:
    return min(values, default=None)
