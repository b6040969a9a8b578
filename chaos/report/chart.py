"""Lines over time as shapes: SVG paths, ticks and texts, computed here so that the page only has to show them.

A plot is a box of 1000 by 100 that the page stretches to its width, so paths are in these units; whatever must keep its
shape (text, the width of lines) is placed by the page, in percent of the box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from squall.chaos.figures import latency
from squall.chaos.report.axis import Axis, nice
from squall.chaos.report.words import NOTHING, rate

WIDTH, HEIGHT = 1000.0, 100.0
MOST_TICKS = 4
TIME_TICKS = 8
MOST_OVER = 3.0
"""A line that reaches so many times higher than all others runs out of the plot instead of flattening them."""

Values = Sequence[float | None]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: `at` percent from the left or the bottom."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One line. `tone` is its colour's class; `texts` what it is in each bucket, `note` what it is on the whole.

    `faint`: the lesser one of a pair.
    """

    name: str
    tone: str
    path: str
    texts: tuple[str, ...]
    note: str = ""
    faint: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines with a scale. `unit` says what it counts."""

    title: str
    unit: str
    about: str
    ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Series:
    """What a line shows, in each bucket; None: nothing."""

    name: str
    tone: str
    values: Values
    note: str = ""
    faint: bool = False
    may_exceed: bool = False


def time_ticks(axis: Axis) -> tuple[Tick, ...]:
    """Round seconds along the axis."""
    begun_s, ended_s = axis.seconds(axis.begun_ns), axis.seconds(axis.ended_ns)
    step = nice((ended_s - begun_s) / TIME_TICKS)
    numbers = range(math.ceil(begun_s / step), math.floor(ended_s / step) + 1)
    digits = next(digits for digits in range(9) if math.isclose(round(step, digits), step))
    return tuple(
        Tick(round(100 * (n * step - begun_s) / (ended_s - begun_s), 3), f"{n * step:,.{digits}f} s") for n in numbers
    )


def rate_chart(title: str, unit: str, about: str, series: Sequence[Series], axis: Axis) -> Chart:
    """Counts by bucket as rates per second, from zero."""
    per_s = 1e9 / axis.bucket_ns
    kept = [max((v or 0 for v in one.values), default=0) * per_s for one in series if not one.may_exceed]
    over = [max((v or 0 for v in one.values), default=0) * per_s for one in series if one.may_exceed]
    most = max(kept, default=0.0)
    most = max([most, *(peak for peak in over if peak <= MOST_OVER * most or not most)]) or 1.0
    step = nice(most / MOST_TICKS)
    top = step * math.ceil(most / step * 1.02)
    ticks = [Tick(round(100 * n * step / top, 2), rate(n * step)) for n in range(round(top / step) + 1)]

    def height(value: float) -> float:
        return min(value * per_s / top, 1.2)

    return Chart(title, unit, about, tuple(ticks), _lines(series, axis, height, lambda value: rate(value * per_s)))


def level_chart(
    title: str, unit: str, about: str, series: Sequence[Series], axis: Axis, text: Callable[[float], str]
) -> Chart:
    """What there was in each bucket, from zero."""
    most = max((value or 0.0 for one in series for value in one.values), default=0.0) or 1.0
    step = nice(most / MOST_TICKS)
    top = step * math.ceil(most / step * 1.02)
    ticks = [Tick(round(100 * n * step / top, 2), text(n * step)) for n in range(round(top / step) + 1)]
    return Chart(title, unit, about, tuple(ticks), _lines(series, axis, lambda value: value / top, text))


def latency_chart(title: str, unit: str, about: str, series: Sequence[Series], axis: Axis) -> Chart:
    """Seconds on a logarithmic scale, of whole or one third decades."""
    values = [v for one in series for v in one.values if v is not None and v > 0] or [0.001, 0.01]
    low, high = _third(min(values), math.floor), _third(max(values), math.ceil)
    if high == low:
        low, high = low - 0.5, high + 0.5
    steps = (1.0, 3.0) if high - low < 2.2 else (1.0,)
    marks = [
        (math.log10(step) + power, step * 10.0**power)
        for power in range(math.floor(low) - 1, math.ceil(high) + 1)
        for step in steps
    ]
    ticks = [
        Tick(round(100 * (at - low) / (high - low), 2), latency(seconds))
        for at, seconds in marks
        if low - 1e-6 <= at <= high + 1e-6
    ]

    def height(value: float) -> float:
        return (math.log10(max(value, 10.0**low)) - low) / (high - low)

    return Chart(title, unit, about, tuple(ticks), _lines(series, axis, height, latency))


def _third(value: float, to: Callable[[float], int]) -> float:
    """The logarithm of 1, 3, 10, 30 … next to the value."""
    return to(math.log10(value) * 2 + (1e-9 if to is math.floor else -1e-9)) / 2


def _lines(
    series: Sequence[Series], axis: Axis, height: Callable[[float], float], text: Callable[[float], str]
) -> tuple[Line, ...]:
    return tuple(
        Line(
            one.name,
            one.tone,
            path(one.values, axis.count, height),
            tuple(NOTHING if value is None else text(value) for value in one.values),
            one.note,
            one.faint,
        )
        for one in series
    )


def path(values: Values, count: int, height: Callable[[float], float]) -> str:
    """The `d` of an SVG path through the middles of the buckets, with a gap where there is no value."""
    parts: list[str] = []
    drawing = False
    for number, value in enumerate(values):
        if value is None:
            drawing = False
            continue
        x, y = WIDTH * (number + 0.5) / count, HEIGHT * (1 - height(value))
        parts.append(f"{'L' if drawing else 'M'}{x:.1f} {y:.2f}")
        if not drawing and (number + 1 == count or values[number + 1] is None):
            parts.append("h0")
        drawing = True
    return "".join(parts)
