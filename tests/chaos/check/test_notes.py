"""What is told besides the verdict, and that nothing is taken for valid which was not looked at."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest
from tests.chaos.check.model import FaultWindow, Gate, History, write
from tests.chaos.check.runs import (
    CLAIMS,
    DURABLE,
    FACTS,
    MS,
    abandoned,
    clean,
    finding_of,
    handled,
    published,
    verdict_of,
)

from squall.chaos.check.blame import why
from squall.chaos.check.expectations import Expectation, Latency, NoLoss, Order, Overlap
from squall.chaos.check.facts import RunFacts, Span
from squall.chaos.remedies import what_to_do
from squall.core.target import Claims

pytestmark = pytest.mark.slow  # each judges histories

REDIS = ("storage:events", "net:redis", "process:redis")
SERVE = ("net:serve", "process:serve")


def noted(history: History, code: str, facts: RunFacts = FACTS, claims: Claims = CLAIMS) -> list[str]:
    return [note.text for note in verdict_of(history, claims=claims, facts=facts).notes if note.code == code]


def test_a_run_that_nothing_stands_out_of_has_no_notes() -> None:
    """Nobody reads what is always there."""
    assert verdict_of(clean(90)).notes == ()


def test_how_long_a_gate_was_open_is_told() -> None:
    """When, how long in sum, and that it held the deliveries back; of one that is open at the end too."""
    history = clean(90)
    history.gates = [Gate(100 * MS, "open"), Gate(250 * MS, "half_open"), Gate(260 * MS, "closed")]
    expected = "billing's breaker was open for 150 ms (from 0.100 s to 0.250 s): it held all deliveries back"
    assert noted(history, "gate_open") == [expected]
    history.gates.append(Gate(1900 * MS, "open"))
    (told,) = noted(history, "gate_open")
    assert told.startswith("billing's breaker was open for 250 ms, 2 times (first from 0.100 s to 0.250 s)")


def test_handlers_that_ignored_their_cancellation_are_counted() -> None:
    """By subscriber, and how many of them ran on for good; but where a cause tells it already."""
    history = clean(90)
    history.attempts[4] = abandoned(5, ended_ms=300)
    history.attempts.append(handled(5, begun_ms=200, attempt=2))
    ignored = "billing's handler ignored its cancellation {}, and ran on after its timeout"
    assert noted(history, "abandoned") == [ignored.format("1 time")]
    history.attempts[6] = abandoned(7)
    history.attempts.append(handled(7, begun_ms=210, attempt=2))
    assert noted(history, "abandoned") == [f"{ignored.format('2 times')}; 1 still ran at the end"]
    history.attempts[-1] = replace(abandoned(7, ended_ms=280), begun=210 * MS, settle_invoked=270 * MS, attempt=2)
    verdict = verdict_of(history, Latency(max=0.1))
    assert any("ignored its cancellation" in cause.sentence for cause in verdict.causes)
    assert "abandoned" not in {note.code for note in verdict.notes}


def test_publishes_that_were_not_acknowledged_are_counted() -> None:
    """By outcome."""
    history = clean(90)
    history.publishes += [replace(published(event), outcome="fail", seq=None) for event in (91, 92)]
    history.publishes.append(replace(published(93), outcome="info", seq=None))
    assert noted(history, "not_acknowledged") == ["of 93 publishes: 2 refused, 1 of unknown outcome"]


def test_a_subscriber_for_whom_there_was_nothing_is_named() -> None:
    """By its pattern, or since it was not there."""
    nothing = replace(DURABLE, subscription=1, name="audit", pattern="stock.>")
    history = clean(90)
    history.intervals.append(nothing)
    (told,) = noted(history, "nothing_owed")
    assert told.startswith("nothing was owed to audit, so nothing is proved of it: ")
    assert told.endswith("its pattern stock.> matches nothing that was published")
    history.intervals[1] = replace(nothing, pattern="order.>", join_invoked=990 * MS, join_ok=991 * MS, from_seq=91)
    (told,) = noted(history, "nothing_owed")
    assert told.endswith("nothing that it wants was published while it was there")


def stalled(history: History, begun: int, ended: int) -> History:
    """Between the two no publish is acknowledged."""
    for op in history.publishes:
        if op.ended is not None and begun * MS < op.ended < ended * MS:
            op.ended = ended * MS + op.event
    for one in history.attempts:
        if begun * MS < one.begun < ended * MS:
            one.begun += (ended - begun) * MS
            one.ended = one.settle_invoked = one.begun + 3 * MS
            one.settle_ok = one.begun + 4 * MS
    return history


def test_what_stood_still_when_acknowledgements_did_is_named() -> None:
    """A fault in the store that was active; else what may have been."""
    history = stalled(clean(90), 205, 310)
    (told,) = noted(history, "stall")
    assert told.startswith("acknowledgements stood still once, for 100 ms (at 0.210 s): "), told
    assert told.endswith("the store did not answer, or publishes waited for room")
    history.gates = [Gate(100 * MS, "open"), Gate(400 * MS, "closed")]
    assert noted(history, "stall")[0].endswith("or publishes waited for room, while billing's breaker was open")
    history.faults = [FaultWindow(0, "slow", 200 * MS, 300 * MS, "slow", "storage:events")]
    assert noted(history, "stall")[0].endswith(": the store did not answer, under slow")


@pytest.mark.parametrize(
    ("seam", "path", "what"),
    [
        ("storage:events", ("storage:events",), "the store did not answer, under fault"),
        ("storage:events", None, "the store did not answer, under fault"),
        ("process:redis", REDIS, "redis did not answer, under fault"),
        ("net:redis", REDIS, "redis, or the network to it, did not answer, under fault"),
        ("process:serve", SERVE, "serve did not answer, under fault"),
        ("net:serve", SERVE, "serve, or the network to it, did not answer, under fault"),
        ("process:neo4j", ("storage:events",), "the store did not answer, or publishes waited for room"),
        ("net:neo4j", REDIS, "the store did not answer, or publishes waited for room"),
        ("net:theirs", None, "the store did not answer, or publishes waited for room"),
        ("net:serve-far-1", SERVE, "the store did not answer, or publishes waited for room"),
        ("handler:billing", SERVE, "the store did not answer, or publishes waited for room"),
    ],
)
def test_only_a_fault_that_publishes_pass_is_blamed_for_a_standstill(
    seam: str, path: tuple[str, ...] | None, what: str
) -> None:
    """By the name of what did not answer. A graph or a consumer's network holds up no acknowledgement, and of a target
    that does not tell its way nothing is known but its store."""
    history = stalled(clean(90), 205, 310)
    history.faults = [FaultWindow(0, "fault", 200 * MS, 300 * MS, "down", seam)]
    (told,) = noted(history, "stall", claims=replace(CLAIMS, publish_path=path))
    assert told.endswith(f": {what}"), told


def refused(history: History, events: Collection[int | None], waited: int = 1) -> History:
    """These publishes are refused, each this many ms after it was asked for."""
    for op in history.publishes:
        if op.event in events:
            op.outcome, op.seq, op.ended = "fail", None, op.invoked + waited * MS
    history.attempts = [one for one in history.attempts if one.event not in events]
    return history


def test_a_standstill_in_which_all_was_refused_is_told_as_long_as_it_was() -> None:
    """From the first publish that was refused: at once, or after it had waited; to the next that is acknowledged, or
    to the last refusal where none is any more."""
    every = "acknowledgements stood still once, for {} (at {} s): what was due was refused"
    assert noted(refused(clean(90), range(21, 70)), "stall") == [every.format("491 ms", "0.210")]
    cut = refused(clean(90), range(21, 70), waited=60)
    assert noted(cut, "stall") == [every.format("491 ms", "0.210")]
    assert noted(refused(clean(90), range(51, 91)), "stall") == [every.format("391 ms", "0.510")]
    assert noted(refused(clean(90), range(1, 91)), "stall") == [every.format("891 ms", "0.010")]
    cut.faults = [FaultWindow(0, "cut", 200 * MS, 700 * MS, "down", "net:redis")]
    (told,) = noted(cut, "stall", claims=replace(CLAIMS, publish_path=REDIS))
    assert told.endswith("(at 0.210 s): what was due was refused, under cut"), told


def test_a_standstill_that_begins_with_refusals_and_ends_with_waiting_is_one() -> None:
    """What was refused and what was acknowledged late belong to the same time in which nothing was acknowledged."""
    history = refused(stalled(clean(90), 605, 700), range(21, 61), waited=60)
    (told,) = noted(history, "stall")
    assert told == "acknowledgements stood still once, for 490 ms (at 0.210 s): what was due was refused"


def test_a_slow_load_that_is_refused_under_a_fault_is_told_as_refused() -> None:
    """At 200 publishes a second the gaps between them are silences, and cover most of an outage: it is no standstill of
    the process. Hiccups outside of the fault do not hide it, many as they are."""
    history = held_up(clean(90), 202, 295)
    history = held_up(history, 402, 495)
    asked = 900
    for event in range(91, 891):
        asked += (2, 18)[event % 2] if event < 890 else 5
        history.publishes.append(replace(published(event), invoked=asked * MS, ended=asked * MS + MS // 10))
    for op in history.publishes[90:]:
        op.intended, op.outcome, op.seq = op.invoked - 12 * MS, "fail", None
    history.faults = [FaultWindow(0, "cut", 890 * MS, asked * MS, "down", "storage:events")]
    facts = replace(FACTS, load=Span(0, (asked + 50) * MS), drain=Span((asked + 50) * MS, (asked + 100) * MS))
    outage, hiccups = noted(history, "stall", facts)
    assert outage.startswith("acknowledgements stood still once, for 8"), outage
    assert outage.endswith(": what was due was refused, under cut"), outage
    assert "stood still 2 times, for 86 ms" in hiccups, hiccups
    assert "the whole process did nothing: the machine was busy" in hiccups, hiccups


def test_a_few_refusals_are_no_standstill() -> None:
    """Where publishes are rare, the time from one acknowledgement to the next is long though hardly anything is due."""
    assert noted(refused(clean(90), range(21, 29)), "stall") == []
    history = clean(90)
    history.publishes = [op for op in history.publishes if not 21 <= op.event < 85 or op.event == 45]
    assert noted(refused(history, {45}), "stall") == []
    (told,) = noted(refused(history, {45}, waited=80), "stall")
    assert told.startswith("acknowledgements stood still once, for 80 ms (at 0.450 s)"), told


def held_up(history: History, begun: int, ended: int) -> History:
    """Between the two nothing happens: what was due is published afterwards."""
    for op in history.publishes:
        if begun * MS < op.invoked < ended * MS:
            op.intended = op.invoked
            op.invoked = ended * MS + op.event
            op.ended = op.invoked + MS
    for one in history.attempts:
        if begun * MS < one.begun < ended * MS:
            one.begun = ended * MS + 2 * MS + (one.event or 0)
            one.ended = one.settle_invoked = one.begun + MS
            one.settle_ok = one.begun + 2 * MS
    return history


def test_a_handler_that_holds_the_loop_is_named(tmp_path: Path) -> None:
    """Nothing else went on from its begin to its end, though something was due: not the generator is to blame. The
    verdict says so, and so does the story of each event."""
    history = held_up(clean(90), 202, 495)
    assert noted(history, "loop_held") == []
    assert "the whole process did nothing" in noted(history, "stall")[0]
    (blocking,) = [one for one in history.attempts if one.event == 20]
    blocking.begun, blocking.ended = 202 * MS, 495 * MS
    blocking.settle_invoked = blocking.settle_ok = 495 * MS
    (told,) = noted(history, "loop_held")
    assert told.startswith("billing's handler held the event loop for 293 ms in one call"), told
    assert noted(history, "stall")[0].endswith("billing's handler held the event loop")
    causes = [one for one in verdict_of(history, Latency(max=0.1)).causes if "before it was published" in one.sentence]
    assert causes
    assert all("billing's handler held the event loop" in one.sentence for one in causes)
    assert all("asyncio.to_thread" in one.advice for one in causes)
    late = replace(FACTS, asked=90, achieved=60)
    violations = finding_of(verdict_of(history, Latency(max=0.1)), "latency").violations
    story = why(write(history, tmp_path / "history"), FACTS, causes[0].first.event or 0, violations)
    assert story is not None
    assert any("billing's handler held the event loop" in sentence for sentence in story.sentences)
    assert any("asyncio.to_thread" in advice for advice in story.advice)
    (reason,) = verdict_of(history, facts=late).reasons
    assert reason.code == "loop_held"
    assert "60 of 90 events in time" in reason.text
    assert "billing's handler held the event loop" in reason.text


def test_a_handler_that_holds_the_loop_beyond_the_load_is_named() -> None:
    """What was due comes only afterwards, and the load is over by then."""
    history = held_up(clean(99), 952, 1300)
    (blocking,) = [one for one in history.attempts if one.event == 95]
    blocking.begun, blocking.ended = 952 * MS, 1300 * MS
    (told,) = noted(history, "loop_held")
    assert told.startswith("billing's handler held the event loop for 348 ms in one call"), told


def test_a_handler_that_waits_holds_nothing() -> None:
    """Nothing was due meanwhile, so that nothing went on is no wonder."""
    history = clean(90)
    for event in range(20, 50):
        history.publishes[event - 1] = replace(published(event), invoked=500 * MS + event, ended=501 * MS + event)
        history.attempts[event - 1] = handled(event, begun_ms=505 + event)
    history.attempts[18].begun, history.attempts[18].ended = 199 * MS, 500 * MS
    assert noted(history, "loop_held") == []


def states(history: History, *expected: Expectation) -> dict[str, str]:
    verdict = verdict_of(history, *expected)
    return {name: finding_of(verdict, name).state for name in ("no_loss", "order", "overlap")}


def test_without_a_key_no_order_was_kept() -> None:
    """Unknown where a scenario expects it, not judged where it is only claimed."""
    history = clean(90)
    for op, one in zip(history.publishes, history.attempts, strict=True):
        op.key = one.key = None
    assert states(history) == {"no_loss": "valid", "order": "not judged", "overlap": "not judged"}
    assert states(history, Order(), Overlap()) == {"no_loss": "valid", "order": "unknown", "overlap": "unknown"}
    verdict = verdict_of(history, Order())
    assert [(reason.code, finding_of(verdict, "order").code) for reason in verdict.reasons] == [("no_keys", "no_keys")]
    assert finding_of(verdict, "overlap").code == "no_keys"
    assert "key" in what_to_do(verdict.reasons[0])


def test_where_nothing_was_owed_nothing_could_be_lost() -> None:
    """No mark of approval above an unknown verdict."""
    history = clean(10)
    history.attempts, history.intervals = [], [replace(DURABLE, pattern="stock.>")]
    assert states(history)["no_loss"] == "not judged"
    assert states(history, NoLoss())["no_loss"] == "unknown"
