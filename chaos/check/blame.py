"""Why: one sentence for each violation, from the evidence in the tables alone; equal causes told once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from squall.chaos.check import blame_latency, blame_liveness, blame_loss, blame_presence, blame_seq
from squall.chaos.check.case import open_case
from squall.chaos.check.commonalities import coincidences, shared
from squall.chaos.check.diagnosis import Diagnosis, cut_off
from squall.chaos.check.evidence import Evidence, gather
from squall.chaos.check.facts import RunFacts
from squall.chaos.check.fates import fates
from squall.chaos.check.growth import grown
from squall.chaos.check.notes import loop_held
from squall.chaos.check.path import Step, lines, path
from squall.chaos.check.stalls import silences
from squall.chaos.check.verdict import Cause, Finding, Violation
from squall.chaos.history.reader import open_history
from squall.core.target import Claims
from squall.core.units import format_count

Teller = Callable[[Evidence, Violation], Diagnosis]

TELLERS: Mapping[str, Teller] = {
    "no_loss": blame_loss.lost,
    "no_phantom": blame_presence.phantom,
    "no_ghost": blame_presence.ghost,
    "no_stray": blame_presence.stray,
    "intact": blame_presence.altered,
    "atomic": blame_presence.in_part,
    "duplicates": blame_presence.duplicate,
    "order": blame_seq.disordered,
    "overlap": blame_seq.overlapping,
    "unique_seq": blame_seq.shared_seq,
    "seq_order": blame_seq.falling_seq,
    "one_terminal": blame_presence.ended_twice,
    "max_attempts": blame_presence.tried_too_often,
    "starvation": blame_liveness.starved,
    "recovery": blame_liveness.behind,
    "latency": blame_latency.slow,
}
PAIRS = ("atomic", "order", "overlap", "unique_seq", "seq_order")
"""Of these the other event belongs to the path."""


@dataclass(frozen=True)
class Story:
    """One event, for `squall why`: every step, and a sentence for each subscription or violation."""

    event: int
    topic: str
    key: str | None
    origin_ns: int
    steps: tuple[Step, ...]
    sentences: tuple[str, ...]
    advice: tuple[str, ...] = ()


def blame(
    db: duckdb.DuckDBPyConnection, facts: RunFacts, findings: Iterable[Finding], held: str = ""
) -> tuple[Cause, ...]:
    """The causes of all violations that the findings hold, most frequent first within each invariant. `held`: whose
    handler held the event loop, in words."""
    condemned = [finding for finding in findings if finding.state == "invalid" and finding.violations]
    if not condemned:
        return ()
    violations = [violation for finding in condemned for violation in finding.violations]
    evidence = _evidence(db, facts, violations, _events(violations), held)
    return tuple(cause for finding in condemned for cause in _causes(db, evidence, finding))


def _events(violations: Iterable[Violation]) -> set[int]:
    return {event for v in violations for event in (v.event, v.witness) if event is not None}


def _evidence(
    db: duckdb.DuckDBPyConnection, facts: RunFacts, violations: Sequence[Violation], events: set[int], held: str
) -> Evidence:
    """All by which causes are told, of these events of a run with these violations."""
    evidence = gather(db, facts, events)
    evidence.held_loop = held
    evidence.innocent = frozenset(coincidences(db, evidence, violations))
    return evidence


def _causes(db: duckdb.DuckDBPyConnection, evidence: Evidence, finding: Finding) -> list[Cause]:
    groups: dict[str, list[tuple[Violation, Diagnosis]]] = {}
    for violation in finding.violations:
        diagnosis = tell(evidence, violation)
        groups.setdefault(diagnosis.sentence, []).append((violation, diagnosis))
    causes = []
    for sentence, members in sorted(groups.items(), key=lambda group: -len(group[1])):
        first, diagnosis = members[0]
        told = diagnosis.detail if len(members) == 1 and diagnosis.detail else sentence
        traits = [trait for trait in diagnosis.traits if all(trait in other.traits for _, other in members)]
        tautology = finding.name in ("no_stray", "starvation")  # whose sentences name type and priority
        common = "" if tautology else shared(db, evidence, [violation for violation, _ in members])
        told = "".join([told, *(f", {trait}" for trait in traits), f"; {common}" if common else ""])
        if finding.count > len(finding.violations):
            which = "slowest" if finding.name == "latency" else "first"
            told += f" (of the {which} {format_count(len(finding.violations))} of {format_count(finding.count)})"
        causes.append(Cause(finding.name, told, len(members), first, _steps(evidence, first), diagnosis.advice))
    return causes


def _steps(evidence: Evidence, violation: Violation) -> tuple[str, ...]:
    if violation.event is None:
        return ()
    number = evidence.number(violation.subscription)
    steps = lines(evidence, violation.event, number)
    if violation.invariant in PAIRS and violation.witness not in (None, violation.event):
        steps += lines(evidence, violation.witness or 0, number)
    return steps


def tell(evidence: Evidence, violation: Violation) -> Diagnosis:
    """The cause of one violation."""
    if violation.invariant == "growth":
        return grown(violation)
    teller = TELLERS.get(violation.invariant)
    if teller is None or (violation.event is None and violation.form != "stalled"):
        return Diagnosis(f"{violation.subscription}: {violation.form}" if violation.subscription else violation.form)
    return blame_presence.impostor(evidence, violation) or teller(evidence, violation)


def why(folder: Path, facts: RunFacts, event: int, violations: Sequence[Violation] = ()) -> Story | None:
    """The whole path of one event of the history in folder, and its cause; None where nobody knows the event.

    `violations` are the verdict's; those of this event are told, otherwise what became of it at each subscription.
    Raises StoreFileError when the history cannot be read.
    """
    own = [v for v in violations if event in (v.event, v.witness)]
    with TemporaryDirectory(prefix="squall-why-") as spill, open_history(folder, Path(spill)) as db:
        case = open_case(db, Claims(), facts)
        held = loop_held(case, silences(case))
        evidence = _evidence(db, facts, violations, _events(own) | {event}, held)
    if event not in evidence.ops and event not in evidence.tries and event not in evidence.ends:
        return None
    diagnoses = [tell(evidence, violation) for violation in own]
    timed_out = [] if own else [cut_off(evidence, event, number) for number in evidence.subscriptions]
    sentences = [_about(event, v, d) for v, d in zip(own, diagnoses, strict=True)] or fates(evidence, event)
    owed = [v.subscription for v in own if v.form == "undelivered" and v.subscription is not None]
    ops = evidence.ops.get(event, [])
    return Story(
        event,
        ops[0].topic if ops else "",
        ops[0].key if ops else None,
        evidence.origin_ns,
        path(evidence, event, owed=owed),
        tuple(dict.fromkeys(sentences)),
        tuple(dict.fromkeys(d.advice for d in (*diagnoses, *timed_out) if d is not None and d.advice)),
    )


def _about(event: int, violation: Violation, diagnosis: Diagnosis) -> str:
    """The sentence, and of whom it speaks where the event asked for is only the other one of a pair."""
    told = "".join([diagnosis.detail or diagnosis.sentence, *(f", {trait}" for trait in diagnosis.traits)])
    return told if violation.event == event else f"event {violation.event}: {told}"
