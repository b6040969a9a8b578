"""The knee from runs that held or broke: its estimate, its interval, and which value is tried next."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import pytest

from squall.chaos.sweep.knee import Trial, estimate
from squall.chaos.sweep.plan import Outcome, Plan, bracket, next_value, state_of

Outcomes = list[tuple[float, Outcome]]


def swept(plan: Plan, run: Callable[[float], Outcome], before: Sequence[tuple[float, Outcome]] = ()) -> Outcomes:
    """All runs of a plan, against a target that is a function."""
    outcomes: Outcomes = [*before]
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


@pytest.mark.parametrize(("log", "middle"), [(False, 15.0), (True, math.sqrt(10 * 20))])
def test_a_knee_between_two_values_is_as_likely_all_over(log: bool, middle: float) -> None:
    """So it is said to be in the middle, of the axis that was asked for. Five runs at each of the two leave no doubt
    about what lies outside."""
    held, broke = [1.0, *[10.0] * 5], [*[20.0] * 5, 100.0]
    found = estimate([*(Trial(x, broke=False) for x in held), *(Trial(x, broke=True) for x in broke)], log=log)
    assert found is not None
    assert found.at == pytest.approx(middle, rel=0.02)
    assert found.low == pytest.approx(10)
    assert found.high == pytest.approx(20)


def plain_likelihood(trials: list[Trial], knee: float, steepness: float) -> float:
    """Of the logistic, as it is written down."""
    chance = [1 / (1 + math.exp(-max(-500.0, min(500.0, steepness * (one.x - knee))))) for one in trials]
    return sum(math.log(max(1e-300, p if one.broke else 1 - p)) for one, p in zip(trials, chance, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_the_interval_is_the_profile_likelihoods(seed: int) -> None:
    """Compared with plain loops over knees and steepnesses, for runs that came out by chance around 0.5."""
    random = Random(seed)
    places = [0.0, 1.0, *(random.choice([0.3, 0.4, 0.5, 0.6, 0.7]) for _ in range(16))]
    trials = [Trial(x, random.random() < 1 / (1 + math.exp(-12 * (x - 0.5)))) for x in places]
    trials = [Trial(0.0, broke=False), Trial(1.0, broke=True), *trials[2:]]
    steep = [0.0, *(10 ** (power / 8) for power in range(-8, 25))]
    profile = {n / 100: max(plain_likelihood(trials, n / 100, one) for one in steep) for n in range(101)}
    best = max(profile.values())
    within = [knee for knee, value in profile.items() if 2 * (best - value) <= 6.635]
    found = estimate(trials)
    assert found is not None
    assert profile[round(found.at, 2)] >= best - 0.1
    assert found.low == pytest.approx(within[0], abs=0.021)
    assert found.high == pytest.approx(within[-1], abs=0.021)


def test_where_all_came_out_alike_nothing_is_said() -> None:
    """Nor where there was one value only."""
    assert estimate([Trial(1, broke=False), Trial(2, broke=False)]) is None
    assert estimate([Trial(1, broke=True), Trial(2, broke=True)]) is None
    assert estimate([Trial(1, broke=True), Trial(1, broke=False)]) is None


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


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ([(1, "unknown"), (2, "broke")], "unknown"),  # it may have been broken all over, or not
        ([(1, "held"), (2, "unknown")], "unknown"),
        ([(1, "held"), (2, "generator")], "generator"),
        ([(1, "held"), (2, "generator"), (2, "held")], "holds"),  # late once, and in time the next time
        ([(1, "broke"), (2, "unknown")], "broken"),
        ([], "unknown"),
    ],
)
def test_a_sweep_says_no_more_than_its_runs_do(outcomes: Outcomes, state: str) -> None:
    """What could not be decided is neither for nor against the target."""
    assert state_of(Plan((1.0, 2.0), bisect=False), outcomes) == state


def test_what_could_not_be_decided_below_what_holds_is_left_alone() -> None:
    """The knee is above it."""
    outcomes: Outcomes = [(10, "held"), (80, "broke"), (20, "unknown"), (40, "held")]
    assert next_value(Plan((10.0, 80.0)), outcomes) == 60
    outcomes = [(10, "held"), (80, "broke"), (40, "unknown")]
    assert next_value(Plan((10.0, 80.0)), outcomes) == 25


def test_both_sides_of_the_knee_are_run_in_turn() -> None:
    """So that a sweep which is ended knows as much of one as of the other."""
    outcomes = swept(Plan((1.0, 2.0), bisect=False, repeats=3), lambda value: "broke" if value > 1.5 else "held")
    assert [value for value, _ in outcomes] == [1.0, 2.0] * 3


def test_what_holds_above_what_breaks_does_not_count() -> None:
    """The knee is looked for below the lowest value that breaks."""
    known = bracket([(10, "held"), (20, "broke"), (30, "held"), (40, "broke")])
    assert (known.held, known.broke) == (10, 20)


def test_where_runs_of_a_value_differ_what_is_beside_it_is_run_again() -> None:
    """Chance blurs the knee there, and how far is seen beside it: at both sides, and no further."""
    plan = Plan((1.0, 2.0, 3.0, 4.0, 5.0), bisect=False, repeats=3)
    held: Outcomes = [(value, "held") for value in (1.0, 2.0, 2.0, 3.0)]
    broke: Outcomes = [(value, "broke") for value in (2.0, 3.0, 3.0, 4.0, 5.0)]
    asked = swept(plan, lambda value: "held" if value < 2 else "broke", [*held, *broke])
    assert sorted(value for value, _ in asked[9:]) == [1.0, 1.0, 4.0, 4.0]


def test_runs_have_a_limit() -> None:
    """Whatever is still open then."""
    plan = Plan((1.0, 1e9), runs=5)
    assert len(swept(plan, lambda value: "broke" if value > 17 else "held")) == 5
