"""What stands in a report: a run's verdict, figures, charts and tables as texts, ready to be laid out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from squall.chaos.check.evidence import OPEN, Gated
from squall.chaos.check.facts import RunFacts
from squall.chaos.check.measure import OUTSIDE
from squall.chaos.check.verdict import Finding, FindingState, Verdict
from squall.chaos.composition import Composed
from squall.chaos.figures import latency, passed
from squall.chaos.report.axis import Axis, phases
from squall.chaos.report.chart import Chart, Series, Tick, latency_chart, rate_chart, time_ticks
from squall.chaos.report.held import held_charts
from squall.chaos.report.meanings import MEANINGS
from squall.chaos.report.measured import Fault, Measured, Subscriber, Terms
from squall.chaos.report.words import NOTHING, figure, many, rate, share
from squall.core.units import format_count

SHOWN_SUBSCRIBERS = 6
CHARACTER = 2.8
"""How much of the axis a character takes where the page is narrow, percent."""
LATE = 75.0
SHADES = 3
SHOWN_STATES = 12
SEVERITY: tuple[FindingState, ...] = ("invalid", "unknown", "valid", "not judged")
MARKS: dict[str, str] = {"valid": "✓", "invalid": "✗", "unknown": "?", "not judged": "·"}


@dataclass(frozen=True)
class Judged:
    """A row of the table of invariants. `meaning` is what the invariant says; `figures` are label and value."""

    mark: str
    state: FindingState
    title: str
    meaning: str
    summary: str
    why: str
    figures: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Window:
    """A named stretch of the time axis, in percent of it. `lane`: its row, where names would lie on each other."""

    name: str
    left: float
    width: float
    title: str
    lane: int = 0

    @property
    def room(self) -> float:
        """How many times its name fits into it, where the page is narrow."""
        return self.width / (CHARACTER * len(self.name))

    @property
    def late(self) -> bool:
        """Whether its name, too long for it, ends where it does: it would run out of the page."""
        return self.left > LATE and self.room < 1

    @property
    def reach(self) -> tuple[float, float]:
        """From where to where it lies, its name included."""
        over = max(0.0, CHARACTER * len(self.name) - self.width)
        return (self.left - over, self.left + self.width) if self.late else (self.left, self.left + self.width + over)


@dataclass(frozen=True)
class FaultRow:
    """A row of the table of faults."""

    name: str
    what: str
    when: str
    evidence: str
    bit: bool
    healed: str
    well: bool


@dataclass(frozen=True)
class SubscriberRow:
    """A row of the table of subscribers; `tone` is its colour in the charts, empty where it is not in them."""

    name: str
    tone: str
    wants: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class OverTime:
    """The charts, over one axis. `times` says when each bucket begins."""

    bucket: str
    ticks: tuple[Tick, ...]
    phases: tuple[Window, ...]
    faults: tuple[Window, ...]
    shades: tuple[Window, ...]
    lanes: int
    gates: tuple[Window, ...]
    gate_lanes: int
    charts: tuple[Chart, ...]
    times: tuple[str, ...]
    hidden: str


def judged(verdict: Verdict) -> tuple[Judged, ...]:
    """Every finding, what is broken first."""
    findings = sorted(verdict.findings, key=lambda finding: SEVERITY.index(finding.state))
    return tuple(
        Judged(
            MARKS[finding.state],
            finding.state,
            finding.title or finding.name,
            MEANINGS.get(finding.name, ""),
            finding.summary,
            finding.why_unknown if finding.why_unknown != finding.summary else "",
            _figures(finding),
        )
        for finding in findings
    )


def _figures(finding: Finding) -> tuple[tuple[str, str], ...]:
    """Those that are not nothing, and that the summary does not tell."""
    told = set(re.findall(r"(?<![\w.,])[0-9][0-9,.]*", finding.summary))
    found = [figure(name, value) for name, value in finding.figures.items() if value]
    return tuple((label, text) for label, text in found if text.split()[0] not in told)


@dataclass(frozen=True)
class KeyFigure:
    """One of the few figures that are read first."""

    label: str
    value: str
    unit: str
    note: str


def key_figures(verdict: Verdict | None, measured: Measured, facts: RunFacts) -> Iterator[KeyFigure]:
    """Few enough to be read at once."""
    publishes = measured.publishes
    asked, ok, fail, info = (sum(c) for c in (publishes.asked, publishes.ok, publishes.fail, publishes.info))
    notes = [f"{format_count(asked)} published"]
    notes += [f"{format_count(fail)} refused"] if fail else []
    notes += [f"{format_count(info)} unknown"] if info else []
    yield KeyFigure("Acknowledged", format_count(ok), "events", " · ".join(notes))
    findings = {finding.name: finding for finding in reversed(verdict.findings)} if verdict else {}
    if "no_loss" in findings:
        loss = findings["no_loss"].figures
        notes = [f"{many(loss.get('owed', 0), 'delivery')} owed"]
        notes += [f"{format_count(loss['dead_lettered'])} dead-lettered"] if loss.get("dead_lettered") else []
        yield KeyFigure("Lost", format_count(loss.get("lost", 0)), "events", " · ".join(notes))
    if "latency" in findings and "p99_s" in findings["latency"].figures:
        found = findings["latency"].figures
        by = findings["latency"].title.partition(" of ")[2] or "all"
        outside, inside = found.get("p99_outside_s", found["p99_s"]), found.get("p99_inside_s")
        inside = found["p99_s"] if "p99_outside_s" in found else inside
        value, _, unit = latency(outside).partition(" ")
        notes = ["of the load" if facts.load else "of the steady phase"] if inside is None else [OUTSIDE]
        notes += [f"inside: {latency(inside)}"] if inside is not None else []
        yield KeyFigure("Latency p99", value, unit, " · ".join([f"until handled by {by}", *notes]))
    if facts.load and facts.load.ended > facts.load.begun:
        seconds = (facts.load.ended - facts.load.begun) / 1e9
        by = f" · by {facts.generated.driver}" if facts.generated else ""
        yield KeyFigure("Load", f"{seconds:.1f}", "s", f"{rate(facts.asked / seconds)} asked on average{by}")


def over_time(measured: Measured, facts: RunFacts) -> OverTime:
    """The charts of a run that recorded something."""
    axis = measured.axis
    shown = charted(measured.subscribers)
    hidden = len(measured.subscribers) - len(shown)
    gates = laned(_gates(measured))
    faults = laned(
        [_window(axis, f.name, f.begun_ns, f.ended_ns, f"{_what(f)}, {_when(axis, f)}") for f in measured.faults]
    )
    return OverTime(
        latency(axis.bucket_ns / 1e9),
        time_ticks(axis),
        tuple(
            _window(axis, name, span.begun, span.ended, f"{name}, {(span.ended - span.begun) / 1e9:.1f} s")
            for name, span in phases(facts)
        ),
        faults,
        shades(faults),
        1 + max((one.lane for one in faults), default=-1),
        gates,
        1 + max((one.lane for one in gates), default=-1),
        (_publishing(measured), _handling(measured, shown), _latencies(axis, shown), *held_charts(measured.held, axis)),
        tuple(f"{second:,.{0 if axis.bucket_ns >= 10**9 else 2}f} s" for second in axis.times_s()),
        f"The charts show {len(shown)} of {len(measured.subscribers)} subscribers, the slowest." if hidden else "",
    )


def charted(subscribers: Sequence[Subscriber]) -> dict[str, Subscriber]:
    """The subscribers that charts show, by the class of their colour: of many, the slowest."""
    slowest = sorted(subscribers, key=lambda one: one.latency.p99_s if one.latency else float("inf"), reverse=True)
    kept = {one.terms.number for one in slowest[:SHOWN_SUBSCRIBERS]}
    return {f"s{place}": one for place, one in enumerate(one for one in subscribers if one.terms.number in kept)}


def _window(axis: Axis, name: str, begun_ns: int, ended_ns: int | None, title: str) -> Window:
    left = axis.share(begun_ns)
    right = 1.0 if ended_ns is None else axis.share(ended_ns)
    return Window(name, round(100 * left, 3), round(100 * max(0.0, right - left), 3), title)


def laned(windows: Sequence[Window]) -> tuple[Window, ...]:
    """Each in the first row where nothing is in its way, its name and theirs included; in the order of begin."""
    ends: list[float] = []
    found = []
    for one in windows:
        begin, end = one.reach
        lane = next((number for number, ended in enumerate(ends) if ended <= begin), len(ends))
        ends[lane : lane + 1] = [end]
        found.append(replace(one, lane=lane))
    return tuple(found)


def shades(windows: Sequence[Window]) -> tuple[Window, ...]:
    """What is shaded: each window, so that two at once are darker; all as one where so many lie on each other that
    nothing could be read there."""
    if max((one.lane for one in windows), default=0) < SHADES:
        return tuple(windows)
    merged: list[Window] = []
    for one in sorted(windows, key=lambda window: window.left):
        last = merged[-1] if merged else None
        if last is not None and one.left <= last.left + last.width:
            end = max(last.left + last.width, one.left + one.width)
            merged[-1] = replace(last, width=round(end - last.left, 3))
        else:
            merged.append(one)
    return tuple(merged)


def _publishing(measured: Measured) -> Chart:
    found = measured.publishes
    lines = [
        Series("asked", "asked", found.asked, many(sum(found.asked), "event"), faint=True, may_exceed=True),
        Series("acknowledged", "ok", found.ok, many(sum(found.ok), "event")),
    ]
    lines += [Series("refused", "bad", found.fail, many(sum(found.fail), "event"))] if any(found.fail) else []
    lines += [Series("unknown", "odd", found.info, many(sum(found.info), "event"))] if any(found.info) else []
    about = "Asked: what the load had due. Acknowledged: what the target took on."
    return rate_chart("Published", "events per second", about, lines, measured.axis)


def _handling(measured: Measured, shown: dict[str, Subscriber]) -> Chart:
    lines = [Series(one.terms.name, tone, one.handled, many(one.attempts.ok, "event")) for tone, one in shown.items()]
    failed = [sum(counts) for counts in zip(*(one.failed for one in measured.subscribers), strict=True)]
    if any(failed):
        lines.append(Series("failed attempts", "bad", failed, many(sum(failed), "attempt")))
    about = "Handlers that ended well, by subscriber; attempts that raised, timed out or died, of all."
    return rate_chart("Handled", "deliveries per second", about, lines, measured.axis)


def _latencies(axis: Axis, shown: dict[str, Subscriber]) -> Chart:
    lines = []
    for tone, one in shown.items():
        p50, p99 = (latency(q) if q is not None else NOTHING for q in _both(one))
        lines += [
            Series(f"{one.terms.name} p99", tone, one.p99_s, p99),
            Series("p50", tone, one.p50_s, p50, faint=True),
        ]
    about = "From when an event was to be sent until it was handled, by when it was to be sent. Logarithmic."
    about += " Beside a name: this subscriber's own, over the whole load, faults included."
    return latency_chart("Latency", "p99 and p50", about, lines, axis)


def _both(one: Subscriber) -> tuple[float | None, float | None]:
    return (one.latency.p50_s, one.latency.p99_s) if one.latency else (None, None)


def fault_rows(measured: Measured) -> tuple[FaultRow, ...]:
    """What each fault did, and whether it is gone."""
    return tuple(
        FaultRow(
            fault.name,
            _what(fault),
            _when(measured.axis, fault),
            _evidence(fault),
            fault.hits > 0,
            {True: "healed", False: f"not healed: {fault.error or 'no reason given'}", None: "never healed"}[
                fault.healed
            ],
            fault.healed is True,
        )
        for fault in measured.faults
    )


def _evidence(fault: Fault) -> str:
    if not fault.hits:
        return f"never bit; {passed(fault.passes, fault.seam)} passed" if fault.passes else "never bit: nothing passed"
    if fault.passes < fault.hits:
        return f"acted on {passed(fault.hits, fault.seam)}"
    whole = passed(fault.passes, fault.seam)
    return f"acted on {format_count(fault.hits)} of {whole} ({share(fault.hits, fault.passes)})"


def _what(fault: Fault) -> str:
    return f"{fault.kind} on {fault.seam}"


def _when(axis: Axis, fault: Fault) -> str:
    return _span(axis, fault.begun_ns, fault.ended_ns)


def _span(axis: Axis, begun_ns: int, ended_ns: int | None) -> str:
    ended = "the end" if ended_ns is None else f"{axis.seconds(ended_ns):.1f} s"
    return f"{axis.seconds(begun_ns):.1f} to {ended}"


@dataclass(frozen=True)
class GateRow:
    """A row of the table of gates: whose it is, and each state that it was in."""

    subscriber: str
    gate: str
    states: tuple[str, ...]


def gate_rows(measured: Measured) -> tuple[GateRow, ...]:
    """What each gate that changed was, over time."""
    axis = measured.axis
    names = {one.terms.number: one.terms.name for one in measured.subscribers}
    found: dict[tuple[str, str], list[str]] = {}
    for one in measured.gates:
        told = f"{one.state.replace('_', '-')} from {axis.seconds(one.begun):.3f} s"
        name = names.get(one.subscription, f"subscription {one.subscription}")
        found.setdefault((name, one.gate), []).append(told)
    for states in found.values():
        if (more := len(states) - SHOWN_STATES) > 0:
            states[SHOWN_STATES:] = [f"and {many(more, 'more change')}"]
    return tuple(GateRow(name, gate, tuple(states)) for (name, gate), states in found.items())


def ways(made: Composed) -> tuple[tuple[str, str], ...]:
    """Of whom, and the way of a delivery there; once where it is the same at several."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, steps in made.deliver.items():
        alike.setdefault(steps, []).append(name)
    return tuple((", ".join(names), " ⟩ ".join(steps)) for steps, names in alike.items())


