"""Starvation: how often a priority that waits may be passed over, and what holds it that is no dispatcher."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.chaos.check.model import Control, Counter, History
from tests.chaos.check.runs import CLAIMS, DURABLE, MS, finding_of, handled, published, verdict_of

from squall.chaos.check.expectations import Starvation
from squall.core.target import Claims

pytestmark = pytest.mark.slow  # each judges histories


def backlog(low: int, high: int, low_begins_after: int) -> History:
    """Low and high events, all published at once; the low one begins after so many of the high ones."""
    history = History(intervals=[replace(DURABLE, from_seq=None, join_invoked=-2, join_ok=-1)])
    events = [(number, 1) for number in range(high)] + [(high + number, 3) for number in range(low)]
    history.publishes = [
        replace(published(event, None, level), invoked=event, ended=event + 1, seq=event) for event, level in events
    ]
    order = [event for event, level in events if level == 1]
    order[low_begins_after:low_begins_after] = [event for event, level in events if level == 3]
    for place, event in enumerate(order):
        one = replace(handled(event, begun_ms=500 + 10 * place), key=None, seq=event, priority=dict(events)[event])
        history.attempts.append(one)
    history.counters = [Counter(2000 * MS, "pending", 0, 0)]
    return history


@pytest.mark.parametrize(("after", "starved"), [(18, False), (19, True)])
def test_a_waiting_level_is_passed_over_at_most_its_bound(after: int, starved: bool) -> None:
    """LOW may see 18 others begin while it waits, and no more."""
    verdict = verdict_of(backlog(1, 40, after), Starvation(), claims=replace(CLAIMS, order="none"))
    assert (finding_of(verdict, "starvation").state == "invalid") is starved


@pytest.mark.parametrize("excuse", ["pause", "late publish", "late join", "key", "concurrency"])
def test_a_level_that_could_not_run_is_not_starved(excuse: str) -> None:
    """A pause holds, an event that was not there yet did not wait, and every slot may be taken once more."""
    history = backlog(1, 40, 22)
    if excuse == "pause":
        history.controls.append(Control("pause", 400 * MS, 690 * MS))
    elif excuse == "late publish":
        history.publishes[-1].ended = 690 * MS
    elif excuse == "late join":
        history.intervals[0].join_ok = 690 * MS
    elif excuse == "key":
        (low,) = [one for one in history.attempts if one.priority == 3]
        low.key = history.attempts[0].key = 1
        history.attempts[0].ended = 690 * MS
    else:
        history.intervals[0].concurrency = 5
    verdict = verdict_of(history, Starvation(), claims=replace(CLAIMS, order="none"))
    assert finding_of(verdict, "starvation").state == "valid"


def test_starvation_cannot_be_decided_over_several_processes() -> None:
    """Their common order is not in the history."""
    history = backlog(1, 40, 30)
    history.attempts[0].process = 1
    verdict = verdict_of(history, Starvation(), claims=Claims(order="none"))
    assert finding_of(verdict, "starvation").state == "unknown"
