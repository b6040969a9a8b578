"""Faults planted in the system under test: each is found under the invariant that it breaks, and told by its cause."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.chaos import planted, planted_handling, planted_store
from tests.chaos.short_run import AUDIT, BILLING, ERRORS, REFUSE, SLOW_STORE, Section, retry, run, scenario

from squall import Plugin
from squall.chaos.check.verdict import Verdict
from squall.chaos.targets.in_process import InProcessTarget

pytestmark = pytest.mark.slow  # whole runs

BATCHES: Section = {
    "load": {
        "stages": [{"for": "400ms", "rate": 1000, "batch": 10}],
        "events": [{"type": "order.created", "weight": 3, "key": {"count": 5}}, {"type": "order.paid"}],
    }
}
LOW: Section = {
    "stages": [{"for": "400ms", "rate": 1000}],
    "events": [{"type": "order.created", "weight": 5}, {"type": "order.paid", "priority": "LOW"}],
}


@dataclass(frozen=True)
class Case:
    """`broken`: every invariant that may be found broken, the first of them surely, with a cause that says `cause`."""

    kind: type[Plugin] | type[InProcessTarget]
    broken: tuple[str, ...]
    cause: str
    others: Section = field(default_factory=dict)


def subscribers(billing: Section | None = None, audit: Section | None = None) -> Section:
    return {"subscribers": {"billing": {**BILLING, **(billing or {})}, "audit": {**AUDIT, **(audit or {})}}}


LOST = ("no_loss", "conservation")
STRAY = ("no_stray", "order")
CASES = [
    # The eight that everybody thinks of first.
    Case(planted.DropsAcknowledged, LOST, "acknowledged but never delivered to billing, while events before and after"),
    Case(
        planted.DeliversTwice,
        ("duplicates",),
        "delivered to billing again while its settlement was under way, with nothing to excuse it",
    ),
    Case(
        planted.SwapsWithinKey,
        ("order",),
        "began at billing after a later event of its key",
        subscribers(billing={"concurrency": 1}),
    ),
    Case(planted.SkipsSubscription, LOST, "acknowledged but never delivered to billing"),
    Case(planted.DeliversRefused, ("no_ghost",), "every publish of it was refused, yet it was delivered to billing"),
    Case(planted.SettlesWhateverHappens, ("no_loss",), "settled although billing's handler failed (fault errors"),
    Case(
        planted.LosesDeadLetters,
        LOST,
        "dead-lettered by the target, but missing from its dead letters",
        {"plugins": retry(1)},
    ),
    Case(planted.NeverProgresses, ("recovery",), "stood still, though everything was healed and the target was up"),
    # Losses.
    Case(planted_store.LosesTheFirst, LOST, "never delivered to billing, before anything was delivered there"),
    Case(planted_store.LosesTheLast, LOST, "never delivered to billing, and nothing published after it was"),
    Case(
        planted_store.LosesOneKey,
        LOST,
        "never delivered to billing, while events before and after it were; all of key k-3",
    ),
    Case(
        planted_store.LosesBacklog,
        LOST,
        "never delivered to audit, while events before and after it were, though billing got it",
        subscribers(audit={"durable": True, "start": "earliest", "join": "250ms"}),
    ),
    Case(
        planted_store.AcksWhatIsRefused,
        (*LOST, "unique_seq", "seq_order"),
        "never delivered to billing (acknowledged under fault refuse",
        {"faults": [REFUSE]},
    ),
    Case(
        planted_handling.SettlesFirst,
        ("no_loss",),
        "settled before the handler ran, then the handler crashed (fault errors",
        {"faults": [{**ERRORS, "do": "crash", "probability": 0.2}]},
    ),
    Case(
        planted_handling.HandlesInBackground,
        ("no_loss",),
        "settled before the handler ran, then the handler failed (fault errors",
        {**subscribers(audit={"concurrency": 4}), "expect": ["no_loss"]},
    ),
    Case(planted_handling.TargetThatAcksErrors, ("no_loss",), "settled although billing's handler failed"),
    Case(
        planted_handling.TargetThatHidesWhatIsPending,
        LOST,
        "billing's handler failed (fault errors",
    ),
    # Deliveries of what should not be; on a busy machine, what is not asked for comes in no order either.
    Case(
        planted_handling.CallsOthersToo,
        STRAY,
        "order.paid was delivered to audit, whose pattern *.created",
    ),
    Case(
        planted_handling.CallsOthersToo,
        STRAY,
        "priority HIGH was delivered to audit, whose priority_min is CRITICAL",
        subscribers(audit={"pattern": "order.>", "priority_min": "CRITICAL"}),
    ),
    Case(
        planted_handling.CallsOthersToo,
        STRAY,
        "order.paid of priority HIGH was delivered to audit, whose filters refuse it",
        subscribers(audit={"pattern": "order.>", "filters": [{"not": {"type": "order.paid"}}]}),
    ),
    Case(
        planted_handling.CallsWhoHasLeft,
        STRAY,
        "delivered to audit, though it had left at ",
        subscribers(audit={"leave": "200ms"}),
    ),
    Case(
        planted_handling.GivesOldEvents,
        STRAY,
        "delivered to audit, which joined only at ",
        subscribers(audit={"join": "200ms"}),
    ),
    # Payloads and identities.
    Case(
        planted_store.AltersOneByte,
        ("intact",),
        "its payload at billing is not the published one, and no fault touched",
    ),
    Case(
        planted_store.LosesPayloads,
        ("intact", *LOST),
        "what came to billing with its seq is no event of this run: its payload is altered past recognition",
    ),
    Case(
        planted_store.DeliversUnderAnothersNumber,
        ("intact", *LOST, "no_phantom", "no_stray", "duplicates", "one_terminal", "order"),
        "what came to billing under its number was another event: it bore that one's seq",
    ),
    Case(
        planted_store.DeliversAsAnotherType,
        ("intact",),
        "its type at billing is not the published one, and no fault touched it: order.cancelled instead of order.",
    ),
    Case(planted_store.DeliversAsMoreUrgent, ("intact",), "its priority at billing is not the published one"),
    Case(planted_store.DeliversUnderAnotherKey, ("intact",), "its key at billing is not the published one"),
    # Batches.
    Case(
        planted_store.StoresHalfABatch,
        ("atomic",),
        "published in a batch that was of unknown outcome: others of it were delivered, though it never came to ",
        BATCHES,
    ),
    Case(planted_store.AcksHalfABatch, LOST, "acknowledged but never delivered to billing", BATCHES),
    Case(
        planted_handling.TargetThatRefusesHalfABatch,
        ("atomic",),
        "refused, though others of its batch were acknowledged",
        BATCHES,
    ),
    # Numbers, keys and turns.
    Case(
        planted_handling.TargetThatAcksWithAnotherSeq,
        ("unique_seq",),
        "acknowledged with one seq, delivered to billing with another",
    ),
    Case(
        planted_store.DeliversWithAnotherSeq,
        ("unique_seq", "order"),
        "acknowledged with one seq, delivered to billing with another",
    ),
    Case(planted_store.GivesOneSeqTwice, ("unique_seq",), "two events were acknowledged with one seq"),
    Case(planted_store.SwapsSeqs, ("seq_order",), "published after another event was acknowledged, yet given a lower"),
    Case(
        planted_store.ForgetsKeys,
        ("overlap",),
        "billing handled two events of a key at once",
        subscribers(billing={"handler": {"latency": "5ms"}}),
    ),
    Case(
        planted_handling.IgnoresBlockKey,
        ("order",),
        "another event of its key began at billing while it was being retried",
        subscribers(billing={"on_retry": "block_key"}),
    ),
    Case(
        planted_store.HoldsLow,
        ("starvation",),
        "events of priority LOW waited at billing while more of others began than allowed",
        {"load": LOW, "faults": [], "expect": [{"starvation": {"pipeline": "5ms"}}]},
    ),
    # Ends, and how often.
    Case(
        planted_store.StoresDeadTwice,
        ("one_terminal", "conservation"),
        "ended more than once at billing: dead-lettered twice",
        {"plugins": retry(1)},
    ),
    Case(
        planted_store.BuriesTheLiving,
        ("one_terminal", "conservation"),
        "ended more than once at billing: acked and dead-lettered",
        {"plugins": retry(1)},
    ),
    Case(
        planted_handling.TriesPastTheLimit,
        ("max_attempts",),
        "tried again at billing after as many failures as it allows attempts",
        {"plugins": retry(2), "faults": [{**ERRORS, "probability": 0.7}]},
    ),
    Case(planted_handling.TargetThatCountsTooFew, ("conservation",), "acked, it confirmed"),
    Case(planted_handling.TargetThatCountsTooMany, ("conservation",), "the target counts 3 pending, at most 0 can be"),
    # Liveness.
    Case(planted_handling.TargetThatForgetsRetries, ("recovery",), "one whose handler failed, never delivered again"),
    Case(
        planted_handling.RecoversSlowly,
        ("recovery",),
        "was the last to recover: its oldest event was still unfinished at ",
        {"expect": [{"recovery": {"of": "errors", "within": "300ms", "age": "100ms"}}]},
    ),
]


async def verdict_of(folder: Path, case: Case) -> Verdict:
    """What is said of a run in which the case's fault is planted."""
    if issubclass(case.kind, Plugin):
        result = await run(folder, scenario(**case.others), [case.kind])
    else:
        result = await run(folder, scenario(**case.others), target=case.kind)
    return result.verdict


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.__name__)
async def test_a_planted_fault_is_found_for_what_it_is(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Invalid under the invariant that the fault breaks, and no other; and the cause is told."""
    caplog.set_level(logging.CRITICAL)
    verdict = await verdict_of(tmp_path, case)
    causes = [f"{cause.invariant}: {cause.sentence}" for cause in verdict.causes]
    broken = {finding.name for finding in verdict.findings if finding.state == "invalid"}
    assert verdict.state == "invalid"
    assert case.broken[0] in broken <= set(case.broken), causes
    assert any(told.startswith(case.broken[0]) and case.cause in told for told in causes), causes


async def test_a_fault_that_only_happened_to_stand_is_not_blamed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is lost all along is lost during a fault too: that is no cause."""
    caplog.set_level(logging.CRITICAL)
    verdict = await verdict_of(tmp_path, Case(planted_store.LosesWhatever, LOST, "", {"faults": [SLOW_STORE]}))
    (cause,) = [one for one in verdict.causes if one.invariant == "no_loss" and one.first.subscription == "billing"]
    assert "fault slow" not in cause.sentence
    assert cause.sentence.startswith(
        "acknowledged but never delivered to billing, while events before and after it were"
    )