def _gates(measured: Measured) -> list[Window]:
    """When gates held a subscription back; of one that did so very often, from the first time to the last."""
    names, axis = {one.terms.number: one.terms.name for one in measured.subscribers}, measured.axis
    found: dict[tuple[int, str], list[Gated]] = {}
    for one in measured.gates:
        if one.state == OPEN:
            found.setdefault((one.subscription, one.gate), []).append(one)
    windows = []
    for (number, gate), times in found.items():
        name = f"{names.get(number, number)}'s {gate} open"
        spans = [(one.begun, one.ended) for one in times]
        if len(times) > SHOWN_STATES:
            name, spans = f"{name} {format_count(len(times))} times", [(times[0].begun, times[-1].ended)]
        windows += [_window(axis, name, *span, f"nothing was delivered then, {_span(axis, *span)}") for span in spans]
    return sorted(windows, key=lambda window: window.left)


def subscriber_rows(measured: Measured) -> tuple[SubscriberRow, ...]:
    """What each subscriber asked for and got."""
    tones = {one.terms.number: tone for tone, one in charted(measured.subscribers).items()}
    return tuple(
        SubscriberRow(
            one.terms.name,
            tones.get(one.terms.number, ""),
            _wants(one.terms),
            tuple(_cells(one)),
        )
        for one in measured.subscribers
    )


def _wants(terms: Terms) -> str:
    durable = ["durable"] if terms.durable else []
    return " · ".join([terms.pattern, terms.delivery, *durable, f"{format_count(terms.concurrency)} at once"])


def _cells(one: Subscriber) -> Iterator[tuple[str, str]]:
    attempts = one.attempts
    bad = [("raised", attempts.error), ("timed out", attempts.timeout), ("died", attempts.died)]
    bad.append(("never ended", attempts.unended))
    yield "Handled", many(attempts.ok, "event")
    yield "Failed attempts", " · ".join(f"{format_count(n)} {word}" for word, n in bad if n) or "none"
    yield "Redelivered", format_count(attempts.redelivered) if attempts.redelivered else "none"
    yield "Dead-lettered", many(one.dead_lettered, "event") if one.dead_lettered else "none"
    for name in ("p50", "p99", "max"):
        yield f"Latency {name}", latency(getattr(one.latency, f"{name}_s")) if one.latency else NOTHING
