"""Order: what counts as overtaken, and how often it is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.chaos.check.runs import (
    DURABLE,
    MS,
    clean,
    failed,
    finding_of,
    handled,
    invalid,
    swap_two_of_a_key,
    verdict_of,
)

from squall.core.target import Claims

pytestmark = pytest.mark.slow  # each judges histories


def test_one_wrong_seq_is_one_violation() -> None:
    """An event with a seq far too high does not make all that follow late."""
    history = clean(50)
    history.publishes[4].seq = history.attempts[4].seq = 10**12
    verdict = verdict_of(history)
    assert finding_of(verdict, "order").count == 1
    assert finding_of(verdict, "order").violations[0].witness == 5
    assert finding_of(verdict, "order").figures["late"] == 45


def test_without_seqs_order_is_judged_by_acknowledgement_before_publish() -> None:
    """A target that numbers nothing is held to what any observer could see."""
    history = clean()
    swap_two_of_a_key(history)
    for op in history.publishes:
        op.seq = None
    for one in history.attempts:
        one.seq = None
    history.intervals[0].from_seq = None
    verdict = verdict_of(history, claims=Claims(durability="disk", seq_scope=None))
    assert [(v.event, v.witness) for v in finding_of(verdict, "order").violations] == [(5, 6)]


def test_block_key_lets_nothing_pass_a_retry() -> None:
    """Held keys retry directly after their own event; a subscription that skips may pass."""
    for on_retry, expected in (("block_key", {"order"}), ("skip", set())):
        history = clean(10, replace(DURABLE, on_retry=on_retry))  # type: ignore[arg-type]
        history.attempts[4] = failed(5)
        history.attempts.append(handled(5, begun_ms=86, attempt=2))
        history.attempts[7].ended = 85 * MS
        assert invalid(verdict_of(history)) == expected
