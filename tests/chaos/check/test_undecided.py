"""What the history does not show is unknown: neither blamed nor taken for well."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.chaos.check.model import Counter, FaultWindow, Gap
from tests.chaos.check.runs import FACTS, MS, clean, handled, invalid, verdict_of, without

from squall.chaos.check.expectations import Duplicates, Latency, NoLoss, Recovery, Throughput
from squall.chaos.check.facts import Span

pytestmark = pytest.mark.slow  # each judges histories


@pytest.mark.parametrize("missing", ["a gap", "a failure of the recorder"])
def test_where_records_may_be_missing_absence_proves_nothing(missing: str) -> None:
    """What seems lost, uncounted or never handled is unknown then; what was delivered twice stays found."""
    history = clean()
    without(history, 5)
    history.attempts.append(handled(7, begun_ms=150, attempt=2))
    facts = FACTS
    if missing == "a gap":
        history.gaps.append(Gap("attempt", 50 * MS, 60 * MS))
    else:
        facts = replace(FACTS, recorder_failures=("disk full",))
    verdict = verdict_of(history, NoLoss(), Duplicates(), Latency(max=0.5), Throughput(min=1e6), facts=facts)
    assert invalid(verdict) == {"duplicates", "one_terminal"}
    unknown = {finding.name for finding in verdict.findings if finding.state == "unknown"}
    assert {"no_loss", "conservation", "latency", "throughput"} <= unknown


@pytest.mark.parametrize(("watched_ms", "state"), [(300, "unknown"), (700, "invalid")])
def test_a_run_that_ended_before_the_time_to_recover_was_over_proves_nothing(watched_ms: int, state: str) -> None:
    """Interrupted, or at its drain limit: whether it would have recovered in time, nobody knows."""
    history = clean(50)
    without(history, 50)
    history.faults.append(FaultWindow(0, "outage", 40 * MS, 500 * MS))
    history.counters = [Counter((500 + watched_ms) * MS, "pending", 0, 1)]
    drain = Span(501 * MS, (500 + watched_ms) * MS)
    facts = replace(FACTS, drained=False, drain=drain, load=Span(0, 501 * MS), healed_ns=501 * MS)
    wanted = Recovery.model_validate({"of": "outage", "within": 0.5, "age": 0.1})
    finding = next(f for f in verdict_of(history, wanted, facts=facts).findings if f.title == "recovery of outage")
    assert finding.state == state
    assert state == "invalid" or "the run ended" in finding.why_unknown


def test_that_a_fault_never_bit_says_whether_anything_passed() -> None:
    """Nothing came by, or it let all of it pass."""
    history = clean()
    history.faults.append(FaultWindow(0, "idle", 40 * MS, 60 * MS, passes=0, hits=0))
    history.faults.append(FaultWindow(1, "rare", 40 * MS, 60 * MS, passes=7, hits=0))
    history.faults.append(FaultWindow(2, "spare", 40 * MS, 60 * MS, "latency", "net:redis", passes=7, hits=0))
    assert [reason.text.partition(": ")[2] for reason in verdict_of(history).reasons] == [
        "nothing passed where it stood",
        "7 calls passed where it stood, and it acted on none",
        "7 connections or pieces of data passed where it stood, and it acted on none",
    ]


def test_clocks_that_differ_are_given_the_benefit() -> None:
    """Within the clocks' error two events are concurrent: too early by less is no phantom."""
    history = clean()
    history.attempts[4].begun = 49 * MS
    assert "no_phantom" in invalid(verdict_of(history))
    assert "no_phantom" not in invalid(verdict_of(history, facts=replace(FACTS, clock_error_ns=2 * MS)))
