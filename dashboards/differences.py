"""What is different between two runs: figure by figure, invariant by invariant, and in how they were made."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from squall.chaos.check.verdict import EXIT_CODES
from squall.chaos.figures import latency
from squall.chaos.report.measured import Subscriber
from squall.chaos.report.page import RunContents
from squall.chaos.report.view import MARKS
from squall.chaos.report.words import NOTHING
from squall.core.units import format_count
from squall.dashboards.never_handled import never_handled

NOTABLE = 0.1
UNJUDGED = "not judged there"
"""Of what only the other run expects."""
MOST_LINES = 400
LATENCIES = ("latency p50", "latency p99", "latency max")
COUNTS = (
    "handled, events",
    "attempts that raised",
    "attempts that timed out",
    "attempts that died",
    "redelivered",
    "dead-lettered, events",
)


@dataclass(frozen=True)
class Difference:
    """One line of the comparison. `change` says how b differs from a, empty where it does not; `better`: in a figure
    where less or more is better, whether b is better; None: neither."""

    name: str
    a: str
    b: str
    change: str = ""
    better: bool | None = None

    @property
    def tone(self) -> str:
        """The class by which it is marked."""
        return "" if not self.change else "differs" if self.better is None else "better" if self.better else "worse"


@dataclass(frozen=True)
class Group:
    """Differences of one kind."""

    title: str
    rows: tuple[Difference, ...]


def differences(a: RunContents, b: RunContents) -> tuple[Group, ...]:
    """All of them, also what is alike."""
    groups = [Group("Verdict and invariants", tuple(_invariants(a, b))), Group("Figures", tuple(_figures(a, b)))]
    groups += [Group(f"Subscriber {name}", rows) for name, rows in _subscribers(a, b)]
    groups += [Group("Where and how", tuple(_environment(a, b)))]
    return tuple(group for group in groups if group.rows)


def scenario_diff(a: RunContents, b: RunContents) -> tuple[str, ...]:
    """The lines of a unified diff of the scenarios' texts; none where they are the same."""
    lines = difflib.unified_diff(a.scenario.splitlines(), b.scenario.splitlines(), "a", "b", lineterm="", n=2)
    return tuple(lines)[:MOST_LINES]


def _invariants(a: RunContents, b: RunContents) -> Iterator[Difference]:
    yield _said("verdict", *(run.verdict.state if run.verdict else "none" for run in (a, b)))
    found = [
        {one.title or one.name: one.state for one in run.verdict.findings} if run.verdict else {} for run in (a, b)
    ]
    for name in dict.fromkeys([*found[0], *found[1]]):
        yield _said(name, *(states.get(name, UNJUDGED) for states in found))


def _said(name: str, a: str, b: str) -> Difference:
    """Two states; better is valid, but what was judged in one run alone is only different."""
    better = b == "valid" if a != b and "valid" in (a, b) and {a, b} <= EXIT_CODES.keys() else None
    return Difference(name, _marked(a), _marked(b), "" if a == b else f"{a} → {b}", better)


def _marked(state: str) -> str:
    return f"{MARKS[state]} {state}" if state in MARKS else state


def _figures(a: RunContents, b: RunContents) -> Iterator[Difference]:
    publishes = [run.measured.publishes if run.measured else None for run in (a, b)]
    for name, counts, less in (
        ("acknowledged, events", [None if one is None else sum(one.ok) for one in publishes], None),
        ("refused, events", [None if one is None else sum(one.fail) for one in publishes], True),
        ("outcome unknown, events", [None if one is None else sum(one.info) for one in publishes], True),
        ("acknowledged, per second", [_rate(run) for run in (a, b)], None),
        ("lost, events", [_lost(run) for run in (a, b)], True),
        ("never handled, deliveries", [never_handled(run.verdict) for run in (a, b)], True),
    ):
        yield _number(name, counts[0], counts[1], _plain, less=less)


def _rate(run: RunContents) -> float | None:
    load = run.facts.load
    if load is None or load.ended <= load.begun or run.measured is None:
        return None
    axis = run.measured.axis
    within = [
        count
        for place, count in enumerate(run.measured.publishes.ok)
        if load.begun <= axis.begun_ns + place * axis.bucket_ns < load.ended
    ]
    return sum(within) / ((load.ended - load.begun) / 1e9)


