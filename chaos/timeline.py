"""What a scenario will do, and when: the dry run."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from squall.chaos.composition import Composed
from squall.chaos.scenario import Drain, Scenario
from squall.core.units import format_count, format_rate, format_seconds

MIN_WIDTH = 60
_BLOCKS = " ▁▂▃▄▅▆▇█"
SHOWN_STAGES = 20
_BARS = {"subscriber": "━", "fault": "▒"}


@dataclass(frozen=True)
class Stage:
    """A stretch of the load, seconds from its start; rates in events per second. A burst begins and ends at once."""

    begin_s: float
    end_s: float
    begin_rate: float
    end_rate: float
    events: int
    batch: int | None = None

    @property
    def text(self) -> str:
        batches = "" if self.batch is None else f", in batches of {format_count(self.batch)}"
        if self.begin_s == self.end_s:
            return f"{format_count(self.events)} events at once{batches}"
        rate = format_rate(self.begin_rate)
        ramp = f"{rate} to {format_rate(self.end_rate)}" if self.end_rate != self.begin_rate else rate
        return f"{ramp}, {format_count(self.events)} events{batches}"


@dataclass(frozen=True)
class Bar:
    """A subscriber's stay or a fault's window, seconds from the start of the load."""

    kind: Literal["subscriber", "fault"]
    label: str
    begin_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class Timeline:
    """A scenario's plan. total_s is without the drain, most_s with all that it may take. publish and deliver (by
    subscriber): the way of an event, where it is the bench that composes it."""

    name: str
    about: str
    seed: int
    composed: str
    publish: tuple[str, ...]
    deliver: Mapping[str, tuple[str, ...]]
    steady: str
    steady_s: float
    stages: tuple[Stage, ...]
    bars: tuple[Bar, ...]
    expected: tuple[str, ...] | None
    soaked: bool
    load_s: float
    events: int
    drain: Drain
    total_s: float
    most_s: float


def timeline(scenario: Scenario, drain: Drain, made: Composed | None = None) -> Timeline:
    """The plan of a scenario; `drain` is what `drain_limits` gives, `made` what it runs against, as far as is known."""
    load_s = scenario.load.seconds
    steady_s = scenario.steady.seconds if scenario.steady else 0.0
    names = ", ".join(entry.name for entry in scenario.steady.expect) if scenario.steady else ""
    enabled = [one.name for one in made.plugins] if made else [section.name for section in scenario.plugins]
    plugins = "".join(f" · {name}" for name in enabled)
    driver = f" · published by {scenario.driver.name}" if scenario.driver else ""
    return Timeline(
        name=scenario.name,
        about=scenario.about,
        seed=scenario.seed,
        composed=f"target {scenario.target}{plugins}{driver}",
        publish=made.publish if made else (),
        deliver=made.deliver if made else {},
        steady=f"{format_rate(scenario.steady_rate)}{f', must hold: {names}' if names else ''}",
        steady_s=steady_s,
        stages=_stages(scenario),
        bars=(*_stays(scenario, load_s), *_windows(scenario)),
        expected=None if scenario.expect is None else tuple(dict.fromkeys(entry.name for entry in scenario.expect)),
        soaked=scenario.soak_s is not None,
        load_s=load_s,
        events=scenario.load.total,
        drain=drain,
        total_s=steady_s + load_s,
        most_s=steady_s + load_s + drain.limit_s,
    )


def _stages(scenario: Scenario) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    begin_s = 0.0
    for stage in scenario.load.stages:
        rate = stage.rate or 0.0
        end_s = begin_s + stage.seconds
        stages.append(Stage(begin_s, end_s, rate, rate if stage.to is None else stage.to, stage.events, stage.batch))
        begin_s = end_s
    return tuple(stages)


def _stays(scenario: Scenario, load_s: float) -> list[Bar]:
    bars = []
    for name, subscriber in scenario.subscribers.items():
        leave_s = load_s if subscriber.leave is None else subscriber.leave
        handler = subscriber.handler
        work = f"calls {handler.call}" if handler.call else f"takes {format_seconds(handler.latency or 0.0)}"
        traits = [subscriber.pattern, "durable" if subscriber.durable else "", work]
        if subscriber.concurrency > 1:
            traits.append(f"{subscriber.concurrency} at once")
        text = ", ".join(trait for trait in traits if trait)
        bars.append(Bar("subscriber", name, subscriber.join or 0.0, leave_s, text))
    return bars


def _windows(scenario: Scenario) -> list[Bar]:
    bars = []
    for fault in scenario.faults:
        share = f", {fault.probability * 100:g} % of calls" if fault.probability < 1 else ""
        bars.append(Bar("fault", fault.id, fault.begin_s, fault.end_s, f"{fault.do} on {fault.on}{share}"))
    return bars


def render(plan: Timeline, width: int = 80) -> list[str]:
    """The plan as lines of at most `width` characters (60 at least), without trailing space."""
    width = max(MIN_WIDTH, width)
    lines = [_cut(f"{plan.name}  seed {plan.seed}", width)]
    lines += textwrap.wrap(plan.about, width)
    lines += [_cut(plan.composed, width), ""]
    lines += _phases(plan, width)
    lines.append("")
    lines += _chart(plan, width)
    lines.append("")
    lines += _ending(plan, width)
    return [line.rstrip() for line in lines]


def _phases(plan: Timeline, width: int) -> list[str]:
    rows = [("steady", "", format_seconds(plan.steady_s), plan.steady)] if plan.steady_s else []
    for number, stage in enumerate(plan.stages[:SHOWN_STAGES], 1):
        lasts = format_seconds(round(stage.end_s - stage.begin_s, 3)) if stage.end_s > stage.begin_s else "burst"
        rows.append((f"load {number}", format_seconds(round(stage.begin_s, 3)), lasts, stage.text))
    if (more := len(plan.stages) - SHOWN_STAGES) > 0:
        rows.append(("", "", "", f"and {format_count(more)} more stages"))
    rows.append(("heal", format_seconds(round(plan.load_s, 3)), "", "every fault that is left"))
    ends = f"until nothing is pending, or {format_seconds(plan.drain.stall_s)} without progress"
    rows.append(("drain", "", f"≤ {format_seconds(plan.drain.limit_s)}", ends))
    rows.append(("check", "", "", "the history, and a report"))
    head = f"{'phase':<10}{'at':>8}{'for':>8}   what"
    return [
        _cut(head, width),
        *(_cut(f"{what:<10}{at:>8}{lasts:>8}   {text}", width) for what, at, lasts, text in rows),
    ]


def _chart(plan: Timeline, width: int) -> list[str]:
    """Rates, stays and fault windows over the load's time; below each bar what it stands for."""
    longest = max((len(bar.label) for bar in plan.bars), default=0)
    margin = min(18, max(8, longest)) + 2
    columns = width - margin
    lines = [f"{'':<{margin}}{_axis(plan.load_s, columns)}", f"{'rate':<{margin}}{_rates(plan, columns)}"]
    for bar in plan.bars:
        first = _column(bar.begin_s, plan.load_s, columns)
        last = max(first + 1, _column(bar.end_s, plan.load_s, columns))
        first = min(first, columns - 1)
        shape = " " * first + _BARS[bar.kind] * (min(last, columns) - first)
        label = _cut(bar.label, margin - 2)
        window = f"{format_seconds(round(bar.begin_s, 3))} to {format_seconds(round(bar.end_s, 3))}"
        lines.append(f"{label:<{margin}}{shape}")
        lines.append(_cut(f"{'':<{margin}}{window}: {bar.text}", width))
    return lines


