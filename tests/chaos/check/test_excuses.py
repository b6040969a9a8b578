"""Each excuse by itself: where nothing else speaks for the target, one condition of the checker keeps it from blame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.chaos.check.model import Control, Counter, FaultHit, FaultWindow, Gap, History, Process, in_memory
from tests.chaos.check.runs import (
    CLAIMS,
    DURABLE,
    FACTS,
    MS,
    clean,
    failed,
    finding_of,
    handled,
    published,
    verdict_of,
    without,
)

from squall.chaos.check.engine import judge
from squall.chaos.check.expectations import Duplicates, Latency, NoLoss, Recovery, Throughput
from squall.chaos.check.facts import Span
from squall.chaos.check.verdict import FindingState

pytestmark = pytest.mark.slow  # each judges histories

Change = Callable[[History], None]


def again(history: History) -> None:
    """Event 5 was handled, settled and confirmed, and yet comes again."""
    history.attempts.append(handled(5, begun_ms=120, attempt=2))


def after_a_restart(history: History) -> None:
    history.processes += [Process(0, -30 * MS, 110 * MS), Process(1, 111 * MS)]


def after_a_redrive(history: History) -> None:
    history.controls.append(Control("redrive", 110 * MS, event=5))


def after_its_lease(history: History) -> None:
    history.intervals[0] = replace(DURABLE, lease=30 * MS)


@pytest.mark.parametrize("excuse", [after_a_restart, after_a_redrive, after_its_lease])
def test_a_redelivery_is_explained_by_one_reason(excuse: Change) -> None:
    """Whatever was confirmed before; without the reason it is a duplicate."""
    history = clean()
    again(history)
    assert finding_of(verdict_of(history, Duplicates()), "duplicates").count == 1
    excuse(history)
    assert finding_of(verdict_of(history, Duplicates()), "duplicates").count == 0


def counts(history: History, at_ms: float = 2000, **sums: int) -> None:
    """What the target says of itself, once."""
    history.counters += [Counter(round(at_ms * MS), name, 0, value) for name, value in sums.items()]


def balance(history: History) -> None:
    counts(history, owed=10, acked=10, dead_lettered=0, expired=0, cancelled=0, pending=0)


def confirm_after_the_count(history: History) -> None:
    counts(history, at_ms=80, acked=7)


def keep_the_copy_of_what_was_handled(history: History) -> None:
    history.publishes.append(replace(published(5), invoked=54 * MS, ended=55 * MS, seq=50))
    counts(history, at_ms=2001, pending=1)


def settle_two_attempts_at_once(history: History) -> None:
    history.attempts.append(replace(history.attempts[4], attempt=2))
    counts(history, acked=10)


def list_no_longer_what_was_redriven(history: History) -> None:
    history.controls.append(Control("redrive", 110 * MS, event=5))
    counts(history, dead_lettered=1)


@pytest.mark.parametrize(
    "plant",
    [
        balance,
        confirm_after_the_count,
        keep_the_copy_of_what_was_handled,
        settle_two_attempts_at_once,
        list_no_longer_what_was_redriven,
    ],
)
def test_sums_that_may_be_true_are_believed(plant: Change) -> None:
    """A target counts at one moment, each copy, and each settlement once."""
    history = clean()
    plant(history)
    finding = finding_of(verdict_of(history), "conservation")
    assert finding.state == "valid", finding.summary


def stand_still(history: History) -> None:
    """Five events of ten are pending, and nothing moves from 56 ms on."""
    history.attempts = history.attempts[:5]
    history.counters = [Counter(2000 * MS, "pending", 0, 5)]


def be_at_work(history: History) -> None:
    history.intervals[0] = replace(DURABLE, timeout=1000 * MS)
    running = handled(6, begun_ms=1200)
    running.ended = running.result = running.settlement = running.settle_invoked = None
    running.settle_ok = running.settle_answer = None
    history.attempts.append(running)


def be_paused(history: History) -> None:
    history.controls.append(Control("pause", 60 * MS))


@pytest.mark.parametrize(("excuse", "state"), [(None, "invalid"), (be_at_work, "valid"), (be_paused, "valid")])
def test_who_has_a_reason_to_stand_still_is_not_stalled(excuse: Change | None, state: FindingState) -> None:
    """A handler that may still run, or somebody who wanted it so."""
    history = clean()
    stand_still(history)
    if excuse is not None:
        excuse(history)
    assert finding_of(verdict_of(history, facts=replace(FACTS, drained=False)), "recovery").state == state


def test_standing_still_counts_from_the_heal_and_past_every_legal_wait() -> None:
    """Before it, nothing need move; and a backoff may be longer than the stall."""
    history = clean()
    stand_still(history)
    just_healed = replace(FACTS, drained=False, healed_ns=1800 * MS)
    assert finding_of(verdict_of(history, facts=just_healed), "recovery").state == "valid"
    patient = replace(CLAIMS, longest_delay_s=2.0)
    verdict = verdict_of(history, facts=replace(FACTS, drained=False), claims=patient)
    assert finding_of(verdict, "recovery").state == "valid"


def test_what_is_lost_is_not_late_as_well() -> None:
    """Nothing is pending: whoever recovered has done so, and no_loss speaks of the rest."""
    history = without(clean(50), 5)
    history.faults.append(FaultWindow(0, "errors", 40 * MS, 100 * MS))
    verdict = verdict_of(history, Recovery.model_validate({"of": "errors", "within": 0.2, "age": 0.1}), NoLoss())
    assert next(one for one in verdict.findings if one.title == "recovery of errors").state == "valid"
    assert finding_of(verdict, "no_loss").state == "invalid"


def test_who_leaves_after_the_drain_still_owes_an_account() -> None:
    """That is only the end of the run: it cancels nothing."""
    history = without(clean(), 10)
    history.intervals[0] = replace(DURABLE, durable=False, leave_invoked=2001 * MS, leave_ok=2002 * MS)
    assert [v.event for v in finding_of(verdict_of(history, NoLoss()), "no_loss").violations] == [10]


@pytest.mark.parametrize(("error_ns", "lost"), [(0, 1), (MS, 0)])
def test_who_joins_within_the_clocks_error_may_be_owed_or_not(error_ns: int, lost: int) -> None:
    """Half a millisecond before the publish, by another clock."""
    history = clean()
    joined = round(49.5 * MS)
    history.intervals[0] = replace(DURABLE, from_seq=None, join_invoked=48 * MS, join_ok=joined)
    history.attempts = history.attempts[5:]
    verdict = verdict_of(history, NoLoss(), facts=replace(FACTS, clock_error_ns=error_ns))
    assert finding_of(verdict, "no_loss").count == lost


@pytest.mark.parametrize(("error_ns", "lost"), [(0, 1), (MS, 0)])
def test_who_leaves_within_the_clocks_error_may_be_owed_or_not(error_ns: int, lost: int) -> None:
    """Half a millisecond after the acknowledgement of an event that was passed over, by another clock."""
    history = clean()
    history.publishes[3].ended = 51 * MS
    history.publishes[4].invoked, history.publishes[4].ended = 45 * MS, 46 * MS
    history.attempts[4].begun = 50 * MS
    left = round(51.5 * MS)
    history.intervals[0] = replace(DURABLE, durable=False, from_seq=None, leave_invoked=left, leave_ok=53 * MS)
    history.attempts = [*history.attempts[:3], history.attempts[4]]
    verdict = verdict_of(history, NoLoss(), facts=replace(FACTS, clock_error_ns=error_ns))
    assert finding_of(verdict, "no_loss").count == lost


def test_a_recording_that_was_never_finished_proves_no_loss() -> None:
    """Rows may be missing, nobody knows since when."""
    with in_memory(without(clean(), 5)) as db:
        verdict = judge(db, CLAIMS, [NoLoss()], FACTS, complete=False)
    assert (verdict.state, finding_of(verdict, "no_loss").state) == ("unknown", "unknown")


def test_with_publishes_missing_nothing_is_a_phantom_from_then_on() -> None:
    """What was delivered before is, if nobody had published it; otherwise nobody knows."""
    history = clean()
    history.gaps.append(Gap("publish", 140 * MS, 145 * MS))
    history.attempts.append(replace(handled(99, begun_ms=150), seq=None, key=None))
    assert finding_of(verdict_of(history), "no_phantom").state == "unknown"
    history.attempts.append(replace(handled(98, begun_ms=130), seq=None, key=None))
    assert [v.event for v in finding_of(verdict_of(history), "no_phantom").violations] == [98]


def test_what_a_fault_altered_past_recognition_is_the_faults() -> None:
    """It came with the seq of an event that the fault acted on."""
    history = clean()
    history.attempts[4].event = history.attempts[4].key = None
    assert finding_of(verdict_of(history), "intact").count == 1
    history.faults.append(FaultWindow(0, "corrupt", 40 * MS, 70 * MS, "corrupt", "storage:events"))
    history.hits.append(FaultHit(0, 51 * MS, 5))
    assert finding_of(verdict_of(history), "intact").count == 0


def test_attempts_that_are_given_up_at_one_moment_are_one_end() -> None:
    """One settlement speaks of both."""
    history = clean()
    history.attempts[4].result, history.attempts[4].settlement = "error", "term"
    history.attempts.append(replace(history.attempts[4], attempt=2))
    assert finding_of(verdict_of(history), "one_terminal").count == 0


def be_stored_twice(history: History) -> None:
    history.publishes.append(replace(published(5), invoked=54 * MS, ended=55 * MS, seq=50))


def crash_before_the_retry(history: History) -> None:
    history.processes += [Process(0, -30 * MS, 84 * MS), Process(1, 85 * MS)]


def redrive_before_the_retry(history: History) -> None:
    history.controls.append(Control("redrive", 84 * MS, event=5))


def lose_the_settlement(history: History) -> None:
    history.attempts[4].result, history.attempts[4].settlement = "ok", "ack"
    history.attempts[4].settle_ok = history.attempts[4].settle_answer = None


@pytest.mark.parametrize(
    "excuse", [be_stored_twice, crash_before_the_retry, redrive_before_the_retry, lose_the_settlement]
)
def test_a_key_that_is_held_for_a_retry_may_be_passed_for_one_reason(excuse: Change) -> None:
    """Then it was no retry, or nobody was there to hold the key."""
    history = clean(10, replace(DURABLE, on_retry="block_key"))
    history.attempts[4].result, history.attempts[4].settlement = "error", "nak"
    history.attempts.append(handled(5, begun_ms=86, attempt=2))
    assert finding_of(verdict_of(history), "order").count == 1
    excuse(history)
    assert finding_of(verdict_of(history), "order").count == 0


def test_each_copy_of_an_event_may_be_tried_as_often_as_any() -> None:
    """It is another delivery."""
    history = without(clean(), 5)
    tries = [handled(5, begun_ms=120 + 10 * place, attempt=place + 1) for place in range(4)]
    for one in tries[:3]:
        one.result, one.settlement = "error", "nak"
    history.attempts += tries
    assert finding_of(verdict_of(history), "max_attempts").count == 1
    tries[1].settle_answer = "refused"
    assert finding_of(verdict_of(history), "max_attempts").count == 0, "what was refused is no definite failure"
    tries[1].settle_answer = "ok"
    be_stored_twice(history)
    assert finding_of(verdict_of(history), "max_attempts").count == 0


@pytest.mark.parametrize(("error_ns", "late"), [(0, 1), (MS, 0)])
def test_who_begins_within_the_clocks_error_of_another_has_not_overtaken_it(error_ns: int, late: int) -> None:
    """Half a millisecond earlier, by another clock."""
    history = clean()
    history.attempts[5].begun = round(51.5 * MS)
    verdict = verdict_of(history, facts=replace(FACTS, clock_error_ns=error_ns))
    assert finding_of(verdict, "order").count == late


def test_a_handler_has_ended_with_its_process() -> None:
    """Nobody wrote its end, and there is no timeout."""
    history = clean(10, replace(DURABLE, timeout=None))
    history.attempts[3].ended = history.attempts[3].result = None
    assert finding_of(verdict_of(history), "overlap").count == 1
    history.processes += [Process(0, -30 * MS, 49 * MS), Process(1, 50 * MS)]
    assert finding_of(verdict_of(history), "overlap").count == 0


def test_with_deliveries_missing_a_retry_is_not_taken_for_the_first() -> None:
    """That one may have begun in order, unseen."""
    history = clean()
    history.attempts[4] = handled(5, begun_ms=86, attempt=2)
    assert finding_of(verdict_of(history), "order").count == 1
    history.gaps.append(Gap("attempt", 51 * MS, 55 * MS))
    assert finding_of(verdict_of(history), "order").count == 0


@pytest.mark.parametrize(("achieved", "codes"), [(2849, ["rate_not_kept"]), (2850, [])])
def test_a_load_need_not_be_kept_to_the_last_event(achieved: int, codes: list[str]) -> None:
    """Ninety-five of a hundred in time are the load that was asked for."""
    verdict = verdict_of(clean(), facts=replace(FACTS, asked=3000, achieved=achieved))
    assert [reason.code for reason in verdict.reasons] == codes


@pytest.mark.parametrize(
    ("achieved", "starved", "state"),
    [(1000, 0.2, "unknown"), (1000, 0.19, "invalid"), (2850, 0.9, "invalid")],
    ids=["a busy machine", "enough of a processor", "a load that was kept"],
)
def test_a_bench_that_did_not_get_to_run_breaks_no_limit_of_time(
    achieved: int, starved: float, state: FindingState
) -> None:
    """Where it could not even send the load in time, because other programs had the processors."""
    history = clean()
    history.faults.append(FaultWindow(0, "errors", 40 * MS, 60 * MS))
    history.hits.append(FaultHit(0, 53 * MS, 5, 0))
    history.attempts[4] = failed(5)
    history.attempts.append(handled(5, begun_ms=900, attempt=2))
    expected = [
        Recovery(of="errors", within=0.5, age=0.1),
        Latency.model_validate({"p50": "1ms"}),
        Throughput.model_validate({"min": 1000}),
    ]
    verdict = verdict_of(history, *expected, facts=replace(FACTS, asked=3000, achieved=achieved, starved=starved))
    titles = ("recovery of errors", "latency p50", "throughput")
    found = [one for one in verdict.findings if (one.title or one.name) in titles]
    assert [one.state for one in found] == [state] * 3, verdict.findings
    assert verdict.state == state
    if state == "unknown":
        assert verdict.causes == ()
        assert "the machine was busy: 20 % of the time the bench waited for a processor" in verdict.reasons[0].text


@pytest.mark.parametrize("lost", ["event", "progress"])
def test_a_busy_machine_excuses_nothing_else(lost: str) -> None:
    """A loss is one, and so is a target that stands still for long."""
    history = clean()
    if lost == "event":
        history = without(history, 5)
        history.counters = [Counter(2000 * MS, "pending", 0, 0)]
    else:
        del history.attempts[-1]
        history.counters = [Counter(20_000 * MS, "pending", 0, 1)]
    facts = replace(FACTS, asked=3000, achieved=1000, starved=0.9, drain=Span(1000 * MS, 20_000 * MS), drained=False)
    assert verdict_of(history, facts=facts).state == "invalid"
