"""Each way to break an invariant is found under that invariant, and told by its cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.chaos.check.model import (
    Attempt,
    Counter,
    FaultHit,
    FaultWindow,
    History,
    Interval,
    Outcome,
    Terminal,
    Told,
    write,
)
from tests.chaos.check.runs import (
    CLAIMS,
    DURABLE,
    FACTS,
    MS,
    clean,
    failed,
    finding_of,
    handled,
    invalid,
    published,
    swap_two_of_a_key,
    verdict_of,
    without,
)

from squall.chaos.check.engine import check
from squall.chaos.check.expectations import Duplicates, NoLoss

pytestmark = pytest.mark.slow  # each judges histories

Plant = Callable[[History], None]


def drop_an_acknowledged_event(history: History) -> None:
    without(history, 5)


def drop_it_for_one_of_two(history: History) -> None:
    audit = replace(DURABLE, subscription=1, name="audit")
    history.intervals.append(audit)
    history.attempts += [handled(event, 1) for event in range(1, 11)]
    without(history, 5)


def settle_before_the_handler_and_crash(history: History) -> None:
    one = history.attempts[4]
    one.settle_invoked, one.settle_ok = one.begun - MS, one.begun
    one.result = "died"
    history.faults.append(FaultWindow(0, "crash", one.begun, one.begun + 10 * MS, kind="crash"))
    history.hits.append(FaultHit(0, one.begun + 1, 5, 0))


def settle_while_it_runs_and_raise(history: History) -> None:
    one = history.attempts[4]
    one.settle_invoked, one.result = one.begun + MS, "error"


def lose_a_dead_letter(history: History) -> None:
    one = history.attempts[4]
    one.result, one.settlement = "error", "term"


def never_retry(history: History) -> None:
    one = history.attempts[4]
    one.result, one.settlement = "error", "nak"


def forget_to_settle(history: History) -> None:
    one = history.attempts[4]
    one.settlement = one.settle_invoked = one.settle_ok = one.settle_answer = None


def acknowledge_under_a_store_fault(history: History) -> None:
    without(history, 5)
    history.faults.append(FaultWindow(0, "refuse", 49 * MS, 52 * MS, "write-error", "storage:events"))


def begin_two_of_a_key_at_once(history: History) -> None:
    history.attempts[4].ended = 63 * MS


def deliver_twice(history: History) -> None:
    history.attempts.append(handled(5, begun_ms=120, attempt=2))


def deliver_twice_at_once(history: History) -> None:
    history.attempts.append(handled(5, begun_ms=56))
    history.attempts[4].ended = 57 * MS


def deliver_a_refused_publish(history: History) -> None:
    history.publishes[4].outcome, history.publishes[4].seq = "fail", None


def deliver_what_nobody_published(history: History) -> None:
    history.attempts.append(replace(handled(99, begun_ms=150), seq=None, key=None))


def deliver_before_it_is_published(history: History) -> None:
    history.attempts[4].begun = 49 * MS


def deliver_to_whom_it_does_not_match(history: History) -> None:
    history.publishes[4].topic = "stock.low"


def alter_the_payload(history: History) -> None:
    history.attempts[4].hash = 8


def give_one_seq_twice(history: History) -> None:
    history.publishes[5].seq = history.attempts[5].seq = 5


def acknowledge_with_another_seq(history: History) -> None:
    for op in history.publishes:
        op.seq = (op.seq or 0) + 100


def deliver_what_is_unknown_with_anothers_seq(history: History) -> None:
    history.publishes[4].outcome, history.publishes[4].seq = "info", None
    history.attempts[4].seq, history.attempts[4].key, history.publishes[4].key = 6, None, None


def deliver_as_another_type(history: History) -> None:
    history.told.append(Told(5, history.attempts[4].begun, topic="order.paid"))


def deliver_as_more_urgent(history: History) -> None:
    history.told.append(Told(5, history.attempts[4].begun, priority=0))


def deliver_under_another_key(history: History) -> None:
    history.told.append(Told(5, history.attempts[4].begun, key=2))


def batch(history: History, *outcomes: Outcome) -> None:
    """The first events were one batch, so answered."""
    for op, outcome in zip(history.publishes, outcomes, strict=False):
        op.batch, op.outcome, op.seq = 1, outcome, op.seq if outcome == "ok" else None


def acknowledge_half_a_batch(history: History) -> None:
    batch(history, "ok", "ok", "fail", "fail")
    without(without(history, 3), 4)


def store_half_a_batch(history: History) -> None:
    batch(history, "info", "info", "info", "info")
    without(without(history, 3), 4)


def refuse_a_batch_and_store_half(history: History) -> None:
    batch(history, "fail", "fail", "fail", "fail")
    without(without(history, 3), 4)


def give_a_lower_seq_later(history: History) -> None:
    history.publishes[8].seq, history.attempts[8].seq, history.attempts[8].key = 3, 3, 2
    history.publishes[8].key = 2
    history.publishes[2].seq, history.attempts[2].seq = 30, 30
    history.publishes[2].key = history.attempts[2].key = 2


def end_twice(history: History) -> None:
    history.terminals.append(Terminal(5, time=80 * MS))


def try_too_often(history: History) -> None:
    without(history, 10)
    history.attempts += [failed(10, begun_ms=102 + 10 * n, attempt=n + 1) for n in range(3)]
    history.attempts.append(handled(10, begun_ms=140, attempt=4))


def alter_the_payload_past_recognition(history: History) -> None:
    history.attempts[4].event = history.attempts[4].key = None


def deliver_another_under_its_number(history: History) -> None:
    history.attempts[4].event, history.attempts[4].hash = 6, 8


def deliver_to_who_has_left(history: History) -> None:
    history.intervals[0] = replace(DURABLE, to_seq=8, leave_invoked=81 * MS, leave_ok=82 * MS)


def deliver_what_was_before_it_joined(history: History) -> None:
    history.intervals[0] = replace(DURABLE, from_seq=6, join_invoked=56 * MS, join_ok=57 * MS)


def count_fewer_acks(history: History) -> None:
    history.counters.append(Counter(2001 * MS, "acked", 0, 7))


def count_what_is_not_there(history: History) -> None:
    history.counters.append(Counter(2001 * MS, "pending", 0, 3))


def lose_without_pending(history: History) -> None:
    without(history, 5)


def list_fewer_dead_letters_than_counted(history: History) -> None:
    history.counters.append(Counter(2000 * MS, "dead_lettered", 0, 2))


PLANTED = [
    (drop_an_acknowledged_event, "no_loss", "acknowledged but never delivered to billing"),
    (drop_it_for_one_of_two, "no_loss", "though audit got it"),
    (
        settle_before_the_handler_and_crash,
        "no_loss",
        "settled before the handler ran, then the handler crashed (fault crash",
    ),
    (settle_while_it_runs_and_raise, "no_loss", "settled while the handler still ran, then the handler failed"),
    (lose_a_dead_letter, "no_loss", "dead-lettered by the target, but missing from its dead letters"),
    (never_retry, "no_loss", "handler failed, and it was never delivered again"),
    (forget_to_settle, "no_loss", "handled by billing, but never settled"),
    (acknowledge_under_a_store_fault, "no_loss", "(acknowledged under fault refuse"),
    (swap_two_of_a_key, "order", "its seq 5 began at billing after seq 6 of the same key (event 6)"),
    (begin_two_of_a_key_at_once, "overlap", "while event 5 of key k-1 still ran"),
    (deliver_twice, "duplicates", "delivered to billing twice with nothing between to excuse it"),
    (deliver_twice_at_once, "duplicates", "again while it was still being handled"),
    (deliver_a_refused_publish, "no_ghost", "every publish of it was refused, yet it was delivered to billing"),
    (deliver_what_nobody_published, "no_phantom", "though nobody published it in this run"),
    (deliver_before_it_is_published, "no_phantom", "before it was published"),
    (
        deliver_to_whom_it_does_not_match,
        "no_stray",
        "stock.low was delivered to billing, whose pattern order.> does not match it",
    ),
    (alter_the_payload, "intact", "its payload at billing is not the published one"),
    (give_one_seq_twice, "unique_seq", "seq 5 was given to event 5 and to event 6"),
    (acknowledge_with_another_seq, "unique_seq", "acknowledged with one seq, delivered to billing with another"),
    (deliver_what_is_unknown_with_anothers_seq, "unique_seq", "seq 6 was given to event 5 and to event 6"),
    (deliver_as_another_type, "intact", "type order.paid at billing, published with order.created, and no fault"),
    (deliver_as_more_urgent, "intact", "priority CRITICAL at billing, published with NORMAL, and no fault"),
    (deliver_under_another_key, "intact", "key k-2 at billing, published with k-1, and no fault"),
    (acknowledge_half_a_batch, "atomic", "refused, though others of its batch were acknowledged: event 1 was"),
    (store_half_a_batch, "atomic", "of unknown outcome: others of it were delivered, though it never came to billing"),
    (refuse_a_batch_and_store_half, "atomic", "in a batch that was refused: others of it were delivered, though"),
    (give_a_lower_seq_later, "seq_order", "published after event 3 was acknowledged with seq 30, yet given seq 4"),
    (end_twice, "one_terminal", "ended more than once at billing: acked and dead-lettered"),
    (try_too_often, "max_attempts", "tried 4 times at billing, 3 of them failed for sure; billing allows 3 attempts"),
    (alter_the_payload_past_recognition, "intact", "with its seq is no event of this run: its payload is altered"),
    (alter_the_payload_past_recognition, "no_loss", "its payload was altered on the way; seq 5 came at 0.052 s"),
    (deliver_another_under_its_number, "intact", "what came to billing as event 6 bore seq 5, which is event 5's"),
    (deliver_to_who_has_left, "no_stray", "delivered to billing, though it had left at 0.082 s"),
    (deliver_what_was_before_it_joined, "no_stray", "joined only at 0.056 s and asked for new events"),
    (count_what_is_not_there, "conservation", "billing: the target counts 3 pending, at most 0 can be"),
    (lose_without_pending, "conservation", "billing: 1 event has no end, the target counts 0 pending"),
    (list_fewer_dead_letters_than_counted, "conservation", "the target counts 2 dead letters and lists 0"),
    (count_fewer_acks, "conservation", "billing: the target counts 7 acked, it confirmed 10"),
]


@pytest.mark.parametrize(("plant", "invariant", "cause"), PLANTED, ids=[plant.__name__ for plant, _, _ in PLANTED])
def test_a_planted_violation_is_found_and_its_cause_told(plant: Plant, invariant: str, cause: str) -> None:
    """The right invariant is broken, and one sentence names why."""
    history = clean()
    plant(history)
    verdict = verdict_of(history, NoLoss(), Duplicates())
    assert verdict.state == "invalid"
    assert verdict.exit_code == 1
    assert invariant in invalid(verdict), verdict
    sentences = [told.sentence for told in verdict.causes if told.invariant == invariant]
    assert any(cause in sentence for sentence in sentences), sentences


@pytest.mark.slow  # files
@pytest.mark.parametrize("plant", [lambda history: None, drop_it_for_one_of_two, try_too_often, store_half_a_batch])
def test_a_history_in_files_is_judged_as_one_in_memory(plant: Plant, tmp_path: Path) -> None:
    """The other tests here judge without files, which is quicker."""
    history = clean()
    plant(history)
    expected = (NoLoss(), Duplicates())
    assert check(write(history, tmp_path), CLAIMS, expected, FACTS) == verdict_of(history, *expected)


def test_a_clean_run_is_valid_and_says_how_sure_that_is() -> None:
    """No violation, no cause; with n trials and no loss the rate is below 3/n at 95 %."""
    verdict = verdict_of(clean(60), NoLoss(), Duplicates())
    assert (verdict.state, verdict.exit_code, verdict.causes) == ("valid", 0, ())
    loss = finding_of(verdict, "no_loss")
    assert loss.figures["owed"] == loss.figures["acked"] == 60
    assert loss.figures["loss_rate_below"] == pytest.approx(0.05)
    assert loss.summary == "60 owed · 60 acked · 0 dead-lettered"


def test_at_most_once_is_reported_and_condemned_only_where_no_loss_is_expected() -> None:
    """Settling first is what it promised; a scenario may still expect more, and is told what to change."""
    history = clean(10, replace(DURABLE, delivery="at-most-once"))
    settle_before_the_handler_and_crash(history)
    verdict = verdict_of(history)
    assert verdict.state == "valid"
    assert finding_of(verdict, "no_loss").figures["lost_at_most_once"] == 1
    verdict = verdict_of(history, NoLoss())
    assert invalid(verdict) == {"no_loss"}
    (cause,) = verdict.causes
    assert "Use delivery: at-least-once" in cause.advice
    assert verdict.headline == "1 of 10 acknowledged events was lost"


def test_unexplained_duplicates_are_fatal_only_at_most_once_unless_expected() -> None:
    """At least once they are counted."""
    history = clean()
    deliver_twice(history)
    verdict = verdict_of(history)
    assert "duplicates" not in invalid(verdict)
    assert finding_of(verdict, "duplicates").figures["unexplained"] == 1
    assert "duplicates" in invalid(verdict_of(history, claims=replace(CLAIMS, delivery="at-most-once")))
    assert "duplicates" in invalid(verdict_of(history, Duplicates(max_ratio=0.05)))
    assert "duplicates" not in invalid(verdict_of(history, Duplicates(max_ratio=0.1)))


def test_equal_causes_are_told_once_with_the_first_as_example() -> None:
    """Three losses of one kind are one paragraph; its path is that of the earliest."""
    history = clean(20)
    for event in (15, 5, 9):
        history.attempts[event - 1].result = "died"
        history.attempts[event - 1].settle_invoked = history.attempts[event - 1].begun
    verdict = verdict_of(history, NoLoss())
    (cause,) = [told for told in verdict.causes if told.invariant == "no_loss"]
    assert (cause.count, cause.first.event) == (3, 5)
    assert cause.steps[0].startswith("order.created 5  key k-1  published 0.050 s, acknowledged (seq 5) 0.051 s")
    assert "delivered to billing, attempt 1, 0.052 s" in cause.steps[1]
    assert verdict.headline == "3 of 20 acknowledged events were lost"


def test_losses_are_classed_by_where_they_lie() -> None:
    """Before anything was handled, in the midst, and after the last."""
    history = clean()
    for event in (1, 5, 10):
        without(history, event)
    violations = finding_of(verdict_of(history), "no_loss").violations
    assert {(v.event, v.loss) for v in violations} == {(1, "prefix"), (5, "middle"), (10, "postfix")}


def test_a_target_that_stands_still_after_the_heal_is_invalid_not_unknown() -> None:
    """Up, healed, pending, and nothing has moved for longer than anything legal."""
    history = clean()
    history.attempts = history.attempts[:5]
    history.counters = [Counter(2000 * MS, "pending", 0, 5)]
    verdict = verdict_of(history, facts=replace(FACTS, drained=False))
    assert invalid(verdict) == {"recovery"}
    assert finding_of(verdict, "no_loss").state == "unknown"
    (cause,) = verdict.causes
    assert "billing stood still" in cause.sentence
    assert cause.first.event == 6


def test_foreign_events_are_counted_only() -> None:
    """What another run left behind is not this run's phantom."""
    history = clean()
    history.attempts.append(Attempt(None, 150 * MS, 151 * MS, "ok", "ack"))
    verdict = verdict_of(history)
    assert verdict.state == "valid"
    assert finding_of(verdict, "no_phantom").figures["foreign"] == 1


def test_interval_of_another_pattern_owes_nothing_else() -> None:
    """What does not match is not owed."""
    history = clean(10, replace(DURABLE, pattern="stock.*"))
    history.attempts = []
    loss = finding_of(verdict_of(history), "no_loss")
    assert (loss.count, loss.figures["owed"]) == (0, 0)


def test_published_and_handled_helpers_describe_a_plausible_event() -> None:
    """What the other tests build on: published, acknowledged, begun, ended, settled, in this order."""
    op, one = published(3), handled(3)
    times = [op.invoked, op.ended or 0, one.begun, one.ended or 0, one.settle_ok or 0]
    assert times == sorted(times)
    assert Interval().durable
