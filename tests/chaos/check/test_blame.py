"""What is said of violations: one sentence a cause, true whatever else stood by, and the events that belong to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.chaos.check.model import FaultHit, FaultWindow, write
from tests.chaos.check.runs import (
    DURABLE,
    FACTS,
    MS,
    abandoned,
    clean,
    failed,
    finding_of,
    handled,
    published,
    swap_two_of_a_key,
    verdict_of,
    without,
)

from squall.chaos.check.blame import why
from squall.chaos.check.expectations import Latency, Recovery
from squall.chaos.check.facts import Span

pytestmark = pytest.mark.slow  # each judges histories


def test_one_cause_is_told_once_wherever_its_events_lie() -> None:
    """First, last or in the midst: that is no other cause. What all of them share is told, if chance does not explain
    it."""
    history = clean(40)
    for place, (op, one) in enumerate(zip(history.publishes, history.attempts, strict=True)):
        op.key = one.key = place % 4
    for event in (1, 5, 9, 13, 17, 37):
        without(history, event)
    (cause,) = [told for told in verdict_of(history).causes if told.invariant == "no_loss"]
    assert cause.sentence == "acknowledged but never delivered to billing; all of key k-0"
    without(history, 2)
    (cause,) = [told for told in verdict_of(history).causes if told.invariant == "no_loss"]
    assert cause.sentence == "acknowledged but never delivered to billing"


def test_a_fault_is_named_only_where_more_is_lost_under_it() -> None:
    """It stood for half of the load, and half of the losses fell into that half: it is not to blame."""
    for lost, named in (((3, 12), False), ((11, 12, 13), True)):
        history = clean(20)
        for event in lost:
            without(history, event)
        history.faults.append(FaultWindow(0, "slow", 105 * MS, 202 * MS, "slow", "storage:events"))
        (cause,) = [told for told in verdict_of(history).causes if told.invariant == "no_loss"]
        assert ("(acknowledged under fault slow" in cause.sentence) is named


@pytest.mark.parametrize(
    ("seam", "path", "named"),
    [
        ("net:redis", ("storage:events", "net:redis"), True),
        ("net:neo4j", ("storage:events", "net:redis"), False),
        ("net:theirs", None, True),
        ("handler:billing", None, False),
    ],
)
def test_a_fault_that_publishes_do_not_pass_is_not_named(seam: str, path: tuple[str, ...] | None, named: bool) -> None:
    """All that was lost, or refused and yet delivered, was published while a fault was at a graph, and it is none of
    its doing. Of a target that does not tell its way any may be, but for those in handlers."""
    history = clean(20)
    for event in (11, 12, 13):
        without(history, event)
    history.publishes[14].outcome = "fail"
    history.faults.append(FaultWindow(0, "cut", 105 * MS, 202 * MS, "down", seam))
    told = {one.invariant: one for one in verdict_of(history, facts=replace(FACTS, publish_path=path)).causes}
    assert ("(acknowledged under fault cut" in told["no_loss"].sentence) is named
    assert ("(refused under fault cut" in told["no_ghost"].sentence) is named


def test_more_violations_than_are_kept_are_told_of_the_first() -> None:
    """A cause does not pretend to have looked at all; and what it has looked at, it has the evidence of."""
    history = clean(1200)
    history.intervals[0] = replace(DURABLE, join_ok=-10)
    for one in history.attempts:
        one.result = "error"
    verdict = verdict_of(history, facts=replace(FACTS, drain=Span(13_000 * MS, 14_000 * MS)))
    (cause,) = [told for told in verdict.causes if told.invariant == "no_loss"]
    assert cause.sentence == "settled although billing's handler failed (of the first 1,000 of 1,200)"
    assert verdict.headline == "1,200 of 1,200 acknowledged events were lost"


def test_who_was_the_last_to_recover_is_told() -> None:
    """Which subscriber, which event, since when, and what it waited for."""
    history = clean()
    history.faults.append(FaultWindow(0, "errors", 40 * MS, 60 * MS))
    history.hits.append(FaultHit(0, 53 * MS, 5, 0))
    history.attempts[4] = failed(5)
    history.attempts.append(handled(5, begun_ms=900, attempt=2))
    verdict = verdict_of(history, Recovery(of="errors", within=0.5, age=0.1))
    (cause,) = verdict.causes
    assert cause.sentence == (
        "billing was the last to recover: its oldest event was still unfinished at 0.904 s, 0.9 s after it was "
        "acknowledged; its handler had failed 1 time (fault errors, 0.040 s)"
    )
    assert cause.first.event == 5


@pytest.mark.parametrize("ended_ms", [None, 500])
def test_an_abandoned_handler_is_told_of_when_it_was_given_back(ended_ms: float | None, tmp_path: Path) -> None:
    """Not when it began, nor when it ended after all: the next attempt is already over by then."""
    history = clean()
    history.attempts[4] = abandoned(5, ended_ms)
    history.attempts.append(handled(5, begun_ms=200, attempt=2))
    story = why(write(history, tmp_path / "history"), FACTS, 5)
    assert story is not None
    assert [(step.time_ns // MS, step.text) for step in story.steps[2:]] == [
        (52, "delivered to billing, attempt 1"),
        (112, "handler ignored its cancellation"),
        (112, "given back"),
        (200, "delivered again to billing, attempt 2"),
        (203, "handler ended well"),
        (203, "settled"),
    ]
    (cause,) = [told for told in verdict_of(history, Latency(max=0.1)).causes if told.invariant == "latency"]
    assert cause.steps[1:] == (
        "delivered to billing, attempt 1, 0.052 s · handler ignored its cancellation 0.112 s · given back 0.112 s",
        "delivered to billing, attempt 2, 0.200 s · handler ended well 0.203 s · settled 0.203 s",
    )


def test_of_a_pair_both_paths_are_told() -> None:
    """Who overtook is half of the story."""
    history = clean()
    swap_two_of_a_key(history)
    (cause,) = verdict_of(history).causes
    assert [step.split("  ")[0] for step in cause.steps if "published" in step] == [
        "order.created 5",
        "order.created 6",
    ]


def test_an_event_that_is_only_the_other_one_of_a_pair_is_told_so(tmp_path: Path) -> None:
    """Asked for event 6, the sentence about event 5 says that it is."""
    history = clean()
    swap_two_of_a_key(history)
    violations = finding_of(verdict_of(history), "order").violations
    folder = write(history, tmp_path / "history")
    told, of_the_other = (why(folder, FACTS, event, violations) for event in (5, 6))
    assert told is not None
    assert told.sentences[0].startswith("its seq 5 began at billing after seq 6")
    assert of_the_other is not None
    assert of_the_other.sentences[0].startswith("event 5: its seq 5 began at billing after seq 6")


def test_what_became_of_a_sound_event_is_told(tmp_path: Path) -> None:
    """Where it was handled, after what; or that nobody wanted it."""
    history = clean()
    history.attempts[4] = failed(5)
    history.attempts.append(handled(5, begun_ms=120, attempt=2))
    history.publishes.append(published(11, topic="stock.low"))
    folder = write(history, tmp_path / "history")
    sentences = [story.sentences for event in (4, 5, 11) if (story := why(folder, FACTS, event)) is not None]
    assert sentences == [
        ("handled by billing",),
        ("handled by billing after 1 failed attempt",),
        ("its publish was acknowledged; it was delivered to nobody: no subscriber's pattern and filters match it",),
    ]
