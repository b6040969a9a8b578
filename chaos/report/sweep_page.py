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
from squall.core.errors import StoreFileError

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


@dataclass(frozen=True)
class Dot:
    """A value of a chart, percent from the left and the bottom; `note` says what it is."""

    x: float
    y: float
    tone: str
    note: str


@dataclass(frozen=True)
class SweepChart:
    """Dots, joined where they are of one line; ticks along the values, and up."""

    title: str
    unit: str
    about: str
    levels: tuple[Tick, ...]
    dots: tuple[Dot, ...]
    path: str


def write_sweep_report(sweep: Sweep, folder: Path) -> Path:
    """Write sweep.html into a sweep's folder and return its path. The page needs nothing but itself. Raises
    StoreFileError when it cannot be written."""
    path = folder / SWEEP_REPORT
    temporary = path.with_name(f"{path.name}.tmp-0")
    try:
        temporary.write_text(_render(sweep, folder.name), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StoreFileError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def place(sweep: Sweep, value: float) -> float:
    """Where a value is on the axis of a sweep: 0 at its low end, 100 at its high one."""
    to = math.log if sweep.log else float
    return round(100 * (to(value) - to(sweep.low)) / (to(sweep.high) - to(sweep.low)), 3)


def value_text(sweep: Sweep, value: float) -> str:
    """A value with its unit, as a person reads it."""
    return f"{value:,.0f}{sweep.unit}" if sweep.whole else f"{value:,.4g}{sweep.unit}"


def charts(sweep: Sweep) -> tuple[SweepChart, ...]:
    """How often each value broke, and how slow it was."""
    shares = [
        Dot(
            place(sweep, level.value),
            100 * level.broke / level.decided if level.decided else 0.0,
            "bad" if level.broke else "s0" if level.decided else "odd",
            f"{level.text}: {level.broke} of {many(level.decided, 'run')} broke"
            if level.decided
            else f"{level.text}: not decided",
        )
        for level in sweep.curve
    ]
    decided = [dot for dot in shares if dot.tone != "odd"]
    levels = tuple(Tick(at, f"{at} %") for at in (0, 50, 100))
    about = "Each dot is a value that was run; shaded: where the knee is, with 95 % confidence."
    found = [
        SweepChart("Runs that broke", "share of those at each value", about, levels, tuple(shares), _path(decided))
    ]
    slow = [(level, level.p99_s) for level in sweep.curve if level.p99_s is not None and 0 < level.p99_s < math.inf]
    if slow:
        found.append(_latencies(sweep, slow))
    return tuple(found)


def _latencies(sweep: Sweep, slow: Sequence[tuple[Level, float]]) -> SweepChart:
    values = [math.log10(p99_s) for _, p99_s in slow]
    low, high = math.floor(min(values)), math.ceil(max(values) + 1e-9)
    dots = [
        Dot(
            place(sweep, level.value),
            100 * (math.log10(p99_s) - low) / (high - low),
            "s0",
            latency(p99_s),
        )
        for level, p99_s in slow
    ]
    levels = tuple(Tick(100 * n / (high - low), latency(10.0 ** (low + n) * 1.0000001)) for n in range(high - low + 1))
    about = "The slowest subscriber's, on a logarithmic scale; of several runs of a value the middle one's."
    return SweepChart("Latency p99", "logarithmic", about, levels, tuple(dots), _path(dots))


def _path(dots: Sequence[Dot]) -> str:
    """The `d` of an SVG path through the dots, in a box of 1000 by 100."""
    return "".join(f"{'L' if number else 'M'}{10 * dot.x:.1f} {100 - dot.y:.2f}" for number, dot in enumerate(dots))


def _ticks(sweep: Sweep) -> tuple[Tick, ...]:
    """Round values along the axis; on a logarithmic one, its ends and what is halfway."""
    if sweep.log:
        ratio = sweep.high / sweep.low
        values = [sweep.low * ratio ** (number / 3) for number in range(4)]
    else:
        step = nice((sweep.high - sweep.low) / TICKS)
        values = [step * n for n in range(math.ceil(sweep.low / step), math.floor(sweep.high / step) + 1)]
    return tuple(Tick(place(sweep, value), value_text(sweep, value)) for value in values)


@dataclass(frozen=True)
class Window:
    """The knee on the axis, percent: the ends of its interval, and itself."""

    left: float
    width: float
    at: float


def window(sweep: Sweep) -> Window | None:
    """Where the knee is drawn."""
    if sweep.knee is None:
        return None
    low, high = place(sweep, sweep.knee.low), place(sweep, sweep.knee.high)
    return Window(low, max(0.2, high - low), place(sweep, sweep.knee.at))


def key_figures(sweep: Sweep) -> list[tuple[str, str, str]]:
    """Label, value and note of what matters most."""
    found = []
    if sweep.knee is not None:
        low, high = value_text(sweep, sweep.knee.low), value_text(sweep, sweep.knee.high)
        interval = f"{sweep.knee.confidence:.0%} interval {low} to {high}"
        found.append(("Knee", value_text(sweep, sweep.knee.at), interval))
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


def row(point: Point) -> dict[str, str]:
    """What a table says of a run."""
    mark, tone = OUTCOMES[point.outcome]
    return {
        "mark": mark,
        "tone": tone,
        "outcome": MEANINGS[point.outcome],
        "value": point.text,
        "run": point.run,
        "said": ", ".join(point.broke) or ("" if point.outcome == "held" else point.headline),
        "rate": NOTHING if point.per_s is None else rate(point.per_s),
        "p99": NOTHING if point.p99_s is None else latency(point.p99_s),
    }


def _render(sweep: Sweep, name: str) -> str:
    templates = Templates(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # whatever the template is called
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template(TEMPLATE).render(
        name=name,
        sweep=sweep,
        word="Interrupted" if sweep.interrupted else WORDS[sweep.state],
        tone="unknown" if sweep.interrupted else TONES[sweep.state],
        figures=key_figures(sweep),
        charts=charts(sweep),
        ticks=_ticks(sweep),
        window=window(sweep),
        rows=[row(point) for point in sweep.points],
    )
