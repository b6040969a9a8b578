"""A sweep as a whole: runs one after the other, each written down before the next begins."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from squall.chaos.check.facts import load_facts
from squall.chaos.check.verdict import Verdict
from squall.chaos.report.page import read_run
from squall.chaos.report.sweep_page import write_sweep_report
from squall.chaos.run import RunResult
from squall.chaos.run_folder import run_name
from squall.chaos.sweep.file import FoundKnee, Level, Point, Sweep, save_sweep
from squall.chaos.sweep.knee import CONFIDENCE, Trial, estimate
from squall.chaos.sweep.plan import UNDECIDED, Outcome, Plan, bracket, next_value, state_of
from squall.chaos.sweep.values import Range

FROM_DUE = frozenset({"latency", "throughput", "recovery"})
"""What is measured from when events were due: a generator that is late breaks them, whatever the target does."""


@dataclass(frozen=True)
class Asked:
    """What a sweep is over: the key of the scenario, its values, and how they are chosen."""

    scenario: str
    key: str
    values: Range
    plan: Plan


def run_sweep(
    asked: Asked,
    run_one: Callable[[str, int], RunResult],
    folder: Path,
    time_ns: int,
    on_point: Callable[[Point], None] = lambda point: None,
) -> Sweep:
    """Run a sweep into its folder: sweep.json after each run, sweep.html at the end.

    run_one runs the scenario with a value, as `--set` reads it, and so much added to its seed; time_ns is wall time. A
    run that was interrupted ends the sweep, and is no point of it. Raises what run_one raises, and StoreFileError.
    """
    values, plan = asked.values, asked.plan
    sweep = Sweep(
        asked.scenario,
        asked.key,
        values.unit,
        values.low,
        values.high,
        values.whole,
        plan.log,
        "bisection" if plan.bisect else "grid",
        plan.repeats,
        datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="seconds"),
        sentence="It goes on, or was ended before it had begun.",
    )
    save_sweep(sweep, folder)
    points: list[Point] = []
    while (value := next_value(plan, [(one.value, one.outcome) for one in points])) is not None:
        text = values.text(value)
        try:
            result = run_one(text, len(points))
        except Exception:
            sentence = f"the run at {asked.key} {text} could not be made; so far: {sweep.sentence}"
            save_sweep(replace(sweep, over=True, sentence=sentence), folder)
            raise
        if not result.interrupted:
            points.append(point_of(value, text, result))
            on_point(points[-1])
        sweep = concluded(sweep, asked, points, interrupted=result.interrupted)
        save_sweep(sweep, folder)
        if sweep.interrupted:
            break
    more = next_value(replace(plan, runs=plan.runs + 1), [(one.value, one.outcome) for one in points])
    sweep = replace(sweep, over=True, cut_short=len(points) >= plan.runs and more is not None)
    save_sweep(sweep, folder)
    write_sweep_report(sweep, folder)
    return sweep


def point_of(value: float, text: str, result: RunResult) -> Point:
    """What a run says of its value. Raises StoreFileError when its folder cannot be read."""
    facts, run = load_facts(result.folder), read_run(result.folder)
    per_s = p99_s = None
    if run.measured is not None:
        load_s = (facts.load.ended - facts.load.begun) / 1e9 if facts.load else 0.0
        per_s = sum(run.measured.publishes.ok) / load_s if load_s else None
        p99_s = max((one.latency.p99_s for one in run.measured.subscribers if one.latency), default=None)
    verdict = result.verdict
    broke = tuple(one.title or one.name for one in verdict.findings if one.state == "invalid")
    return Point(
        value,
        text,
        facts.seed,
        run_name(result.folder),
        outcome_of(verdict),
        verdict.headline,
        broke,
        facts.asked,
        facts.achieved,
        per_s,
        p99_s,
    )


def outcome_of(verdict: Verdict) -> Outcome:
    """Held, broke, or why neither can be said. What breaks at less load than was asked for breaks all the more at all
    of it, unless it is measured from when events were due, and the generator was late."""
    late = any(reason.code == "rate_not_kept" for reason in verdict.reasons)
    broke = {one.name for one in verdict.findings if one.state == "invalid"}
    if broke and not (late and broke <= FROM_DUE):
        return "broke"
    if late:
        return "generator"
    return "held" if verdict.state == "valid" else "unknown"


def concluded(sweep: Sweep, asked: Asked, points: list[Point], *, interrupted: bool) -> Sweep:
    """The sweep with what its points come to."""
    outcomes = [(one.value, one.outcome) for one in points]
    state = state_of(asked.plan, outcomes)
    trials = [Trial(value, outcome == "broke") for value, outcome in outcomes if outcome not in UNDECIDED]
    knee = FoundKnee.of(estimate(trials, log=asked.plan.log)) if state == "knee" else None
    limit = min((one.value for one in points if one.outcome == "generator"), default=None)
    made = replace(
        sweep,
        state=state,
        knee=knee,
        limit=limit,
        points=tuple(points),
        curve=curve(points),
        interrupted=interrupted,
    )
    return replace(made, sentence=_sentence(made, asked))


def curve(points: list[Point]) -> tuple[Level, ...]:
    """The values in rising order, and what their runs came to."""
    levels = []
    for value in sorted({one.value for one in points}):
        here = [one for one in points if one.value == value]
        decided = [one for one in here if one.outcome not in UNDECIDED]
        slow = [one.p99_s for one in here if one.p99_s is not None]
        levels.append(
            Level(
                value,
                here[0].text,
                len(decided),
                sum(one.outcome == "broke" for one in decided),
                len(here) - len(decided),
                statistics.median_low(slow) if slow else None,
            )
        )
    return tuple(levels)


def _sentence(sweep: Sweep, asked: Asked) -> str:
    """What came out, for people."""
    text, key = asked.values.text, sweep.key
    known = bracket([(one.value, one.outcome) for one in sweep.points])
    if sweep.interrupted and not sweep.points:
        return "interrupted before the first run was over"
    before = "interrupted; so far: " if sweep.interrupted else ""
    if sweep.knee is not None:
        knee = sweep.knee
        # What breaks first: far above the knee everything else may break as well.
        names = sorted({name for one in sweep.points if one.value == known.broke for name in one.broke})
        return (
            f"{before}it breaks at {key} {text(knee.at)} ({100 * CONFIDENCE:.0f} % interval {text(knee.low)} to "
            f"{text(knee.high)}): {', '.join(names)}"
        )
    if sweep.state == "holds":
        return f"{before}no knee: everything holds up to {key} {text(sweep.high)}, the end of the range"
    if sweep.state == "broken":
        return f"{before}it is broken at {key} {text(sweep.low)} already: the knee lies below the range"
    if sweep.state == "generator" and sweep.limit is not None:
        holds = f"everything holds up to {key} {text(known.held)}; " if known.held is not None else ""
        return f"{before}{holds}the generator, not the target, was the limit at {text(sweep.limit)}"
    return f"{before}too little could be decided; the runs say why"