def _column(at_s: float, load_s: float, columns: int) -> int:
    return round(at_s / load_s * columns) if load_s else 0


def _axis(load_s: float, columns: int) -> str:
    """Times at round steps, each where it belongs, and the load's end at the right edge."""
    end = format_seconds(round(load_s, 3))
    axis = [" "] * columns
    step_s = _step(load_s)
    for number in range(math.ceil(load_s / step_s) if load_s else 1):
        text = format_seconds(round(number * step_s, 3))
        begin = _column(number * step_s, load_s, columns)
        if begin + len(text) + 1 < columns - len(end):
            axis[begin : begin + len(text)] = text
    axis[columns - len(end) :] = end
    return "".join(axis)


def _step(load_s: float) -> float:
    """A round step that divides the time into six parts at most."""
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400)
    return next((step for step in steps if load_s / step <= 6), load_s / 6)


def _rates(plan: Timeline, columns: int) -> str:
    """The asked rate as a row of blocks, full at its peak; a burst, which has no rate, as a `!`."""
    peak = max((max(stage.begin_rate, stage.end_rate) for stage in plan.stages), default=0.0)
    blocks = [" "] * columns
    for column in range(columns):
        at_s = (column + 0.5) / columns * plan.load_s
        rate = next((_rate(stage, at_s) for stage in plan.stages if stage.begin_s <= at_s < stage.end_s), 0.0)
        blocks[column] = _BLOCKS[math.ceil(rate / peak * (len(_BLOCKS) - 1))] if peak else " "
    for stage in plan.stages:
        if stage.begin_s == stage.end_s:
            blocks[min(columns - 1, _column(stage.begin_s, plan.load_s, columns))] = "!"
    return "".join(blocks)


def _rate(stage: Stage, at_s: float) -> float:
    done = (at_s - stage.begin_s) / (stage.end_s - stage.begin_s)
    return stage.begin_rate + done * (stage.end_rate - stage.begin_rate)


def _ending(plan: Timeline, width: int) -> list[str]:
    judged = "everything that the target claims" if plan.expected is None else ", ".join(plan.expected) or "nothing"
    judged += ", growth" if plan.soaked and "growth" not in (plan.expected or ()) else ""
    shortest, longest = format_seconds(round(plan.total_s, 3)), format_seconds(round(plan.most_s, 3))
    return [
        *_ways(plan, width),
        *textwrap.wrap(f"judged    {judged}", width, subsequent_indent=" " * 10),
        _cut(f"total     {format_count(plan.events)} events in {shortest}, with the drain at most {longest}", width),
    ]


def _ways(plan: Timeline, width: int) -> list[str]:
    """The way of a publish, and of a delivery: once where it is the same at all subscribers."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, steps in plan.deliver.items():
        alike.setdefault(steps, []).append(name)
    ways = [f"publish   {' → '.join(plan.publish)}"] if plan.publish else []
    for number, (steps, names) in enumerate(alike.items()):
        label = "deliver" if number == 0 else ""
        whose = f"{', '.join(names)}: " if len(alike) > 1 else ""
        ways.append(f"{label:<10}{whose}{' ⟩ '.join(steps)}")
    return [line for way in ways for line in textwrap.wrap(way, width, subsequent_indent=" " * 10)]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
