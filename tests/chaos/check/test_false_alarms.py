"""What looks like a violation and is none: every trap known is a run that must stay valid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.chaos.check.model import (
    Attempt,
    Control,
    Counter,
    FaultHit,
    FaultWindow,
    History,
    Process,
    Terminal,
    Told,
)
from tests.chaos.check.runs import (
    DURABLE,
    FACTS,
    MS,
    clean,
    failed,
    finding_of,
    handled,
    invalid,
    published,
    verdict_of,
    without,
)
from tests.fast import first

from squall.chaos.check.expectations import Duplicates, NoLoss, Overlap
from squall.chaos.check.facts import Span

Trap = Callable[[History], None]


def retry_after_a_failure(history: History) -> None:
    history.attempts[4] = failed(5)
    history.attempts.append(handled(5, begun_ms=120, attempt=2))


def redeliver_after_an_unconfirmed_settlement(history: History) -> None:
    history.attempts[4].settle_ok = history.attempts[4].settle_answer = None
    history.attempts.append(handled(5, begun_ms=120, attempt=2))


def redeliver_after_a_refused_settlement(history: History) -> None:
    history.attempts[4].settle_answer = "refused"
    history.attempts.append(handled(5, begun_ms=120, attempt=2))


def redeliver_after_the_lease(history: History) -> None:
    history.intervals[0] = replace(DURABLE, lease=30 * MS)
    history.attempts[4].settle_answer = "refused"
    history.attempts.append(handled(5, begun_ms=120, attempt=2))


def redeliver_after_a_restart(history: History) -> None:
    history.processes += [Process(0, -30 * MS, 110 * MS), Process(1, 111 * MS)]
    history.attempts.append(handled(5, begun_ms=120, attempt=2))
    history.attempts[4].settle_answer = "refused"


def redrive_a_dead_letter(history: History) -> None:
    history.attempts[4].result, history.attempts[4].settlement = "error", "term"
    history.terminals.append(Terminal(5, time=60 * MS))
    history.controls.append(Control("redrive", 110 * MS, event=5))
    history.attempts.append(handled(5, begun_ms=120))


def store_two_copies(history: History) -> None:
    again = replace(published(5), invoked=54 * MS, ended=55 * MS)
    history.publishes[4].outcome, history.publishes[4].ended, history.publishes[4].seq = "info", None, None
    history.publishes.append(again)
    history.attempts.append(handled(5, begun_ms=120))


def acknowledge_a_retried_publish_as_duplicate(history: History) -> None:
    history.publishes.append(replace(published(5), invoked=80 * MS, ended=81 * MS, duplicate=True))


def fail_then_succeed_to_publish(history: History) -> None:
    history.publishes[4].invoked += 1
    history.publishes.append(replace(published(5), ended=50 * MS + 1, outcome="fail", seq=None))


def recover_an_unknown_publish(history: History) -> None:
    history.publishes[4].outcome, history.publishes[4].seq = "info", None


def never_see_an_unknown_publish(history: History) -> None:
    history.publishes[4].outcome, history.publishes[4].ended, history.publishes[4].seq = "info", None, None
    without(history, 5)


def end_as_a_dead_letter(history: History) -> None:
    history.attempts[4].result, history.attempts[4].settlement = "error", "term"
    history.terminals.append(Terminal(5, time=60 * MS))


def settle_by_hand_before_the_end(history: History) -> None:
    one = history.attempts[4]
    one.settle_invoked, one.by_handler, one.result = one.begun + MS, True, "error"


def settle_first_and_handle_well(history: History) -> None:
    one = history.attempts[4]
    one.settle_invoked, one.settle_ok = one.begun - MS, one.begun


def join_late(history: History) -> None:
    history.intervals[0] = replace(DURABLE, from_seq=None, join_invoked=49 * MS, join_ok=52 * MS)
    history.attempts = history.attempts[4:]


def leave_early(history: History) -> None:
    history.intervals[0] = replace(DURABLE, to_seq=5, leave_invoked=49 * MS, leave_ok=52 * MS)
    history.attempts = history.attempts[:5]


def leave_at_the_end_of_the_run(history: History) -> None:
    history.intervals[0] = replace(DURABLE, durable=False, leave_invoked=2001 * MS, leave_ok=2002 * MS)


def leave_and_never_be_told(history: History) -> None:
    """The store refused until the run was over: whether the subscription is there still, nobody knows."""
    history.intervals[0] = replace(DURABLE, leave_invoked=49 * MS)
    history.attempts = history.attempts[:3]
    history.counters = []


def leave_with_work_undone(history: History) -> None:
    history.intervals[0] = replace(DURABLE, durable=False, from_seq=None, leave_invoked=88 * MS, leave_ok=90 * MS)
    history.attempts = history.attempts[:7]
    history.counters = []


def leave_while_a_retry_waits(history: History) -> None:
    history.intervals[0] = replace(DURABLE, durable=False, from_seq=None, leave_invoked=88 * MS, leave_ok=90 * MS)
    history.attempts = [*history.attempts[:4], failed(5), *history.attempts[5:8]]
    history.counters = []


def let_a_retry_be_passed(history: History) -> None:
    history.attempts[4] = failed(5)
    history.attempts.append(handled(5, begun_ms=86, attempt=2))


def reorder_across_priorities(history: History) -> None:
    history.publishes[5].priority = history.attempts[5].priority = 1
    history.attempts[5].begun, history.attempts[5].ended = 60 * MS + 1, 60 * MS + 2
    history.attempts[4].begun, history.attempts[4].ended = 61 * MS, 62 * MS


def reorder_keyless_events_of_many_workers(history: History) -> None:
    history.intervals[0] = replace(DURABLE, concurrency=8)
    for op, one in zip(history.publishes, history.attempts, strict=True):
        op.key = one.key = None
    history.attempts[4].begun, history.attempts[4].ended = 63 * MS, 64 * MS


def abandon_a_handler_past_its_timeout(history: History) -> None:
    one = history.attempts[4]
    one.result, one.settlement, one.ended = "timeout", "nak", 500 * MS
    one.settle_invoked = one.settle_ok = one.begun + 50 * MS
    for other in history.attempts[5:]:
        other.begun += 60 * MS
        other.ended, other.settle_invoked, other.settle_ok = other.begun + MS, other.begun + MS, other.begun + 2 * MS
    history.attempts.append(handled(5, begun_ms=200, attempt=2))


def lose_a_worker_without_an_end(history: History) -> None:
    history.attempts[4] = Attempt(5, 52 * MS, None, "died", key=1, seq=5, settlement=None)
    history.attempts.append(handled(5, begun_ms=120, attempt=2))


def begin_at_the_same_instant(history: History) -> None:
    for one in history.attempts[3:6]:
        one.begun = one.ended = 65 * MS
        one.settle_invoked = one.settle_ok = 65 * MS


def alter_a_payload_by_a_fault(history: History) -> None:
    history.attempts[4].hash = 8
    history.faults.append(FaultWindow(0, "corrupt", 40 * MS, 70 * MS, kind="corrupt"))
    history.hits.append(FaultHit(0, 51 * MS, 5))


def retry_more_often_than_failures_are_sure(history: History) -> None:
    without(history, 10)
    tries = [failed(10, begun_ms=102 + 10 * n, attempt=n + 1) for n in range(3)]
    tries[1].settle_ok = tries[1].settle_answer = None
    history.attempts += [*tries, handled(10, begun_ms=140, attempt=4)]


def list_a_dead_letter_that_was_given_up(history: History) -> None:
    end_as_a_dead_letter(history)
    history.counters.append(Counter(2000 * MS, "dead_lettered", 0, 1))


def see_an_acked_event_listed_as_acked(history: History) -> None:
    history.terminals.append(Terminal(5, state="acked", time=60 * MS))


def retry_in_place_under_one_settlement(history: History) -> None:
    first = history.attempts[4]
    first.result = "error"
    again = handled(5, begun_ms=56, attempt=2)
    first.settle_invoked, first.settle_ok = again.settle_invoked, again.settle_ok
    history.attempts.append(again)


def end_a_durable_subscription_with_work_undone(history: History) -> None:
    history.intervals[0] = replace(DURABLE, to_seq=9, leave_invoked=88 * MS, leave_ok=90 * MS)
    history.attempts = history.attempts[:7]
    history.counters = []


def ask_for_a_seq_to_come(history: History) -> None:
    history.intervals[0] = replace(DURABLE, durable=False, start="8", from_seq=8)
    history.attempts = history.attempts[7:]


def be_stored_twice_and_come_with_either_seq(history: History) -> None:
    history.publishes.append(replace(history.publishes[4], invoked=150 * MS, ended=151 * MS, seq=50))
    history.attempts[4] = replace(handled(5, begun_ms=152), seq=50)


def be_unknown_and_come_with_a_seq_that_nobody_said(history: History) -> None:
    history.publishes[4].outcome, history.publishes[4].seq = "info", None


def come_as_another_type_under_a_fault(history: History) -> None:
    history.told.append(Told(5, history.attempts[4].begun, topic="order.paid"))
    history.faults.append(FaultWindow(0, "corrupt", 49 * MS, 60 * MS, "corrupt"))
    history.hits.append(FaultHit(0, 52 * MS, 5, 0))


def be_a_batch_of_unknown_outcome(history: History) -> None:
    for op in history.publishes[:4]:
        op.batch, op.outcome, op.seq = 1, "info", None


def be_a_batch_that_was_not_stored(history: History) -> None:
    be_a_batch_of_unknown_outcome(history)
    history.attempts = history.attempts[4:]


def be_a_batch_of_which_one_was_published_before(history: History) -> None:
    history.publishes.append(replace(history.publishes[0], invoked=1, ended=2))
    be_a_batch_that_was_not_stored(history)
    history.attempts.insert(0, handled(1))


def be_a_batch_of_which_one_is_wanted_by_nobody(history: History) -> None:
    be_a_batch_of_unknown_outcome(history)
    history.publishes[3].topic = "stock.low"
    without(history, 4)


def get_older_events_on_purpose(history: History) -> None:
    history.intervals[0] = replace(DURABLE, from_seq=6, join_invoked=56 * MS, join_ok=57 * MS)
    history.attempts = [*history.attempts[5:], replace(handled(3, begun_ms=150), key=None)]
    history.controls.append(Control("replay", 140 * MS))


def get_what_was_stored_late(history: History) -> None:
    history.publishes[4].outcome, history.publishes[4].seq = "info", None
    history.intervals[0] = replace(DURABLE, durable=False, from_seq=None, join_invoked=55 * MS, join_ok=56 * MS)
    history.attempts = [*history.attempts[5:], handled(5, begun_ms=57)]


TRAPS = [
    be_a_batch_of_unknown_outcome,
    be_a_batch_that_was_not_stored,
    be_a_batch_of_which_one_was_published_before,
    be_a_batch_of_which_one_is_wanted_by_nobody,
    be_stored_twice_and_come_with_either_seq,
    be_unknown_and_come_with_a_seq_that_nobody_said,
    come_as_another_type_under_a_fault,
    retry_after_a_failure,
    redeliver_after_an_unconfirmed_settlement,
    redeliver_after_a_refused_settlement,
    redeliver_after_the_lease,
    redeliver_after_a_restart,
    redrive_a_dead_letter,
    store_two_copies,
    acknowledge_a_retried_publish_as_duplicate,
    fail_then_succeed_to_publish,
    recover_an_unknown_publish,
    never_see_an_unknown_publish,
    end_as_a_dead_letter,
    settle_by_hand_before_the_end,
    settle_first_and_handle_well,
    join_late,
    leave_early,
    leave_at_the_end_of_the_run,
    leave_and_never_be_told,
    leave_with_work_undone,
    leave_while_a_retry_waits,
    let_a_retry_be_passed,
    reorder_across_priorities,
    reorder_keyless_events_of_many_workers,
    abandon_a_handler_past_its_timeout,
    lose_a_worker_without_an_end,
    begin_at_the_same_instant,
    alter_a_payload_by_a_fault,
    retry_more_often_than_failures_are_sure,
    list_a_dead_letter_that_was_given_up,
    see_an_acked_event_listed_as_acked,
    retry_in_place_under_one_settlement,
    end_a_durable_subscription_with_work_undone,
    ask_for_a_seq_to_come,
    get_older_events_on_purpose,
    get_what_was_stored_late,
]


@pytest.mark.parametrize("trap", first(8, TRAPS), ids=[trap.__name__ for trap in TRAPS])
def test_a_legal_run_is_not_blamed(trap: Trap) -> None:
    """Nothing is broken, whatever it looks like."""
    history = clean()
    trap(history)
    verdict = verdict_of(history, NoLoss(), Duplicates(), Overlap())
    assert invalid(verdict) == set(), verdict.causes


def test_an_undelivered_event_is_not_cancelled_when_a_later_one_of_its_key_had_begun() -> None:
    """Leaving excuses what waits in line, not what was skipped."""
    history = clean()
    leave_with_work_undone(history)
    without(history, 5)
    assert [v.event for v in finding_of(verdict_of(history), "no_loss").violations] == [5]


def test_an_unknown_publish_may_be_counted_as_pending() -> None:
    """Stored or not: the target's sum adds up either way."""
    history = clean()
    never_see_an_unknown_publish(history)
    history.counters.append(Counter(2001 * MS, "pending", 0, 1))
    assert finding_of(verdict_of(history), "conservation").state == "valid"


def test_what_was_settled_after_the_target_had_counted_was_pending_then() -> None:
    """A run that ends at its drain limit goes on working until it has stopped; what it had settled before counts."""
    history = clean()
    history.counters = [Counter(80 * MS, "pending", 0, 3)]
    facts = replace(FACTS, drained=False, drain=Span(1 * MS, 80 * MS))
    verdict = verdict_of(history, facts=facts)
    assert finding_of(verdict, "conservation").state == "valid"
    history.counters = [Counter(80 * MS, "pending", 0, 4)]
    assert "conservation" in invalid(verdict_of(history, facts=facts))


def test_a_count_of_pending_that_nothing_supports_is_no_stall() -> None:
    """The target's sum is wrong; nothing stands still."""
    history = clean()
    history.counters.append(Counter(2001 * MS, "pending", 0, 3))
    assert invalid(verdict_of(history, facts=replace(FACTS, drained=False))) == {"conservation"}
