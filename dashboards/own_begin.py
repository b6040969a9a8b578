"""Times counted from each one's own begin: of many that are far apart, each is a point on the axis that they share."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

from squall.dashboards.trace_data import WAITS, Shade, Waterfall


def from_own_begin(found: Waterfall) -> Waterfall:
    """The waterfall with each event or trace moved to where it begins at 0 ms; what it waited for before that is
    negative. What concerned all at once (faults, ends of processes, links between them) is left out where there are
    several: it was at another time of each."""
    if not found.spans:
        return found
    of = list(accumulate(row.head for row in found.rows))
    begins: dict[int, float] = {}
    for one in found.spans:
        if one.tone not in WAITS:
            begins[of[one.row]] = min(begins.get(of[one.row], one.begun), one.begun)
    zeros = [begins.get(group, 0.0) for group in of]

    def moved(at: float, zero: float) -> float:
        return round(at - zero, 6)

    spans = [
        replace(one, begun=moved(one.begun, zeros[one.row]), ended=moved(one.ended, zeros[one.row]))
        for one in found.spans
    ]
    links = [
        (a, moved(begun, zeros[a]), b, moved(ended, zeros[b])) for a, begun, b, ended in found.links if of[a] == of[b]
    ]
    begun, ended = min(one.begun for one in spans), max(one.ended for one in spans)
    alone, zero = of[-1] == 1, zeros[-1]
    shades = [Shade(moved(one.begun, zero), moved(one.ended, zero), one.name) for one in found.shades if alone]
    marks = [replace(one, at=moved(one.at, zero)) for one in found.marks if alone]
    return replace(
        found, begun=begun, ended=max(ended, begun + 0.001), spans=spans, links=links, shades=shades, marks=marks
    )
