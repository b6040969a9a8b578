"""Who was the limit of a load that was not kept: the driver that published it, or the target."""

from __future__ import annotations

from dataclasses import replace

import pytest

from squall.chaos.check.facts import RunFacts, Span
from squall.chaos.check.generator import limit, told
from squall.core.load_driver import Generated

SAID = Generated("locust 2.47.0", 20, 2, 0.4, 0.05, "", 1200, 3, 119.6, 0.002, 0.01, 0.05)
SECOND = 1_000_000_000
FACTS = RunFacts(load=Span(0, 10 * SECOND), generated=SAID, busy_ns=20 * SECOND)


@pytest.mark.parametrize(
    ("facts", "says", "advises"),
    [
        (FACTS, "the generator was the limit, not the target: its users waited for answers 10 % of", "more processor"),
        (
            replace(FACTS, busy_ns=190 * SECOND),
            "the target was the limit: all 20 users of locust 2.47.0",
            "raise users",
        ),
        (
            replace(FACTS, busy_ns=190 * SECOND, generated=replace(SAID, cpu=0.97)),
            "the generator was the limit, not the target: locust 2.47.0 used 97 % of a processor",
            "more workers",
        ),
        (
            replace(FACTS, busy_ns=190 * SECOND, generated=replace(SAID, cpu=0.2, starved=0.75)),
            "the generator was the limit, not the target: locust 2.47.0 used 20 % of a processor and waited",
            "more workers",
        ),
        (
            replace(
                FACTS, busy_ns=190 * SECOND, generated=replace(SAID, warning="locust-1 used 95 % of its processor")
            ),
            "the generator was the limit, not the target: locust 2.47.0 warned that locust-1 used 95 %",
            "more workers",
        ),
    ],
)
def test_the_limit_is_named(facts: RunFacts, says: str, advises: str) -> None:
    """The target, only where hardly a user was free and the generator had processor left."""
    why, advice = limit(facts)
    assert why.startswith(says)
    assert advises in advice


def test_of_the_benchs_own_publishing_nothing_is_said() -> None:
    assert limit(RunFacts(load=Span(0, SECOND))) == ("", "")
    assert told(RunFacts(load=Span(0, SECOND))) == ""


def test_its_own_figures_are_told_and_whether_they_may_be_trusted() -> None:
    """A generator without processor left measures itself."""
    text = told(FACTS)
    assert "20 users in 2 processes, 40 % of a processor at most" in text
    assert "1,200 requests, 3 failed, 120/s, p50 2 ms, p99 50 ms" in text
    assert "latencies may be its own" not in text
    assert "latencies may be its own" in told(replace(FACTS, generated=replace(SAID, cpu=0.95)))
