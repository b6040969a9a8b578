"""A run over time as one ECharts option: throughput, latencies and depths under each other, zooming together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from squall.chaos.check.evidence import OPEN
from squall.chaos.report.axis import Axis
from squall.chaos.report.chart import Values
from squall.chaos.report.held import Held, counts, sizes
from squall.chaos.report.measured import Fault, Measured
from squall.chaos.report.view import charted
from squall.dashboards.markup import plain
from squall.dashboards.over_time import PER_DECADE, Heat, Spread
from squall.dashboards.tones import Tones

Spec = dict[str, object]
LEFT, RIGHT, PLOT, GAP, HEAD, FOOT = 68, 16, 150, 92, 62, 76
"""Pixels: beside the plots, of a plot, between two, above the first, below the last."""
NAME, LETTER, LANE, NARROW = 130, 7, 16, 260
"""Pixels: the widest name of a window, one letter of it, from one row of names to the next; a plot on a phone."""
LANES = PLOT // LANE - 1
"""So many rows of names fit into a plot."""


@dataclass(frozen=True)
class Line:
    """One line of a plot; None: nothing there. `area`: filled below. `times_s`: its own, where not those of all.
    `held`: when a gate held back what it is about, shaded in its colour."""

    name: str
    values: Sequence[float | None]
    color: str
    dashed: bool = False
    area: bool = False
    times_s: Sequence[float] | None = None
    held: Sequence[Shading] = ()


@dataclass(frozen=True)
class Plot:
    """One plot: its title, what its values are, and lines that share the axis of time."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    log: bool = False


@dataclass(frozen=True)
class Shading:
    """A named window, in seconds: when a fault was active, or a gate held a subscriber back."""

    name: str
    begun_s: float
    ended_s: float


@dataclass
class _Drawing:
    """What an ECharts option gathers, a part for each plot."""

    titles: list[Spec] = field(default_factory=list)
    legends: list[Spec] = field(default_factory=list)
    grids: list[Spec] = field(default_factory=list)
    x: list[Spec] = field(default_factory=list)
    y: list[Spec] = field(default_factory=list)
    series: list[Spec] = field(default_factory=list)

    @property
    def top(self) -> int:
        """Where the next plot begins."""
        return HEAD + len(self.grids) * (PLOT + GAP)


def run_plots(measured: Measured, spread: Spread, tones: Tones) -> tuple[Plot, ...]:
    """Published, handled, latency and waiting, of the subscribers that charts show; of a soak, what was held."""
    per_s = 1e9 / measured.axis.bucket_ns
    shown = list(charted(measured.subscribers).values())
    colors = [tones.series[place % len(tones.series)] for place in range(len(shown))]
    publishes = measured.publishes

    def rates(counts: Sequence[int]) -> list[float | None]:
        return [round(count * per_s, 1) for count in counts]

    published = [
        Line("asked", rates(publishes.asked), tones.soft, dashed=True),
        Line("acknowledged", rates(publishes.ok), tones.series[0]),
    ]
    if any(publishes.fail):
        published.append(Line("refused", rates(publishes.fail), tones.bad))
    if any(publishes.info):
        published.append(Line("outcome unknown", rates(publishes.info), tones.odd))
    gates = {one.terms.number: _held_by(measured, one.terms.number) for one in shown}
    handled = [
        Line(one.terms.name, rates(one.handled), color, held=gates[one.terms.number])
        for one, color in zip(shown, colors, strict=True)
    ]
    failed = [sum(counts) for counts in zip(*(one.failed for one in measured.subscribers), strict=True)]
    if any(failed):
        handled.append(Line("failed attempts", rates(failed), tones.bad))
    latencies = []
    for one, color in zip(shown, colors, strict=True):
        latencies.append(Line(f"{one.terms.name} p99", [_ms(v) for v in one.p99_s], color))
        latencies.append(Line(f"{one.terms.name} p50", [_ms(v) for v in one.p50_s], color, dashed=True))
    depths = {depth.subscription: depth.waiting for depth in spread.depths}
    waiting = [
        Line(one.terms.name, depths[one.terms.number], color, area=True, held=gates[one.terms.number])
        for one, color in zip(shown, colors, strict=True)
        if one.terms.number in depths
    ]
    return (
        Plot("Published", "events/s", tuple(published)),
        Plot("Handled", "deliveries/s", tuple(handled)),
        Plot("Latency", "ms, logarithmic", tuple(latencies), log=True),
        Plot("Waiting or in hand", "deliveries", tuple(waiting)),
        *_held_plots(measured.held, tones),
    )


