"""Makes sweep.html from a sweep: its sentence, the curve with the knee, and every run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined

from squall.chaos.figures import latency
from squall.chaos.report.axis import nice
from squall.chaos.report.chart import Tick
from squall.chaos.report.words import NOTHING, many, rate
from squall.chaos.sweep.file import Level, Point, Sweep
from squall.chaos.sweep.plan import Outcome, State
from squall.chaos.whole_file import write_whole

SWEEP_REPORT = "sweep.html"
TEMPLATE = "sweep.html.j2"
TICKS = 6
WORDS: dict[State, str] = {
    "knee": "Knee found",
    "holds": "No knee in the range",
    "broken": "Broken from the start",
    "generator": "The generator was the limit",
    "unknown": "Unknown",
}
TONES: dict[State, str] = {
    "knee": "valid",
    "holds": "valid",
    "broken": "invalid",
    "generator": "unknown",
    "unknown": "unknown",
}
OUTCOMES: dict[Outcome, tuple[str, str]] = {
    "held": ("✓", "valid"),
    "broke": ("✗", "invalid"),
    "generator": ("»", "unknown"),
    "unknown": ("?", "unknown"),
}
MEANINGS: dict[Outcome, str] = {
    "held": "holds",
    "broke": "breaks",
    "generator": "the generator was the limit",
    "unknown": "unknown",
}
UNDECIDED_AT = 50.0
"""Where a value stands of which nothing was decided: neither below, where all held, nor above, where all broke."""


@dataclass(frozen=True)
class Dot:
    """A value of a chart, percent from the left and the bottom; `note` says what it is."""

    x: float
    y: float
    tone: str
    note: str


@dataclass(frozen=True)
class SweepChart:
    """Dots over the values, and a line: an SVG that is used as a mask, so that the line has a colour of the page."""

    title: str
    unit: str
    about: str
    levels: tuple[Tick, ...]
    dots: tuple[Dot, ...]
    line: str


@dataclass(frozen=True)
class Window:
    """The knee on the axis, percent: the ends of its interval, and itself."""

    left: float
    width: float
    at: float


@dataclass(frozen=True)
class Curve:
    """What curve.html.j2 draws: charts over the values of `key`. `limit`: from where on the generator was late, percent
    of the axis."""

    key: str
    charts: tuple[SweepChart, ...]
    ticks: tuple[Tick, ...]
    window: Window | None
    limit: float | None


@dataclass(frozen=True)
class SweptRow:
    """A row of the table of runs. `said`: what broke, or why nothing was decided."""

    mark: str
    tone: str
    outcome: str
    value: str
    run: str
    said: str
    rate: str
    p99: str


def write_sweep_report(sweep: Sweep, folder: Path) -> Path:
    """Write sweep.html into a sweep's folder and return its path. The page needs nothing but itself. Raises
    StoreFileError when it cannot be written."""
    path, text = folder / SWEEP_REPORT, _render(sweep, folder.name)
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def heading(sweep: Sweep) -> tuple[str, str]:
    """What came out in a word or two, and the class of its colour."""
    if sweep.interrupted:
        return "Interrupted", "unknown"
    return (WORDS[sweep.state], TONES[sweep.state]) if sweep.over else ("Not over", "unfinished")


def place(sweep: Sweep, value: float) -> float:
    """Where a value is on the axis of a sweep: 0 at its low end, 100 at its high one."""
    to = math.log if sweep.log else float
    return round(100 * (to(value) - to(sweep.low)) / (to(sweep.high) - to(sweep.low)), 3)


def value_text(sweep: Sweep, value: float) -> str:
    """A value with its unit, as a person reads it."""
    return f"{value:,.0f}{sweep.unit}" if sweep.whole else f"{value:,.4g}{sweep.unit}"


def interval_text(sweep: Sweep) -> str:
    """`95 % interval 110 to 116`; empty without a knee."""
    if sweep.knee is None:
        return ""
    low, high = value_text(sweep, sweep.knee.low), value_text(sweep, sweep.knee.high)
    return f"{100 * sweep.knee.confidence:.0f} % interval {low} to {high}"


def curve(sweep: Sweep) -> Curve:
    """How often each value broke, and how slow it was."""
    shares = [
        Dot(
            place(sweep, level.value),
            100 * level.broke / level.decided if level.decided else UNDECIDED_AT,
            "bad" if level.broke else "s0" if level.decided else "odd",
            f"{level.text}: {level.broke} of {many(level.decided, 'run')} broke"
            if level.decided
            else f"{level.text}: not decided",
        )
        for level in sweep.curve
    ]
    levels = tuple(Tick(at, f"{at} %") for at in (0, 50, 100))
    about = ["Each dot is a value that was run; shaded: where the knee is, with 95 % confidence."]
    about += ["Hollow, halfway up: nothing could be decided there."] if any(dot.tone == "odd" for dot in shares) else []
    about += ["Dashed: from there on the generator could not keep up."] if sweep.limit is not None else []
    found = [
        SweepChart(
            "Runs that broke", "share of those at each value", " ".join(about), levels, tuple(shares), _line(shares)
        )
    ]
    slow = [(level, level.p99_s) for level in sweep.curve if level.p99_s is not None and 0 < level.p99_s < math.inf]
    if slow:
        found.append(_latencies(sweep, slow))
    limit = None if sweep.limit is None else place(sweep, sweep.limit)
    return Curve(sweep.key, tuple(found), _ticks(sweep), _window(sweep), limit)


def _latencies(sweep: Sweep, slow: Sequence[tuple[Level, float]]) -> SweepChart:
    values = [math.log10(p99_s) for _, p99_s in slow]
    low, high = math.floor(min(values)), math.ceil(max(values) + 1e-9)
    dots = [
        Dot(
            place(sweep, level.value),
            100 * (math.log10(p99_s) - low) / (high - low),
            "s0" if level.decided else "odd",
            f"{level.text}: {latency(p99_s)}",
        )
        for level, p99_s in slow
    ]
    levels = tuple(Tick(100 * n / (high - low), latency(10.0 ** (low + n) * 1.0000001)) for n in range(high - low + 1))
    about = (
        "From when an event was to be sent until the slowest subscriber had handled it, of what was handled; of "
        "several runs of a value the middle one's. Logarithmic."
    )
    return SweepChart("Latency p99", "until handled", about, levels, tuple(dots), _line(dots))


def _line(dots: Sequence[Dot]) -> str:
    """An SVG of the line through what was decided, which is stretched to the plot."""
    decided = [dot for dot in dots if dot.tone != "odd"]
    path = "".join(f"{'L' if number else 'M'}{10 * dot.x:.1f} {100 - dot.y:.2f}" for number, dot in enumerate(decided))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 100" preserveAspectRatio="none">'
        f'<path d="{path}" fill="none" stroke="#000" stroke-width="1.6" vector-effect="non-scaling-stroke"/></svg>'
    )


def _ticks(sweep: Sweep) -> tuple[Tick, ...]:
    """Round values along the axis; on a logarithmic one, its ends and what is halfway."""
    if sweep.log:
        ratio = sweep.high / sweep.low
        values = [sweep.low * ratio ** (number / 3) for number in range(4)]
    else:
        step = nice((sweep.high - sweep.low) / TICKS)
        values = [step * n for n in range(math.ceil(sweep.low / step), math.floor(sweep.high / step) + 1)]
    return tuple(Tick(place(sweep, value), value_text(sweep, value)) for value in values)


def _window(sweep: Sweep) -> Window | None:
    """Where the knee is drawn."""
    if sweep.knee is None:
        return None
    low, high = place(sweep, sweep.knee.low), place(sweep, sweep.knee.high)
    return Window(low, max(0.2, high - low), place(sweep, sweep.knee.at))


def key_figures(sweep: Sweep) -> list[tuple[str, str, str]]:
    """Label, value and note of what matters most."""
    found = []
    if sweep.knee is not None:
        found.append(("Knee", value_text(sweep, sweep.knee.at), interval_text(sweep)))
    holding = [level for level in sweep.curve if level.decided and not level.broke]
    below = [level for level in holding if all(one.value > level.value for one in sweep.curve if one.broke)]
    if below:
        found.append(("Never broke up to", below[-1].text, many(below[-1].decided, "run")))
    if sweep.limit is not None:
        found.append(("Limit of the generator", value_text(sweep, sweep.limit), "could not be sent in time"))
    span = f"{value_text(sweep, sweep.low)} to {value_text(sweep, sweep.high)}"
    most = ", as many as --max-runs allows" if sweep.cut_short else ""
    found.append(("Runs", f"{len(sweep.points):,}", f"{sweep.method} over {sweep.key}, {span}{most}"))
    return found


def swept_row(point: Point) -> SweptRow:
    """What a table says of a run."""
    mark, tone = OUTCOMES[point.outcome]
    return SweptRow(
        mark,
        tone,
        MEANINGS[point.outcome],
        point.text,
        point.run,
        ", ".join(point.broke) or ("" if point.outcome == "held" else point.headline),
        NOTHING if point.per_s is None else rate(point.per_s),
        NOTHING if point.p99_s is None else latency(point.p99_s),
    )


def _render(sweep: Sweep, name: str) -> str:
    templates = Templates(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # whatever the template is called
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    word, tone = heading(sweep)
    return templates.get_template(TEMPLATE).render(
        name=name,
        sweep=sweep,
        word=word,
        tone=tone,
        figures=key_figures(sweep),
        curve=curve(sweep),
        rows=[swept_row(point) for point in sweep.points],
    )
