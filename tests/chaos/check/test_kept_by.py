"""Events that a process forgot when it ended: what a claim of memory allows, what more is asked, and what is blamed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.chaos.check.model import Counter, FaultWindow, History, Process
from tests.chaos.check.runs import FACTS, MS, clean, finding_of, invalid, verdict_of, without

from squall.chaos.check.expectations import NoLoss
from squall.core.event import Durability
from squall.core.target import Claims

pytestmark = pytest.mark.slow  # each judges histories

GONE = 55 * MS
BACK = 75 * MS


def forgetful(*lost: int) -> History:
    """A Redis ends between the acknowledgements of events 5 and 6, is back before 8, and these were never delivered."""
    history = clean()
    history.processes += [
        Process(1, -30 * MS, GONE, "redis", pid=11, exit_code=-9),
        Process(2, BACK, None, "redis", pid=12),
    ]
    history.faults.append(FaultWindow(0, "killed", GONE - MS, BACK, "kill", "process:redis", hits=1))
    for event in lost:
        without(history, event)
    return history


def claims(durability: Durability = "memory", kept_by: str | None = "redis") -> Claims:
    return Claims(durability=durability, kept_by=kept_by)


def test_what_goes_with_the_process_is_told_and_not_condemned() -> None:
    """The claim was memory, and the process ended."""
    verdict = verdict_of(forgetful(4, 5), claims=claims())
    assert (verdict.state, invalid(verdict)) == ("valid", set())
    assert verdict.headline == "10 acknowledged events, 2 lost as a claim of memory allows"
    loss = finding_of(verdict, "no_loss")
    assert loss.figures["forgotten"] == 2
    assert "2 lost with redis, which claims no more" in loss.summary


def test_a_scenario_may_ask_for_more() -> None:
    """Then the cause says what the claim was, and what ended; the target's sums are not blamed for it."""
    facts = replace(FACTS, durability="memory", kept_by="redis")
    verdict = verdict_of(forgetful(4, 5), NoLoss(), claims=claims(), facts=facts)
    assert invalid(verdict) == {"no_loss"}
    assert verdict.headline == "2 of 10 acknowledged events were lost"
    (cause,) = verdict.causes
    assert cause.sentence.startswith("acknowledged with durability memory, then redis ended (fault killed, ")
    assert "do not expect no_loss" in cause.advice


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_who_claims_more_is_condemned_for_the_same(durability: Durability) -> None:
    """`process` survives kill -9, `disk` more than that."""
    facts = replace(FACTS, durability=durability, kept_by="redis")
    verdict = verdict_of(forgetful(5), claims=claims(durability), facts=facts)
    assert "no_loss" in invalid(verdict)
    cause = next(one for one in verdict.causes if one.invariant == "no_loss")
    assert f"acknowledged with durability {durability}, then redis ended" in cause.sentence
    assert cause.advice == f"Whoever says {durability} must keep what it acknowledged when the process ends."


@pytest.mark.parametrize("kept_by", [None, "neo4j"])
def test_the_end_of_a_process_that_keeps_no_events_excuses_nothing(kept_by: str | None) -> None:
    assert "no_loss" in invalid(verdict_of(forgetful(5), claims=claims(kept_by=kept_by)))


def test_what_was_acknowledged_by_the_next_process_is_not_excused() -> None:
    """It was there again when it acknowledged event 8."""
    verdict = verdict_of(forgetful(8), claims=claims())
    assert finding_of(verdict, "no_loss").figures["lost"] == 1


def test_what_was_settled_before_its_handler_ended_well_is_not_excused() -> None:
    """That was lost by the settlement, not by the process."""
    history = forgetful()
    history.attempts[3].result = "error"
    assert "no_loss" in invalid(verdict_of(history, claims=claims()))


def test_what_the_target_still_counts_is_not_forgotten() -> None:
    """It counts more than can be pending: that is wrong, whatever it claims."""
    history = forgetful(5)
    history.counters = [Counter(2000 * MS, "pending", 0, 3)]
    assert "conservation" in invalid(verdict_of(history, claims=claims()))


def test_what_might_have_been_forgotten_may_have_been_kept() -> None:
    """A claim of memory is the least: a server that writes its file each second has most of it, and counts it."""
    history = forgetful(4, 5)
    history.counters = [Counter(2000 * MS, "pending", 0, 2)]
    assert "conservation" not in invalid(verdict_of(history, claims=claims()))


def test_a_process_that_ended_and_came_back_is_noted() -> None:
    """With pid, how it ended, and how long it took until another one answered."""
    history = forgetful()
    history.processes[1].answered = 80 * MS
    (note,) = [one.text for one in verdict_of(history, claims=claims()).notes if one.code == "process_ended"]
    assert note == "redis (pid 11) ended by signal 9 at 0.055 s; pid 12 answered at 0.080 s, 0.025 s later"


def test_a_process_that_stood_still_is_noted() -> None:
    history = clean()
    history.processes.append(Process(1, -30 * MS, None, "redis", pid=11))
    history.faults.append(FaultWindow(0, "frozen", 40 * MS, 70 * MS, "stop", "process:redis", hits=1))
    (note,) = [one.text for one in verdict_of(history).notes if one.code == "process_stood"]
    assert note == "redis (pid 11) stood still from 0.040 s; it answered again at 0.070 s"