def _held_plots(processes: Sequence[Held], tones: Tones) -> Iterator[Plot]:
    """What the target held, where it was soaked."""
    if processes:
        yield Plot("Memory", "MB", _lines(sizes(processes), 1e6, tones))
        yield Plot("Handles, threads, tasks", "of the target", _lines(counts(processes), 1.0, tones))


def _lines(named: Mapping[str, Values], per: float, tones: Tones) -> tuple[Line, ...]:
    return tuple(
        Line(
            name,
            [None if value is None else round(value / per, 3) for value in values],
            tones.series[place % len(tones.series)],
        )
        for place, (name, values) in enumerate(named.items())
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None or seconds <= 0 else round(seconds * 1e3, 4)


def shadings(faults: Sequence[Fault], axis: Axis) -> list[Shading]:
    """The windows of a run's faults; one that stood to the end ends with the axis."""
    end_s = axis.seconds(axis.ended_ns)
    return [
        Shading(one.name, axis.seconds(one.begun_ns), end_s if one.ended_ns is None else axis.seconds(one.ended_ns))
        for one in faults
    ]


def _held_by(measured: Measured, subscription: int) -> tuple[Shading, ...]:
    """When a gate held the subscriber back. What follows within half a bucket goes on: nobody could see it stop."""
    axis, found = measured.axis, list[Shading]()
    for one in measured.gates:
        if one.subscription != subscription or one.state != OPEN:
            continue
        name, begun_s = f"held by {one.gate}", axis.seconds(one.begun)
        ended_s = axis.seconds(axis.ended_ns if one.ended is None else one.ended)
        if found and found[-1].name == name and begun_s - found[-1].ended_s < axis.bucket_ns / 2e9:
            begun_s = found.pop().begun_s
        found.append(Shading(name, begun_s, ended_s))
    return tuple(found)


def middles(axis: Axis) -> list[float]:
    """Where the value of each bucket is drawn, seconds."""
    return [round(second + axis.bucket_ns / 2e9, 4) for second in axis.times_s()]


def over_time(
    plots: Sequence[Plot],
    times_s: Sequence[float],
    span: tuple[float, float],
    windows: Sequence[Shading],
    heat: Heat | None,
    tones: Tones,
) -> Spec:
    """The option: each plot's lines have a value for each of the times; the axis goes from span's begin to its end."""
    drawing = _Drawing()
    for plot in plots:
        _add_plot(drawing, plot, times_s, span, windows, tones)
    linked = list(range(len(plots)))
    if heat is not None:
        _add_heat(drawing, heat, span, windows, tones)
    everything = list(range(len(drawing.x)))
    bottom = {"type": "slider", "xAxisIndex": everything, "bottom": 8, "height": 24, "showDataShadow": False}
    wheel = {"type": "inside", "xAxisIndex": everything, "zoomOnMouseWheel": "shift", "moveOnMouseWheel": False}
    return {
        "animation": False,
        "title": drawing.titles,
        "legend": drawing.legends,
        "grid": drawing.grids,
        "xAxis": drawing.x,
        "yAxis": drawing.y,
        "series": drawing.series,
        "tooltip": {"trigger": "axis", "confine": True},
        "axisPointer": {"link": [{"xAxisIndex": linked}]},
        "dataZoom": [
            {**bottom, "left": LEFT, "right": RIGHT, "showDetail": False, "brushSelect": False},
            {**wheel, "preventDefaultMouseMove": False},
        ],
        **({"visualMap": _scale(heat, len(plots), drawing, tones)} if heat is not None else {}),
    }


def height(plots: int, *, heat: bool) -> int:
    """Of the chart, in pixels."""
    return HEAD + (plots + heat) * (PLOT + GAP) - GAP + FOOT


def _title(drawing: _Drawing, title: str, unit: str, tones: Tones) -> None:
    drawing.titles.append(
        {
            "text": f"{title}  {{unit|{unit}}}",
            "top": drawing.top - 58,
            "left": 0,
            "padding": 0,
            "textStyle": {
                "fontSize": 15,
                "fontWeight": 600,
                "color": tones.ink,
                "rich": {"unit": {"fontSize": 13, "color": tones.soft, "fontWeight": 400}},
            },
        }
    )
    drawing.grids.append({"left": LEFT, "right": RIGHT, "top": drawing.top, "height": PLOT, "containLabel": False})


def _add_plot(
    drawing: _Drawing,
    plot: Plot,
    times: Sequence[float],
    span: tuple[float, float],
    windows: Sequence[Shading],
    tones: Tones,
) -> None:
    number, top = len(drawing.grids), drawing.top
    _title(drawing, plot.title, plot.unit, tones)
    names = [plain(line.name, 60) for line in plot.lines]
    legend = {"type": "scroll", "left": 0, "top": top - 36, "itemHeight": 8, "itemWidth": 18, "padding": 0}
    drawing.legends.append({**legend, "data": names, "textStyle": {"color": tones.ink, "fontSize": 13}})
    label = {"color": tones.soft, "fontSize": 12, "hideOverlap": True}
    drawing.x.append(_time_axis(number, span, tones))
    drawing.y.append(
        {
            "type": "log" if plot.log else "value",
            "gridIndex": number,
            "axisLabel": {**label, "formatter": "{value} ms" if plot.log else None},
            "splitNumber": 3,
            "splitLine": {"lineStyle": {"color": tones.grid}},
            **({} if plot.log else {"min": 0}),
        }
    )
    for place, (line, name) in enumerate(zip(plot.lines, names, strict=True)):
        series: Spec = {
            "type": "line",
            "name": name,
            "xAxisIndex": number,
            "yAxisIndex": number,
            "showSymbol": False,
            "data": [[time, value] for time, value in zip(line.times_s or times, line.values, strict=True)],
            "lineStyle": {"color": line.color, "width": 1.6, "type": "dotted" if line.dashed else "solid"},
            "itemStyle": {"color": line.color},
            "tooltip": {"valueFormatter": f"%,.{3 if plot.log else 0}f {plot.unit.partition(',')[0]}"},
        }
        if line.area:
            series["areaStyle"] = {"color": line.color, "opacity": 0.12}
        names_of = (0, LANES) if number == 0 else (0, 0)
        areas = _areas(windows, span, names_of, tones.shade, tones.shade_ink) if place == 0 else []
        areas += _areas(line.held, span, (min(place, LANES - 1), place + 1), line.color, tones.ink, opacity=0.13)
        if areas:
            series["markArea"] = _mark_area(areas)
        drawing.series.append(series)


def _time_axis(number: int, span: tuple[float, float], tones: Tones) -> Spec:
    """The axis of time below a plot: its ticks are where those of all others are."""
    return {
        "type": "value",
        "gridIndex": number,
        "position": "bottom",
        "min": span[0],
        "max": span[1],
        "axisLabel": {"color": tones.soft, "fontSize": 12, "hideOverlap": True, "formatter": "{value} s"},
        "splitLine": {"show": False},
        "axisLine": {"lineStyle": {"color": tones.soft}},
    }


def _areas(
    windows: Sequence[Shading],
    span: tuple[float, float],
    lanes: tuple[int, int],
    color: str,
    ink: str,
    *,
    opacity: float = 1.0,
) -> list[list[Spec]]:
    """Shaded areas. Names that would overprint each other on a phone stand under each other, in the rows from the first
    to before the second of `lanes`; those that find no room there are left out: the tables have them."""
    first, last = lanes
    per_px = (span[1] - span[0]) / NARROW
    until: list[float] = []
    named: list[tuple[float, float, str, Shading]] = []
    for one in windows:
        name = plain(one.name, 24)
        middle = (max(one.begun_s, span[0]) + min(one.ended_s, span[1])) / 2
        half = min(NAME, LETTER * len(name)) / 2 * per_px
        named.append((middle - half, middle + half, name, one))
    areas: list[list[Spec]] = []
    for begun, ended, name, one in sorted(named, key=lambda each: each[0]):
        lane = next((number for number, taken in enumerate(until) if taken <= begun), len(until))
        shown = first + lane < last
        if shown:
            until[lane : lane + 1] = [ended]
        label = {"show": shown, "offset": [0, 4 + LANE * (first + lane)], "color": ink}
        style = {"color": color, "opacity": opacity}
        areas.append([{"name": name, "xAxis": one.begun_s, "label": label, "itemStyle": style}, {"xAxis": one.ended_s}])
    return areas


def _mark_area(areas: list[list[Spec]]) -> Spec:
    label = {"position": "insideTop", "fontSize": 12, "width": NAME, "overflow": "truncate"}
    return {"silent": True, "label": label, "data": areas}


def _add_heat(
    drawing: _Drawing, heat: Heat, span: tuple[float, float], windows: Sequence[Shading], tones: Tones
) -> None:
    """Its cells have an axis of their own, which counts columns and is not shown: they do not end at round seconds.
    Windows are shaded on the axis of time, behind them, by a line that has no points."""
    number = len(drawing.grids)
    _title(drawing, "Latency heat map", "deliveries by when they were due", tones)
    width = (span[1] - span[0]) / heat.columns
    label = {"color": tones.soft, "fontSize": 12, "hideOverlap": True}
    columns = [f"{span[0] + place * width:.2f} s" for place in range(heat.columns)]
    drawing.x.append({"type": "category", "gridIndex": number, "data": columns, "show": False})
    drawing.x.append(_time_axis(number, span, tones))
    rows = range(heat.low, heat.high + 1)
    names = [_from_ms(row) for row in rows]
    drawing.y.append({"type": "category", "gridIndex": number, "data": names, "axisLabel": label})
    if windows:
        shade = _mark_area(_areas(windows, span, (0, 0), tones.shade, tones.shade_ink))
        empty = {"type": "line", "xAxisIndex": number + 1, "yAxisIndex": number, "data": []}
        drawing.series.append({**empty, "markArea": shade})
    drawing.series.append(
        {
            "type": "heatmap",
            "name": "deliveries",
            "xAxisIndex": number,
            "yAxisIndex": number,
            "data": [[x, y - heat.low, count] for x, y, count in heat.cells],
            "tooltip": {"trigger": "item"},
            "emphasis": {"itemStyle": {"borderColor": tones.ink, "borderWidth": 1}},
        }
    )


def _from_ms(row: int) -> str:
    """From which latency on a row of the heat map is: `10 ms`."""
    value = 10 ** (row / PER_DECADE) * 1e3
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"


def _scale(heat: Heat, plots: int, drawing: _Drawing, tones: Tones) -> Spec:
    most = max(count for _, _, count in heat.cells)
    return {
        "type": "continuous",
        "seriesIndex": len(drawing.series) - 1,
        "min": 0,
        "max": most,
        "orient": "horizontal",
        "right": RIGHT,
        "top": HEAD + plots * (PLOT + GAP) - 36,
        "itemWidth": 10,
        "itemHeight": 90,
        "text": [f"{most:,}", "0"],
        "textStyle": {"color": tones.soft, "fontSize": 12},
        "inRange": {"color": list(tones.heat)},
    }
