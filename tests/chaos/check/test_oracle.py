"""The checker agrees with the oracle on generated histories, invariant by invariant."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.chaos.check.generated import Generated, generate
from tests.chaos.check.model import write
from tests.chaos.check.oracle import Oracle
from tests.chaos.check.oracle_facts import Found

from squall.chaos.check.engine import check
from squall.chaos.check.expectations import Atomic, Latency, NoLoss, Order, Overlap, Recovery, SeqOrder, UniqueSeq
from squall.chaos.check.verdict import Finding, Verdict

pytestmark = pytest.mark.slow  # whole runs

EXPECTED = (Atomic(), Order(), Overlap(), UniqueSeq(), SeqOrder(), Latency(p99=1.0))
AGE_S = 20e-9


def judge(generated: Generated, folder: Path, *, expected: bool) -> Verdict:
    """The checker's verdict with every invariant on."""
    recoveries = [Recovery(of=fault.name, within=1.0, age=AGE_S) for fault in generated.history.faults]
    wanted = [*EXPECTED, *recoveries, *([NoLoss()] if expected else [])]
    return check(write(generated.history, folder), generated.claims, wanted, generated.facts)


def found_by(finding: Finding, subscriptions: dict[str, int]) -> Found:
    """The checker's violations in the oracle's form."""
    return {
        (v.form, v.event, None if v.subscription is None else subscriptions[v.subscription], v.witness)
        for v in finding.violations
    }


def compare(generated: Generated, *, expected: bool) -> None:
    """Fails where checker and oracle differ."""
    history = generated.history
    oracle = Oracle(history, generated.claims, generated.facts)
    with TemporaryDirectory() as folder:
        verdict = judge(generated, Path(folder) / "history", expected=expected)
    assert [f.why_unknown for f in verdict.findings if f.failed] == []
    names = {i.name: i.subscription for i in history.intervals}
    findings = {f.name: f for f in verdict.findings if f.title == "" or not f.title.startswith(("latency", "recovery"))}
    wanted = {
        "no_loss": oracle.no_loss(expected=expected),
        "no_phantom": oracle.no_phantom(),
        "no_ghost": oracle.no_ghost(),
        "no_stray": oracle.no_stray(),
        "intact": oracle.intact(),
        "atomic": oracle.atomic(),
        "order": oracle.order(),
        "overlap": oracle.overlap(),
        "unique_seq": oracle.unique_seq(),
        "seq_order": oracle.seq_order(),
        "one_terminal": oracle.one_terminal(),
        "max_attempts": oracle.max_attempts(),
    }
    for name, expectation in wanted.items():
        finding = findings[name]
        got_set = found_by(finding, names)
        assert got_set == expectation, f"{name}: only the checker {got_set - expectation}, not {expectation - got_set}"
        assert finding.count == len(finding.violations) >= len(expectation), name
        if expectation and not (name in ("no_loss", "atomic") and history.gaps) and finding.state != "not judged":
            assert finding.state == "invalid", name
    unexplained = [(a.event, a.subscription, a.begun) for a in oracle.duplicates()]
    got = [(v.event, names[v.subscription or ""], v.time_ns) for v in findings["duplicates"].violations]
    assert sorted(got) == sorted(unexplained), f"duplicates: {got}, not {unexplained}"
    counters = {v.subscription for v in findings["conservation"].violations if "sums differ" not in v.form}
    uneven = {x[2] for x in oracle.conservation()}
    assert {names[name or ""] for name in counters} == uneven, f"conservation: {counters}, not {uneven}"
    compare_measures(verdict, oracle)


def compare_measures(verdict: Verdict, oracle: Oracle) -> None:
    """Latency and recovery, in figures."""
    low = min((op.invoked if op.intended is None else op.intended for op in oracle.h.publishes), default=0)
    latencies = sorted(value for value, _ in oracle.latencies())
    finding = next(f for f in verdict.findings if f.title.startswith("latency"))
    assert low >= 0 or latencies is not None
    if latencies:
        for name, quantile in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            exact = latencies[max(0, math.ceil(quantile * len(latencies)) - 1)]
            assert finding.figures[f"{name}_s"] * 1e9 == pytest.approx(exact), name
        assert finding.figures["pairs"] == len(latencies)
    else:
        assert "pairs" not in finding.figures
    for fault in oracle.h.faults:
        if fault.ended is None:
            continue
        recovery = next(f for f in verdict.findings if f.title == f"recovery of {fault.name}")
        following = [f.begun for f in oracle.h.faults if f.begun > fault.ended]
        ends = [t for a in oracle.attempts for t in (a.begun, a.ended, a.settle_ok) if t is not None]
        ends += [op.ended for op in oracle.h.publishes if op.ended is not None]
        drain = oracle.facts.drain
        horizon = min(following) if following else max(fault.ended, drain.ended if drain else max(ends, default=0))
        exact = oracle.recovered_ns(fault, round(AGE_S * 1e9), horizon)
        assert recovery.figures["recovered_s"] * 1e9 == pytest.approx(exact), fault


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.integers(0, 2**32), st.booleans())
def test_checker_and_oracle_agree(seed: int, expected: bool) -> None:
    """On histories with retried publishes, unknown outcomes, redeliveries, dead workers, redrives, joins and leaves."""
    compare(generate(Random(seed)), expected=expected)


def test_checker_and_oracle_agree_past_63_subscriptions() -> None:
    """One bit a subscription: they do not fit one word any more."""
    compare(generate(Random(5), subscriptions=70), expected=True)
