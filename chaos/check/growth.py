"""Does what the target holds grow with the load: memory, objects, handles, threads, tasks, and its store.

Who has just begun fills caches and pools, so the first part of the load is not looked at, nor what was before the last
fault was over. Of the rest the slope is taken (`slopes.py`): of memory, objects and the store over events, of the
rest over time. Condemned is what grows for sure by more than is allowed, in all of it or in the last half alone, and
goes on to in the last quarter: not a cache that fills late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Literal

from squall.chaos.check.case import Case
from squall.chaos.check.diagnosis import Diagnosis
from squall.chaos.check.expectations import Growth
from squall.chaos.check.filling import still_filling
from squall.chaos.check.measure import fault_windows, load_span
from squall.chaos.check.slopes import LEAST_POINTS, Points, Slope, lowest, slope
from squall.chaos.check.verdict import Finding, FindingState, Violation
from squall.chaos.figures import size
from squall.core.units import format_count, format_seconds

Held = Literal["memory", "objects", "handles", "threads", "tasks", "store"]
HELD: Mapping[Held, str] = {
    "memory": "Look for what is kept of each event: a list or a cache without a bound (tracemalloc compares moments).",
    "objects": "Look for what is kept of each event: a list or a cache without a bound (gc.get_objects shows what).",
    "handles": "Look for files and connections that are opened again and again, and closed by nobody.",
    "threads": "Look for threads, or pools of them, that are made again and again, and never told to end.",
    "tasks": "Look for tasks that are created again and again, and never end.",
    "store": "Look at what the store is told to keep, and for how long.",
}
"""What is watched, and what to do where it grows."""

BENCH = "bench"
NAMED_SAMPLES = (
    f"(SELECT coalesce(name, '{BENCH}') AS name, sample.* "
    "FROM sample LEFT JOIN (SELECT DISTINCT name, pid FROM process) USING (pid))"
)
"""The table of samples, each with the name of its process."""
WARM_UP = 0.2
POINTS = 48
RESOLUTION: Mapping[Held, float] = {"memory": 1 << 20, "objects": 3000, "store": 1 << 20}
"""Of what is taken over events: less in all is not told from nothing. A process takes memory by the megabyte, and gives
it back late; objects wait for the garbage collector."""
BY_HOUR: Mapping[Held, float] = {"memory": 18e6, "objects": 90_000, "store": 0}
"""What is allowed in any case: a process gathers something by the hour, the bench's own progress and samples among it,
and by event that looks like much where few are published."""
FULL = 0.99
WAITING: Mapping[Held, float] = {"memory": 10_000, "objects": 50}
"""What an event that waits may hold, with all that is made for its publish or delivery."""
CACHES: Mapping[Held, float] = {"memory": 40e6, "objects": 300_000}
"""What a store holds in memory of what it keeps elsewhere: the latest events, and pages of its file. They fill slowly
where little is published."""


@dataclass(frozen=True)
class Sample:
    """What one process held at one moment, monotonic ns; None: nobody knows. `events`: acknowledged so far. `kept`:
    events in the store. `waiting`: deliveries, and publishes that are due."""

    name: str
    pid: int
    time: int
    events: int
    memory: int | None
    objects: int | None
    handles: int | None
    threads: int | None
    tasks: int | None
    store: int | None
    kept: int | None
    waiting: int

    def held(self, what: Held) -> int | None:
        """Of one figure."""
        found: int | None = getattr(self, what)
        return found


def growth(case: Case, wanted: Growth, what: Held) -> Finding:
    """Whether it grows in any of the processes; the one that it shows most surely in is told."""
    order: Sequence[FindingState] = ("invalid", "unknown", "valid", "not judged")
    found = [_judge(case, wanted, what, life) for life in _lives(case)]
    if not found:
        why = "nothing was sampled after the warm-up"
        return Finding("growth", "unknown", why, why_unknown=why, title=f"growth of {what}")
    return min(found, key=lambda finding: order.index(finding.state))


def grown(violation: Violation) -> Diagnosis:
    """Of a figure that grows: what to do."""
    advice = {str(name): text for name, text in HELD.items()}[violation.form]
    return Diagnosis(f"{violation.form} grew with the load, to its end", advice=advice)


def _lives(case: Case) -> Iterator[Sequence[Sample]]:
    """What was sampled of each process after the warm-up; of its longest life, where it was ended and started again."""
    span = load_span(case)
    warm = span.begun + round(WARM_UP * (span.ended - span.begun))
    warm = max([warm, *(min(window.ended, span.ended) for window in fault_windows(case))])
    columns = ", ".join(field.name for field in fields(Sample))
    rows = case.rows(
        f"SELECT {columns} FROM {NAMED_SAMPLES} WHERE time >= {warm} AND time < {span.ended} ORDER BY name, pid, time"
    )
    for _, of_name in groupby((Sample(*row) for row in rows), key=lambda one: one.name):
        lives = [list(life) for _, life in groupby(of_name, key=lambda one: one.pid)]
        yield max(lives, key=lambda life: life[-1].time - life[0].time)


def _judge(case: Case, wanted: Growth, what: Held, life: Sequence[Sample]) -> Finding:
    title = f"growth of {what}" + ("" if life[0].name == BENCH else f" in {life[0].name}")
    full = _full(life)
    fills = full > len(life) // 2
    if what in CACHES and not fills:
        life = life[full:]
    known = [(one, held) for one in life if (held := one.held(what)) is not None]
    if not known:
        return Finding("growth", "not judged", "nobody knows of any here", title=title)
    by_event = what in RESOLUTION
    points = lowest([(one.events if by_event else one.time / 1e9, held) for one, held in known], POINTS)
    rise = _rise(points)
    if rise is None:
        why = f"{format_count(len(known))} samples after the warm-up say too little"
        return Finding("growth", "unknown", why, why_unknown=why, title=title)
    seconds, events = (known[-1][0].time - known[0][0].time) / 1e9, known[-1][0].events - known[0][0].events
    if by_event:
        finding = _by_event(wanted, what, rise, events, seconds)
    else:
        finding = _by_time(wanted.counts, rise, known[-1][1], seconds)
    finding = replace(finding, title=title)
    grew = rise.whole.estimate * events
    if what in CACHES and (excuse := _excuse(case, what, finding.state, life, grew, fills=fills)):
        return replace(finding, state="unknown", why_unknown=excuse[0], advice=excuse[1])
    if finding.state == "invalid":
        return replace(finding, count=1, violations=(Violation("growth", what, time_ns=known[-1][0].time),))
    return finding


def _full(life: Sequence[Sample]) -> int:
    """From which sample on the store held about as many events as it ever did."""
    most = max(one.kept or 0 for one in life)
    return next(number for number, one in enumerate(life) if (one.kept or 0) >= FULL * most)


def _excuse(
    case: Case, what: Held, state: FindingState, life: Sequence[Sample], grew: float, *, fills: bool
) -> tuple[str, str] | None:
    """What else than a leak may explain that it grew, or may have, and what to do: so many more events that wait, or,
    where it `fills`, what the store holds of its own."""
    if state == "invalid":
        quarter = max(1, len(life) // 4)
        more = min(one.waiting for one in life[-quarter:]) - min(one.waiting for one in life[:quarter])
        if more > max(0.0, grew / WAITING[what]):
            why = f"a backlog was growing: {format_count(more)} more events were waiting at the end"
            return why, "Lower the rate: while ever more waits, no soak is long enough."
    if fills and state in ("invalid", "unknown") and case.facts.durability == "memory":
        kept = [(one.time, one.kept or 0) for one in life]
        return still_filling(kept, load_span(case).begun, case.claims.max_events)
    if fills and state == "invalid" and grew < CACHES[what]:
        events = format_count(life[-1].kept or 0)
        return f"the store was still filling its caches ({events} events so far), and they hold some of them", ""
    return None


@dataclass(frozen=True)
class _Rise:
    """The slope of all of it, of its last half, and of its last quarter."""

    whole: Slope
    late: Slope
    last: Slope

    def state(self, across: float, allowed: float) -> FindingState:
        """`allowed`: by how much it may grow across all of it."""
        surely = self.whole.low * across > allowed or self.late.low * across / 2 > allowed
        if surely and self.last.estimate * across > allowed:
            return "invalid"
        return "valid" if min(self.whole.high, self.late.high) * across <= allowed else "unknown"


def _rise(points: Points) -> _Rise | None:
    """None where there are too few points, or all are at one place."""
    whole, late = slope(points), slope(points[len(points) // 2 :])
    last = slope(points[-max(LEAST_POINTS, len(points) // 4) :])
    return None if whole is None or late is None or last is None else _Rise(whole, late, last)


def _by_event(wanted: Growth, what: Held, rise: _Rise, events: int, seconds: float) -> Finding:
    """Without a limit it is only told."""
    whole = rise.whole
    limit: float | None = getattr(wanted, what)
    unit, told_as = ("count", _objects) if what == "objects" else ("bytes", size)
    an_hour = events / seconds * 3600
    told = f"{told_as(whole.estimate)} an event ({told_as(whole.low)} to {told_as(whole.high)}), "
    told += f"{told_as(whole.estimate * an_hour)} an hour"
    figures: dict[str, float] = {
        f"per_event_{unit}": whole.estimate,
        f"per_event_low_{unit}": whole.low,
        f"per_event_high_{unit}": whole.high,
        f"per_hour_{unit}": whole.estimate * an_hour,
        f"last_quarter_per_event_{unit}": rise.last.estimate,
        "events": events,
        "seconds": seconds,
    }
    if limit is None:
        return Finding("growth", "not judged", told, figures)
    allowed = max(limit * events, BY_HOUR[what] * seconds / 3600, RESOLUTION[what])
    a_limit = allowed / events
    figures |= {f"limit_per_event_{unit}": a_limit, f"limit_per_hour_{unit}": a_limit * an_hour}
    told += f" · limit {told_as(a_limit)} an event, {told_as(a_limit * an_hour)} an hour"
    return _found(rise.state(events, allowed), told, figures)


def _objects(count: float) -> str:
    """`0.25`, `1,200`."""
    return format_count(round(count, 2 if abs(count) < 100 else None) + 0)


def _by_time(limit: int, rise: _Rise, at_end: int, seconds: float) -> Finding:
    """`limit`: how many more there may be at the end."""
    whole = rise.whole
    grew, low, high = (one * seconds for one in (whole.estimate, whole.low, whole.high))
    figures = {
        "at_end_count": at_end,
        "grew_count": grew,
        "grew_low_count": low,
        "grew_high_count": high,
        "per_hour_count": whole.estimate * 3600,
        "last_quarter_per_hour_count": rise.last.estimate * 3600,
        "limit_count": limit,
        "seconds": seconds,
    }
    told = f"{round(grew):+,} ({round(low):+,} to {round(high):+,}) in {format_seconds(round(seconds))}"
    told += f" · limit +{limit:,} · {at_end:,} at the end"
    return _found(rise.state(seconds, limit), told, figures)


def _found(state: FindingState, told: str, figures: Mapping[str, float]) -> Finding:
    why = "it may grow by more than the limit, or not: it wavers too much for so short a time"
    return Finding("growth", state, told, figures, why_unknown=why if state == "unknown" else "")
