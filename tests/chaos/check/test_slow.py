"""Latency: from when it counts, and what it is told that the slowest events waited for."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from tests.chaos.check.model import FaultHit, FaultWindow, Gate, History
from tests.chaos.check.runs import DURABLE, MS, clean, failed, finding_of, handled, verdict_of

from squall.chaos.check.expectations import Latency, Recovery
from squall.chaos.check.verdict import Cause

pytestmark = pytest.mark.slow  # each judges histories


def slow(history: History) -> Cause:
    """The cause of the one event that took longer than 100 ms."""
    (cause,) = [one for one in verdict_of(history, Latency(max=0.1)).causes if one.invariant == "latency"]
    return cause


def late_at(history: History, event: int, begun_ms: float, attempt: int = 1) -> None:
    history.attempts[event - 1] = handled(event, begun_ms=begun_ms, attempt=attempt)


def test_its_queue() -> None:
    """Nothing else explains it; the fault over it is named, and the event to look at."""
    history = clean(50)
    late_at(history, 7, 400)
    history.faults = [FaultWindow(0, "errors", 100 * MS, 200 * MS)]
    cause = slow(history)
    assert cause.first.event == 7
    assert cause.sentence == (
        "it waited in billing's queue for most of the time: 329 ms of 333 ms, from 0.071 s on, under errors"
    )


def test_a_gate_that_was_open() -> None:
    """However it came to be so."""
    history = clean(50)
    late_at(history, 7, 400)
    history.gates = [Gate(75 * MS, "open"), Gate(390 * MS, "closed")]
    assert "billing's breaker was open, and held it back for most of the time: 315 ms" in slow(history).sentence


def test_its_handler() -> None:
    """With the fault that acted on it."""
    history = clean(50)
    history.attempts[6].ended = history.attempts[6].settle_invoked = history.attempts[6].settle_ok = 300 * MS
    assert slow(history).sentence.startswith("it was in billing's handler for most of the time: 228 ms")
    history.faults = [FaultWindow(0, "lag", 50 * MS, 200 * MS, "slow")]
    history.hits = [FaultHit(0, 73 * MS, 7, 0)]
    assert "(fault lag)" in slow(history).sentence


def test_a_retry_that_was_not_due() -> None:
    """With the fault that its handler failed under."""
    history = clean(50)
    history.attempts[6] = failed(7)
    history.attempts.append(handled(7, begun_ms=400, attempt=2))
    assert "billing's handler failed, and it waited to be tried again for most of the time" in slow(history).sentence


def test_its_publish_and_what_came_before() -> None:
    """The store, and the load itself."""
    history = clean(50)
    history.publishes[6].ended = 300 * MS
    late_at(history, 7, 301)
    assert "most of the time passed in its publish" in slow(history).sentence
    history.publishes[6].invoked, history.publishes[6].intended = 299 * MS, 70 * MS
    assert "most of the time passed before it was published" in slow(history).sentence


def test_more_slow_events_than_are_looked_at_are_counted() -> None:
    """The slowest are, and the first of them is the slowest."""
    verdict = verdict_of(clean(50), Latency(max=0.001))
    finding = finding_of(verdict, "latency")
    assert (finding.count, len(finding.violations)) == (50, 20)
    assert verdict.causes[0].sentence.endswith("(of the slowest 20 of 50)")


def test_latencies_that_nobody_asked_about_say_until_when_and_where() -> None:
    """Until handled by all; where there are faults, outside them, and inside beside it."""
    history, number = clean(50), r"[0-9.]+ ms"
    plain = rf"p50 {number} · p99 {number} until handled by all"
    assert re.fullmatch(plain, finding_of(verdict_of(history), "latency").summary)
    history.faults = [FaultWindow(0, "errors", 10 * MS, 30 * MS)]
    told = rf"{plain}, outside faults, recovery included · {number} inside"
    assert re.fullmatch(told, finding_of(verdict_of(history), "latency").summary)


def test_who_joins_late_is_late_from_then_on() -> None:
    """What was published before could not be delivered to it; what comes afterwards counts as everybody's."""
    history = clean(50)
    audit = replace(DURABLE, subscription=1, name="audit", start="earliest", join_invoked=600 * MS, join_ok=601 * MS)
    history.intervals.append(audit)
    history.attempts += [handled(event, 1, begun_ms=605 + event) for event in range(1, 51)]
    finding = finding_of(verdict_of(history, Latency(max=0.1, subscribers=("audit",))), "latency")
    assert finding.state == "valid"
    assert finding.figures["max_s"] == pytest.approx(0.058)


def test_what_is_never_handled_is_not_a_time() -> None:
    """How much of it there is, in words."""
    history = clean(50)
    history.attempts[6] = replace(handled(7), result="error", settlement="term")
    verdict = verdict_of(history, Latency(p99=0.1, max=0.1))
    summary = finding_of(verdict, "latency").summary
    one = "infinite, as {} were never handled (limit 100ms)"
    assert summary == f"{one.format('1 % or more')} · {one.format('some')}"
    outside = finding_of(verdict_of(history, Latency(p99=0.1, window="outside-faults")), "latency").summary
    assert outside == "infinite, as 1 % or more were never handled outside faults, recovery included (limit 100ms)"
    assert any("billing never handled it well" in cause.sentence for cause in verdict.causes)


def test_a_recovery_that_an_open_gate_delayed_names_it() -> None:
    """Rather than the backlog behind it."""
    history = clean(50)
    late_at(history, 7, 900)
    history.faults = [FaultWindow(0, "errors", 60 * MS, 100 * MS)]
    history.gates = [Gate(80 * MS, "open"), Gate(890 * MS, "closed")]
    verdict = verdict_of(history, Recovery.model_validate({"of": "errors", "within": 0.2, "age": 0.1}))
    (cause,) = [one for one in verdict.causes if one.invariant == "recovery"]
    assert "its breaker was open from 0.080 s to 0.890 s, and held it back" in cause.sentence


def test_a_fault_that_never_began_has_not_failed_to_heal() -> None:
    """The run was over before it was due."""
    verdict = verdict_of(clean(50), Recovery.model_validate({"of": "errors", "within": 0.2}))
    assert finding_of(verdict, "recovery").why_unknown == "fault errors never began"