def _lost(run: RunContents) -> float | None:
    found = next((one for one in run.verdict.findings if one.name == "no_loss"), None) if run.verdict else None
    return found.figures.get("lost", 0.0) if found else None


def _subscribers(a: RunContents, b: RunContents) -> Iterator[tuple[str, tuple[Difference, ...]]]:
    found = [{one.terms.name: one for one in run.measured.subscribers} if run.measured else {} for run in (a, b)]
    whole = all(never_handled(run.verdict) == 0 for run in (a, b))
    for name in dict.fromkeys([*found[0], *found[1]]):
        sides = [dict(_of(side[name])) if name in side else {} for side in found]
        yield (
            name,
            tuple(
                _number(
                    words,
                    sides[0].get(words),
                    sides[1].get(words),
                    text,
                    less=less if whole or text != latency else None,
                )
                for words, text, less in SUBSCRIBER
            ),
        )


def _of(one: Subscriber) -> Iterator[tuple[str, float]]:
    """The figures of a subscriber, by the words of SUBSCRIBER."""
    if one.latency is not None:
        values: list[float] = [one.latency.p50_s, one.latency.p99_s, one.latency.max_s]
        yield from zip(LATENCIES, values, strict=True)
    attempts = one.attempts
    counts = (attempts.ok, attempts.error, attempts.timeout, attempts.died, attempts.redelivered, one.dead_lettered)
    yield from zip(COUNTS, map(float, counts), strict=True)


def _number(
    name: str, a: float | None, b: float | None, text: Callable[[float], str], *, less: bool | None
) -> Difference:
    """`less`: less is better; None: neither is. Measured figures always differ a little: a tenth is told."""
    told_a, told_b = (NOTHING if value is None else text(value) for value in (a, b))
    if a is None or b is None:
        return Difference(name, told_a, told_b, "" if a == b else "only in one")
    if a == b or (a and abs(b / a - 1) < NOTABLE):
        return Difference(name, told_a, told_b)
    sign = "+" if b > a else "\N{MINUS SIGN}"
    change = f"{sign}{abs(b / a - 1):.0%}" if a and b / a < 10 else f"{sign}{text(abs(b - a))}"
    return Difference(name, told_a, told_b, change, None if less is None else (b < a) == less)


def _plain(value: float) -> str:
    return format_count(round(value, 1) if value < 100 and value % 1 else round(value))


SUBSCRIBER: tuple[tuple[str, Callable[[float], str], bool | None], ...] = (
    *((name, latency, True) for name in LATENCIES),
    *((name, _plain, None if name in ("handled, events", "redelivered") else True) for name in COUNTS),
)
"""What is told of a subscriber, how it is written, and whether less is better. Latencies are of what was handled: where
a run left some unhandled, a lower one is not better."""


def _environment(a: RunContents, b: RunContents) -> Iterator[Difference]:
    one, other = a.environment, b.environment
    sides: dict[str, tuple[str, str]] = {
        "seed": (str(one.seed), str(other.seed)),
        "started": (one.started, other.started),
        "system": (one.system, other.system),
        "Python": (one.python, other.python),
    }
    for name in dict.fromkeys([*one.sets, *other.sets]):
        sides[f"--set {name}"] = (str(one.sets.get(name, NOTHING)), str(other.sets.get(name, NOTHING)))
    for name in dict.fromkeys([*one.versions, *other.versions]):
        sides[name] = (one.versions.get(name, NOTHING), other.versions.get(name, NOTHING))
    plugins = [{entry.name: entry.options for entry in run.composed.plugins} if run.composed else {} for run in (a, b)]
    for name in dict.fromkeys([*plugins[0], *plugins[1]]):
        told = [
            NOTHING if name not in side else ", ".join(f"{k} {v}" for k, v in side[name].items()) or "enabled"
            for side in plugins
        ]
        sides[f"plugin {name}"] = (told[0], told[1])
    for name, (left, right) in sides.items():
        yield Difference(name, left, right, "" if left == right or name == "started" else "differs")
