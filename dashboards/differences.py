"""What is different between two runs: figure by figure, invariant by invariant, and in how they were made."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from squall.chaos.figures import latency
from squall.chaos.report.page import RunContents
from squall.chaos.report.view import MARKS
from squall.chaos.report.words import NOTHING
from squall.core.units import format_count

NOTABLE = 0.1
MOST_LINES = 400


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
    yield _said("verdict", *(run.verdict.state if run.verdict else "none" for run in (a, b)), good="valid")
    found = [{one.title or one.name: one for one in run.verdict.findings} if run.verdict else {} for run in (a, b)]
    for name in dict.fromkeys([*found[0], *found[1]]):
        states = [one[name].state if name in one else "not there" for one in found]
        yield _said(name, *states, good="valid")


def _said(name: str, a: str, b: str, *, good: str) -> Difference:
    better = None if a == b or good not in (a, b) else b == good
    marked = [f"{MARKS[state]} {state}" if state in MARKS else state for state in (a, b)]
    return Difference(name, *marked, "" if a == b else f"{a} → {b}", better)


def _figures(a: RunContents, b: RunContents) -> Iterator[Difference]:
    for name, of, less in (
        ("acknowledged, events", lambda run: sum(run.measured.publishes.ok), None),
        ("refused, events", lambda run: sum(run.measured.publishes.fail), True),
        ("outcome unknown, events", lambda run: sum(run.measured.publishes.info), True),
        ("acknowledged, per second", _rate, None),
        ("lost, events", _lost, True),
    ):
        yield _number(name, _of(a, of), _of(b, of), _plain, less=less)


def _of(run: RunContents, of: Callable[[RunContents], float | None]) -> float | None:
    return None if run.measured is None else of(run)


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
    for name in dict.fromkeys([*found[0], *found[1]]):
        one, other = (side.get(name) for side in found)
        rows = [
            _number(f"latency {q}", *(getattr(s.latency, f"{q}_s") if s and s.latency else None for s in (one, other)), latency, less=True)
            for q in ("p50", "p99", "max")
        ]
        rows += [
            _number(words, *(None if s is None else float(getattr(s.attempts, field)) for s in (one, other)), _plain, less=less)
            for words, field, less in (
                ("handled, events", "ok", None),
                ("attempts that raised", "error", True),
                ("attempts that timed out", "timeout", True),
                ("attempts that died", "died", True),
                ("redelivered", "redelivered", None),
            )
        ]
        rows.append(_number("dead-lettered, events", *(None if s is None else float(s.dead_lettered) for s in (one, other)), _plain, less=True))
        yield name, tuple(rows)


def _number(
    name: str, a: float | None, b: float | None, text: Callable[[float], str], *, less: bool | None
) -> Difference:
    """`less`: less is better; None: neither is. Measured figures always differ a little: a tenth is told."""
    told = [NOTHING if value is None else text(value) for value in (a, b)]
    if a is None or b is None:
        return Difference(name, *told, "" if a == b else "only in one")
    if a == b or (a and abs(b / a - 1) < NOTABLE):
        return Difference(name, *told)
    change = f"{'+' if b > a else '−'}{abs(b / a - 1):.0%}" if a and b / a < 10 else f"{'+' if b > a else '−'}{text(abs(b - a))}"
    return Difference(name, *told, change, None if less is None else (b < a) == less)


def _plain(value: float) -> str:
    return format_count(round(value, 1) if value < 100 and value % 1 else round(value))


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
