"""Figures as people read them: each with its unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from squall.chaos.figures import latency, size
from squall.core.units import format_count

NOTHING = "\N{EN DASH}"


def rate(per_second: float) -> str:
    """`9,998/s`; small ones with up to two digits after the point."""
    return f"{format_count(round(per_second, 2 if per_second < 10 else None))}/s"


def share(part: float, whole: float) -> str:
    """`2.02 %`; small shares keep two digits."""
    percent = 100 * part / whole if whole else 0.0
    return f"{percent:.3g} %" if percent < 99.95 or part == whole else "99.9 %"


def many(count: float, noun: str) -> str:
    """`1 event`, `2,000 events`, `3 deliveries`."""
    if count != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{format_count(count)} {noun}"


_LABELS = {
    "attempts": "judged",
    "first_begins": "delivered",
    "keys": "in",
    "pairs": "measured",
    "pairs_inside": "measured inside",
    "pairs_outside": "measured outside",
    "subscribers": "counted",
    "unhandled": "never handled",
    "unhandled_inside": "never handled inside",
    "unhandled_outside": "never handled outside",
}
_NOUNS = {
    "attempts": "call",
    "dead_lettered": "event",
    "failed": "call",
    "first_begins": "event",
    "keys": "key",
    "most_attempts": "attempt",
    "pairs": "delivery",
    "redelivered": "delivery",
    "subscribers": "subscriber",
    "total": "call",
    "unexplained": "delivery",
    "unhandled": "delivery",
    "violations": "violation",
}


_UNITS: Mapping[str, Callable[[float], str]] = {
    "s": latency,
    "bytes": size,
    "count": lambda value: format_count(round(value, 2) + 0.0),
}


def figure(name: str, value: float) -> tuple[str, str]:
    """A finding's figure as a label and a text with its unit, which the end of its name tells."""
    if name == "per_s":
        return "average", rate(value)
    if name == "seconds":
        return "measured over", latency(value)
    label = _LABELS.get(name, name.replace("_", " "))
    for unit, told in _UNITS.items():
        if name.endswith(f"_{unit}"):
            return label.removesuffix(f" {unit}"), told(value)
    if name.endswith("ratio") or name == "loss_rate_below":
        return label, f"{100 * value:.2g} %"
    noun = _NOUNS.get(name.removesuffix("_inside").removesuffix("_outside"), "event")
    return label, many(value, noun)
