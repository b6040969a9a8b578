"""Judges one history: runs the invariants that are claimed or expected, and merges what they find into a verdict."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import duckdb

from squall.chaos.check import batches, counters, delivery, growth, measure, order, own, progress, redelivery
from squall.chaos.check.blame import blame
from squall.chaos.check.case import Case, open_case
from squall.chaos.check.expectations import (
    Atomic,
    Duplicates,
    ErrorBudget,
    Growth,
    Latency,
    Measured,
    NoLoss,
    Order,
    Overlap,
    Recovery,
    SeqOrder,
    Starvation,
    Throughput,
    UniqueSeq,
)
from squall.chaos.check.facts import RunFacts, Span
from squall.chaos.check.generator import kept, limit, starved
from squall.chaos.check.masks import Totals, sweep
from squall.chaos.check.notes import loop_held, notes
from squall.chaos.check.stalls import silences
from squall.chaos.check.verdict import Cause, Finding, Note, Reason, State, Verdict, counted, merge, was
from squall.chaos.figures import passed
from squall.chaos.history.reader import open_history, read_manifest
from squall.core.invariant import Expectation, Invariant
from squall.core.target import Claims
from squall.core.units import format_count, format_seconds

Judgement = Callable[[], Finding]
T = TypeVar("T")


def check(folder: Path, claims: Claims, expectations: Sequence[Expectation], facts: RunFacts) -> Verdict:
    """Judge the history in folder by what the target claims and the scenario expects.

    What goes wrong inside an invariant makes it unknown, never valid. Raises StoreFileError when the history cannot be
    read at all.
    """
    with TemporaryDirectory(prefix="squall-check-") as spill, open_history(folder, Path(spill)) as db:
        return judge(db, claims, expectations, facts, complete=read_manifest(folder).complete)


def judge(
    db: duckdb.DuckDBPyConnection,
    claims: Claims,
    expectations: Sequence[Expectation],
    facts: RunFacts,
    *,
    complete: bool = True,
) -> Verdict:
    """As check, of the tables or views of a history that is open; `complete`: its recording was finished."""
    case = open_case(db, claims, facts, complete=complete)
    totals = prepare(case)
    quiet = silences(case)
    held = loop_held(case, quiet)
    busy = "" if held else starved(facts)
    judgements = _judgements(case, totals, expectations)
    findings = tuple(_of_busy(_guarded(name, judgement), busy) for name, judgement in judgements)
    reasons = list(_reasons(case, totals, findings, held, complete=complete))
    causes, failure = _told("the causes", lambda: blame(case.db, case.facts, findings, held))
    noted, unnoted = _told("the notes", lambda: notes(case, totals, quiet, causes))
    return make_verdict(findings, [*reasons, *failure, *unnoted], totals, causes, noted)


def prepare(case: Case) -> Totals:
    """Make the temporary tables that the invariants share."""
    totals = sweep(case)
    if totals.events == totals.publishes:
        sent = "SELECT event, intended, invoked, CASE WHEN outcome = 'ok' THEN ended END AS acked FROM publish"
    else:
        sent = (
            "SELECT event, min(intended) AS intended, min(invoked) AS invoked, "
            "min(ended) FILTER (outcome = 'ok') AS acked FROM publish GROUP BY event"
        )
    case.db.execute(f"CREATE TEMP VIEW sent AS {sent}")
    delivery.find_unfinished(case)
    redelivery.find_again(case)
    return totals


def check_steady(folder: Path, claims: Claims, expectations: Sequence[Expectation], span: Span) -> tuple[Finding, ...]:
    """Whether the steady state held in span, judged while the run goes on.

    Only thresholds are judged. Events so late that the latency limit has not passed yet are left out.
    """
    with TemporaryDirectory(prefix="squall-check-") as spill, open_history(folder, Path(spill)) as db:
        case = open_case(db, claims, RunFacts(load=span), complete=False)
        prepare(case)
        case.db.execute("DELETE FROM suspect")  # what seems not to be handled may not be written yet
        findings = []
        for wanted in expectations:
            for subscriber in _subscribers(wanted):
                if isinstance(wanted, Latency):
                    patience_ns = round(max(wanted.limits.values()) * 1e9)
                    early = Span(span.begun, max(span.begun, span.ended - patience_ns))
                    findings.append(measure.latency(case, wanted, subscriber, early))
                elif isinstance(wanted, Throughput):
                    findings.append(measure.throughput(case, wanted, subscriber))
                elif isinstance(wanted, ErrorBudget):
                    findings.append(measure.error_budget(case, wanted, subscriber))
    return tuple(findings)


def _judgements(case: Case, totals: Totals, expected: Sequence[Expectation]) -> Iterator[tuple[str, Judgement]]:
    """What is judged, in the order in which people read it."""
    kinds = {type(one) for one in expected}
    ratios = [one.max_ratio for one in expected if isinstance(one, Duplicates)]
    keyed = case.claims.order == "key"
    numbered = case.claims.seq_scope is not None
    yield "no_loss", lambda: delivery.no_loss(case, totals, expected=NoLoss in kinds)
    yield "no_phantom", lambda: delivery.no_phantom(case, totals)
    yield "no_ghost", lambda: delivery.no_ghost(case)
    yield "no_stray", lambda: delivery.no_stray(case)
    yield "intact", lambda: delivery.intact(case, totals)
    if Atomic in kinds or batches.batches(case):
        yield "atomic", lambda: batches.atomic(case)
    yield "duplicates", lambda: redelivery.duplicates(case, totals, min(ratios, default=None))
    if keyed or Order in kinds:
        yield "order", lambda: _of_keys(order.order(case), case, expected=Order in kinds)
    if keyed or Overlap in kinds:
        yield "overlap", lambda: _of_keys(order.overlap(case), case, expected=Overlap in kinds)
    if numbered or UniqueSeq in kinds:
        yield "unique_seq", lambda: order.unique_seq(case)
    if numbered or SeqOrder in kinds:
        yield "seq_order", lambda: order.seq_order(case)
    yield "one_terminal", lambda: redelivery.one_terminal(case)
    yield "max_attempts", lambda: redelivery.max_attempts(case)
    yield "conservation", lambda: counters.conservation(case, totals.owed)
    yield "recovery", lambda: progress.progress(case)
    if Latency not in kinds:
        yield "latency", lambda: measure.latency(case, None)
    for wanted in expected:
        for subscriber in _subscribers(wanted):
            yield from _thresholds(case, wanted, subscriber)


def _of_keys(finding: Finding, case: Case, *, expected: bool) -> Finding:
    """Where no event had a key, what holds of keys was not looked at: unknown where it is expected."""
    if finding.state != "valid" or case.number("SELECT count(*) FROM (FROM publish WHERE key IS NOT NULL LIMIT 1)"):
        return finding
    why = "no event had a key: there was nothing to look at"
    return replace(finding, state="unknown" if expected else "not judged", summary=why, why_unknown=why, code="no_keys")


def _of_soak(case: Case, wanted: Growth, held: growth.Held) -> Finding:
    """Where it is not decided, nothing but a longer soak decides it."""
    finding = growth.growth(case, wanted, held)
    return replace(finding, code="soaked_too_little") if finding.state == "unknown" else finding


def _subscribers(wanted: Expectation) -> Sequence[str | None]:
    """Those that it is judged of, one by one; None: of all together."""
    return (wanted.subscribers if isinstance(wanted, Measured) else None) or (None,)


def _thresholds(case: Case, wanted: Expectation, subscriber: str | None) -> Iterator[tuple[str, Judgement]]:
    match wanted:
        case Recovery():
            yield "recovery", lambda: progress.recovery(case, wanted)
        case Starvation():
            yield "starvation", lambda: progress.starvation(case, wanted)
        case Latency():
            yield "latency", lambda: measure.latency(case, wanted, subscriber)
        case Throughput():
            yield "throughput", lambda: measure.throughput(case, wanted, subscriber)
        case ErrorBudget():
            yield "error_budget", lambda: measure.error_budget(case, wanted, subscriber)
        case Growth():
            for held in growth.HELD:
                yield "growth", partial(_of_soak, case, wanted, held)
        case Invariant():
            yield wanted.name, lambda: own.invariant(case, wanted)
        case _:
            return


def _guarded(name: str, judgement: Judgement) -> Finding:
    try:
        return judgement()
    except Exception as error:  # noqa: BLE001  whatever fails in a judgement must make it unknown, and is reported
        trace = "".join(traceback.format_exception(error)[-2:])
        text = f"the checker failed: {type(error).__name__}: {error}"
        return Finding(name, "unknown", text.splitlines()[0], why_unknown=trace, code="checker_failed")


def _of_busy(finding: Finding, busy: str) -> Finding:
    """Times that are measured while the bench does not get to run, under a load that is not the one that was asked for,
    break no limit for sure. (That a target stands still for long is told all the same: its finding has no title.)"""
    of_time = finding.name in ("latency", "throughput") or (finding.name == "recovery" and finding.title)
    if not (busy and of_time and finding.state == "invalid"):
        return finding
    why = f"{finding.summary}, but {busy}"
    return replace(finding, state="unknown", count=0, violations=(), why_unknown=why, code="rate_not_kept")


def _told(what: str, tell: Callable[[], tuple[T, ...]]) -> tuple[tuple[T, ...], list[Reason]]:
    """What is told; or, where telling it fails, the reason: the findings stand all the same."""
    try:
        return tell(), []
    except Exception as error:  # noqa: BLE001  a story that cannot be told must not hide the verdict, and is reported
        return (), [Reason("checker_failed", f"{what} could not be told: {type(error).__name__}: {error}")]


def _reasons(case: Case, totals: Totals, findings: Sequence[Finding], held: str, *, complete: bool) -> Iterator[Reason]:
    facts = case.facts
    first = facts.steady_held is not False  # that a run was ended explains the rest; why it was not steady is a detail
    for text in facts.reasons if first else ():
        yield Reason("runner", text)
    if not totals.acknowledged:
        yield Reason("no_publish", "no publish was acknowledged: there was nothing to lose")
    if totals.attempts == totals.foreign:
        why = "" if any(totals.owed.values()) else ": no subscriber was owed any of the events"
        yield Reason("no_delivery", f"nothing was delivered to any subscriber{why}")
    if facts.steady_held is False:
        yield Reason("not_steady", "the steady state never held, before any fault")
    if not kept(facts):
        yield _rate_reason(facts, held)
    yield from _fault_reasons(case)
    yield from _record_reasons(case, complete=complete)
    end = progress.standstill(case)
    if end is not None and end.pending and not end.stalled:
        pending = counted(end.pending, "delivery", "deliveries")
        yield Reason("drain_limit", f"the drain ended with {pending} pending, last progress {end.quiet_s:.1f} s before")
    for finding in findings:
        if finding.state == "unknown":
            text = f"{finding.title or finding.name}: {finding.why_unknown}"
            yield Reason(finding.code or "undecided", text, finding.advice)
    for text in () if first else facts.reasons:
        yield Reason("runner", text)


def _rate_reason(facts: RunFacts, held: str) -> Reason:
    share = f"{format_count(facts.achieved)} of {format_count(facts.asked)}"
    late = f"the generator sent only {share} events in time, within a second"
    if held:
        return Reason("loop_held", f"{late}: {held}")
    if busy := starved(facts):
        return Reason("rate_not_kept", f"{late}: {busy}", "End what else runs here, or lower the rate.")
    why, advice = limit(facts)
    return Reason("rate_not_kept", f"{late}: {why}" if why else late, advice or _reachable(facts))


def _reachable(facts: RunFacts) -> str:
    """To which rate to lower the load: one that this run did reach, in two digits; nothing where none is lower."""
    if facts.load is None or facts.load.ended <= facts.load.begun:
        return ""
    reached = facts.achieved * 1e9 / (facts.load.ended - facts.load.begun)
    step = 10.0 ** max(0, math.floor(math.log10(max(reached, 1.0))) - 1)
    reached = math.floor(reached / step) * step
    if not 0 < reached < facts.rate:
        return ""
    lower = f"--set {facts.rate_variable}={reached:.0f}" if facts.rate_variable else "a lower rate in load.stages"
    return (
        f"Try {lower}: {format_count(reached)}/s is what this run reached in time. Or give the generator more "
        "processor: what was asked for was not tested."
    )


def _fault_reasons(case: Case) -> Iterator[Reason]:
    rows = case.rows(
        """SELECT f.name, any_value(f.kind), any_value(f.seam), max(f.hits) + count(h.fault), sum(f.passes),
            bool_or(f.healed = false), any_value(f.error)
        FROM fault f LEFT JOIN (SELECT DISTINCT fault FROM fault_hit) h USING (fault) GROUP BY f.name ORDER BY f.name"""
    )
    for name, kind, seam, hits, passes, failed, error in rows:
        what = f"{kind} on {seam}"
        if not hits:
            told = "nothing passed where it stood"
            if passes:
                told = f"{passed(int(passes), seam)} passed where it stood, and it acted on none"
            elif error and not failed:
                told = f"its evidence could not be read ({error})"
            yield Reason("fault_never_bit", f"fault {name} ({what}) never bit: {told}")
        if failed:
            yield Reason("heal_failed", f"fault {name} ({what}) could not be healed: {error or 'no reason given'}")


def _record_reasons(case: Case, *, complete: bool) -> Iterator[Reason]:
    for failure in case.facts.recorder_failures:
        yield Reason("recorder_failed", failure)
    if not complete:
        yield Reason("recorder_failed", "the recording was never finished: rows may be missing")
    for source, count, begun, ended, why in case.rows(
        "SELECT source, count(*), min(begun), max(ended), any_value(why) FROM gap GROUP BY source ORDER BY source"
    ):
        what = {"publish": "publishes", "attempt": "deliveries"}.get(source, source)
        length = format_seconds(round((ended - begun) / 1e9, 3))
        yield Reason("gap", f"{what} are missing from the history: {counted(count, 'gap')} within {length} ({why})")


def make_verdict(
    findings: Sequence[Finding],
    reasons: Sequence[Reason],
    totals: Totals,
    causes: tuple[Cause, ...] = (),
    noted: tuple[Note, ...] = (),
) -> Verdict:
    """Merge: invalid > unknown > valid."""
    state: State = merge([finding.state for finding in findings] + (["unknown"] if reasons else []))
    acknowledged = counted(totals.acknowledged, "acknowledged event")
    by_name = {finding.name: finding for finding in findings if finding.state == "invalid"}
    if state == "valid":
        headline = f"{acknowledged}, none lost"
        figures = next((f.figures for f in findings if f.name == "no_loss"), {})
        allowed = {"lost_at_most_once": "at most once", "forgotten": "a claim of memory"}
        told = [
            f"{format_count(figures[name])} lost as {what} allows"
            for name, what in allowed.items()
            if figures.get(name)
        ]
        if told:
            headline = f"{acknowledged}, {', '.join(told)}"
    elif "no_loss" in by_name:
        lost = int(by_name["no_loss"].figures["events_lost"])
        headline = f"{format_count(lost)} of {acknowledged} {was(lost)} lost"
    elif by_name:
        first = next(finding for finding in findings if finding.state == "invalid")
        headline = f"{first.title or first.name}: {first.summary}"
    else:
        headline = reasons[0].text
    records = totals.publishes + totals.attempts
    return Verdict(state, headline, tuple(findings), tuple(reasons), causes, records, noted)
