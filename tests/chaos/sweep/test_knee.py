"""The knee from runs that held or broke: its estimate, its interval, and which value is tried next."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest

from squall.chaos.sweep.knee import Trial, estimate
from squall.chaos.sweep.plan import Outcome, Plan, next_value, state_of

Outcomes = list[tuple[float, Outcome]]


def swept(plan: Plan, run: Callable[[float], Outcome]) -> Outcomes:
    """All runs of a plan, against a target that is a function."""
    outcomes: Outcomes = []
    while (value := next_value(plan, outcomes)) is not None:
        outcomes.append((value, run(value)))
    return outcomes


def trials(outcomes: Outcomes) -> list[Trial]:
    return [Trial(value, outcome == "broke") for value, outcome in outcomes if outcome in ("held", "broke")]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("planted", [130.0, 617.0, 4000.0, 9600.0])
def test_a_step_is_found_within_ten_percent(planted: float, log: bool) -> None:
    """And lies in the interval, which is no wider than what was tried beside it allows."""
    plan = Plan((100.0, 10_000.0), whole=True, log=log)
    outcomes = swept(plan, lambda value: "broke" if value > planted else "held")
    found = estimate(trials(outcomes), log=log)
    assert state_of(plan, outcomes) == "knee"
    assert found is not None
    assert abs(found.at - planted) <= 0.1 * planted
    assert found.low <= planted <= found.high
    assert found.high - found.low <= 0.15 * planted or found.high - found.low <= 30
    assert len(outcomes) <= plan.runs


@pytest.mark.slow
def test_the_interval_covers_a_blurred_knee_as_often_as_it_says() -> None:
    """Of a hundred sweeps of a target that breaks by chance around 1,000, seeded, in 90 or more."""
    random = Random(7)
    plan = Plan((200.0, 2000.0), whole=True)

    def run(value: float) -> Outcome:
        return "broke" if random.random() < 1 / (1 + math.exp(-(value - 1000) / 60)) else "held"

    covered = errors = 0.0
    for _ in range(100):
        found = estimate(trials(swept(plan, run)))
        assert found is not None
        covered += found.low <= 1000 <= found.high
        errors += abs(found.at - 1000) / 1000
    assert covered >= 90
    assert errors / 100 < 0.06


def test_one_wrong_run_on_the_way_does_not_lead_astray() -> None:
    """The first run at 5,050 breaks by accident; its repeats hold, and the search goes on above it."""
    seen: list[float] = []

    def run(value: float) -> Outcome:
        seen.append(value)
        accident = value == 5050 and seen.count(value) == 1
        return "broke" if value > 7000 or accident else "held"

    plan = Plan((100.0, 10_000.0), whole=True)
    found = estimate(trials(swept(plan, run)))
    assert found is not None
    assert abs(found.at - 7000) <= 700


def test_nothing_that_breaks_is_no_knee() -> None:
    """The end of the range is run again before it is said."""
    plan = Plan((1.0, 100.0))
    outcomes = swept(plan, lambda value: "held")
    assert state_of(plan, outcomes) == "holds"
    assert outcomes == [(1.0, "held"), *[(100.0, "held")] * 5]
    assert estimate(trials(outcomes)) is None


def test_what_breaks_at_once_has_its_knee_below() -> None:
    """No run is wasted on higher values."""
    plan = Plan((1.0, 100.0))
    outcomes = swept(plan, lambda value: "broke")
    assert state_of(plan, outcomes) == "broken"
    assert outcomes == [(1.0, "broke")] * 5


def test_a_generator_that_cannot_keep_up_is_the_limit_and_not_the_target() -> None:
    """Whatever holds below it; a knee below it is found all the same."""
    plan = Plan((100.0, 10_000.0), whole=True)
    outcomes = swept(plan, lambda value: "generator" if value > 3000 else "held")
    assert state_of(plan, outcomes) == "generator"
    outcomes = swept(plan, lambda value: "generator" if value > 3000 else "broke" if value > 2000 else "held")
    found = estimate(trials(outcomes))
    assert state_of(plan, outcomes) == "knee"
    assert found is not None
    assert abs(found.at - 2000) <= 200


def test_a_grid_is_run_whole_and_then_around_the_knee() -> None:
    """In rising order; between its values nothing is tried."""
    plan = Plan((1.0, 2.0, 3.0, 4.0), bisect=False, repeats=2)
    outcomes = swept(plan, lambda value: "broke" if value > 2.5 else "held")
    assert [value for value, _ in outcomes] == [1.0, 2.0, 3.0, 4.0, 2.0, 3.0]
    assert state_of(plan, outcomes) == "knee"


def test_runs_have_a_limit() -> None:
    """Whatever is still open then."""
    plan = Plan((1.0, 1e9), runs=5)
    assert len(swept(plan, lambda value: "broke" if value > 17 else "held")) == 5
