"""Whole sweeps: a planted knee is found, and what is not the target's is not laid at its door. In virtual time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from squall import VirtualClock
from squall.chaos.catalogue import load_catalogue
from squall.chaos.check.verdict import Finding, Reason, State, Verdict
from squall.chaos.run import RunResult, run_scenario
from squall.chaos.run_folder import list_runs
from squall.chaos.scenario import load_scenario
from squall.chaos.sweep.drive import Asked, concluded, outcome_of, run_sweep
from squall.chaos.sweep.file import SWEEP, Point, Sweep, list_sweeps, load_sweep, make_sweep_folder
from squall.chaos.sweep.plan import Outcome, Plan
from squall.chaos.sweep.values import read_range
from squall.core.config import Config
from squall.core.errors import ConfigError, StoreFileError

pytestmark = pytest.mark.slow  # whole runs

RATE_LIMIT = 200
LIMITED = {
    "version": 1,
    "name": "limited",
    "plugins": [{"rate_limit": {"rate": RATE_LIMIT, "burst": 1}}],
    "vars": {"rate": 10},
    "subscribers": {"all": {"pattern": ">"}},
    "load": {"stages": [{"for": "1s", "rate": "${rate}"}], "events": [{"type": "a.b"}]},
    "expect": [{"error_budget": {"max_ratio": 0.02}}],
}
FAILING = {
    "version": 1,
    "name": "failing",
    "plugins": [{"retry": {"attempts": 1}}],
    "subscribers": {"all": {"pattern": ">"}},
    "load": {"stages": [{"for": "1s", "rate": 200}], "events": [{"type": "a.b"}]},
    "faults": [{"id": "errors", "at": "0s", "for": "1s", "do": "exception", "on": "handler:all", "probability": 0.1}],
    "expect": [{"error_budget": {"max_ratio": 0.4, "subscribers": ["all"]}}],
}
DESK = {
    "version": 1,
    "name": "desk",
    "subscribers": {"all": {"pattern": ">", "concurrency": 1, "handler": {"latency": "20ms"}}},
    "load": {"stages": [{"for": "1s", "rate": 100}], "events": [{"type": "a.b"}]},
    "expect": [{"latency": {"p99": "200ms"}}],
}


async def virtual(scenario_path: Path, sets: list[str], seed: int, runs: Path) -> RunResult:
    """A run in virtual time."""
    catalogue, clock = load_catalogue(), VirtualClock()
    scenario = load_scenario(scenario_path, sets=sets, seed=seed, known=catalogue.known(Config()))
    running = asyncio.ensure_future(run_scenario(scenario, Config(), catalogue, runs=runs, clock=clock))
    while not running.done():
        await clock.advance(0.1)
    return await running


def swept(
    folder: Path, key: str, low: str, high: str, *, scenario: dict[str, object] = LIMITED, repeats: int = 2
) -> Sweep:
    """A sweep of a scenario, without more the one whose router takes 200 events a second."""
    name = str(scenario["name"])
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(scenario), encoding="utf-8")
    values = read_range(low, high, log=False)
    plan = Plan(values.grid(2, log=False), repeats=repeats, whole=values.whole)
    made = make_sweep_folder(folder / "runs", VirtualClock(), "abc")

    def run_one(text: str, more: int) -> RunResult:
        return asyncio.run(virtual(path, [f"{key}={text}"], 1 + more, folder / "runs"))

    return run_sweep(Asked(name, key, values, plan), run_one, made, 0)


def test_a_planted_knee_is_found_within_ten_percent(tmp_path: Path) -> None:
    """The limit of a plugin, with its interval around it; every point is an ordinary run, in the folder too."""
    sweep = swept(tmp_path, "rate", "20", "1000")
    assert sweep.state == "knee"
    assert sweep.exit_code == 0
    assert sweep.knee is not None
    assert abs(sweep.knee.at - RATE_LIMIT) <= 0.1 * RATE_LIMIT
    assert sweep.knee.low < sweep.knee.at < sweep.knee.high
    assert sweep.sentence.startswith("it breaks at rate ")
    assert sweep.sentence.endswith(": error budget")
    runs = tmp_path / "runs"
    (folder,) = list_sweeps(runs)
    assert load_sweep(folder) == sweep
    assert {one.run for one in sweep.points} == {f"limited/{one.name}" for one in list_runs(runs)}
    assert len({one.seed for one in sweep.points}) == len(sweep.points)
    report = (folder / "sweep.html").read_text("utf-8")
    assert "Knee found" in report
    assert all(one.run in report for one in sweep.points)


def test_a_key_of_the_scenario_can_be_raised(tmp_path: Path) -> None:
    """By its dotted name; where all holds up to the end of the range, there is no knee, and nobody is accused."""
    sweep = swept(tmp_path, "load.stages.0.rate", "20", "150")
    assert sweep.state == "holds"
    assert sweep.exit_code == 0
    assert sweep.knee is None
    assert "no knee: everything holds up to load.stages.0.rate 150" in sweep.sentence
    environment = json.loads((tmp_path / "runs" / sweep.points[-1].run / "environment.json").read_text("utf-8"))
    assert environment["sets"] == {"load.stages.0.rate": 150}


def test_the_intensity_of_a_fault_can_be_raised(tmp_path: Path) -> None:
    """By the id of the fault: it breaks where as many attempts fail as are too many."""
    sweep = swept(tmp_path, "faults.errors.probability", "0.05", "0.95", scenario=FAILING)
    assert (sweep.state, sweep.exit_code) == ("knee", 0)
    assert sweep.knee is not None
    assert 0.3 < sweep.knee.at < 0.5
    assert sweep.sentence.startswith("it breaks at faults.errors.probability 0.")
    assert sweep.sentence.endswith(": error budget of all")
    assert {one.outcome for one in sweep.points if one.value < 0.3} == {"held"}
    assert {one.outcome for one in sweep.points if one.value > 0.5} == {"broke"}


def test_the_concurrency_of_a_subscriber_can_be_raised(tmp_path: Path) -> None:
    """One at the desk is too few for the load, from four on they are enough."""
    for name in ("few", "enough"):
        (tmp_path / name).mkdir()
    few = swept(tmp_path / "few", "subscribers.all.concurrency", "1", "8", scenario=DESK)
    assert (few.state, few.exit_code) == ("broken", 1)
    assert "broken at subscribers.all.concurrency 1 already" in few.sentence
    enough = swept(tmp_path / "enough", "subscribers.all.concurrency", "4", "8", scenario=DESK)
    assert (enough.state, enough.exit_code) == ("holds", 0)
    assert {one.text for one in enough.points} == {"4", "8"}
    run = tmp_path / "enough" / "runs" / enough.points[-1].run
    environment = json.loads((run / "environment.json").read_text("utf-8"))
    assert environment["sets"] == {"subscribers.all.concurrency": 8}


def test_what_is_broken_at_its_lowest_value_says_so(tmp_path: Path) -> None:
    """It is the one outcome that accuses."""
    sweep = swept(tmp_path, "rate", "400", "1000")
    assert (sweep.state, sweep.exit_code) == ("broken", 1)
    assert "broken at rate 400 already" in sweep.sentence


def finding(name: str) -> Finding:
    return Finding(name, "invalid", "broken")


@pytest.mark.parametrize(
    ("broke", "late", "outcome"),
    [
        ((), False, "held"),
        (("latency",), False, "broke"),
        (("latency",), True, "generator"),
        (("throughput", "latency"), True, "generator"),
        ((), True, "generator"),
        (("latency", "no_loss"), True, "broke"),
    ],
)
def test_a_late_generator_is_no_slow_target(broke: tuple[str, ...], late: bool, outcome: str) -> None:
    """What is measured from when events were due says nothing then; a loss is a loss."""
    reasons = (Reason("rate_not_kept", "the generator sent only some"),) if late else ()
    state: State = "invalid" if broke else "unknown" if late else "valid"
    assert outcome_of(Verdict(state, "", tuple(finding(name) for name in broke), reasons)) == outcome


def point(value: float, *broke: str) -> Point:
    outcome: Outcome = "broke" if broke else "held"
    return Point(value, f"{value:g}", 1, f"limited/{value:g}", outcome, "", broke)


def test_what_breaks_is_what_breaks_first() -> None:
    """Not what else breaks far above the knee."""
    values = read_range("10", "90", log=False)
    asked = Asked("limited", "rate", values, Plan(values.grid(2, log=False), whole=True))
    points = [point(10), point(90, "latency", "no_loss"), point(50, "latency"), point(30)]
    begun = Sweep("limited", "rate", "", 10, 90, True, False, "bisection", 5, "")
    sweep = concluded(begun, asked, points, interrupted=False)
    assert sweep.sentence.startswith("it breaks at rate ")
    assert sweep.sentence.endswith(": latency")


def test_a_run_that_cannot_be_made_ends_the_sweep_and_keeps_its_points(tmp_path: Path) -> None:
    """The error is passed on; the file says that it is over, why, and what was found by then."""
    path = tmp_path / "limited.yaml"
    path.write_text(json.dumps(LIMITED), encoding="utf-8")
    values = read_range("20", "1000", log=False)
    made = make_sweep_folder(tmp_path / "runs", VirtualClock(), "abc")

    def run_one(text: str, more: int) -> RunResult:
        if more:
            raise StoreFileError("the disk is full")
        return asyncio.run(virtual(path, [f"rate={text}"], 1, tmp_path / "runs"))

    with pytest.raises(StoreFileError, match="the disk is full"):
        run_sweep(Asked("limited", "rate", values, Plan(values.grid(2, log=False), whole=True)), run_one, made, 0)
    sweep = load_sweep(made)
    assert (sweep.over, sweep.interrupted) == (True, False)
    assert [one.text for one in sweep.points] == ["20"]
    assert sweep.sentence.startswith("the run at rate 1000 could not be made; so far: ")


def test_who_ends_a_sweep_in_its_first_run_is_told_so(tmp_path: Path) -> None:
    """There is nothing yet of which anything could be said."""
    path = tmp_path / "limited.yaml"
    path.write_text(json.dumps(LIMITED), encoding="utf-8")
    values = read_range("20", "1000", log=False)
    made = make_sweep_folder(tmp_path / "runs", VirtualClock(), "abc")

    def run_one(text: str, more: int) -> RunResult:
        return replace(asyncio.run(virtual(path, [f"rate={text}"], 1, tmp_path / "runs")), interrupted=True)

    sweep = run_sweep(Asked("limited", "rate", values, Plan(values.grid(2, log=False), whole=True)), run_one, made, 0)
    assert (sweep.exit_code, sweep.points, sweep.over) == (130, (), True)
    assert sweep.sentence == "interrupted before the first run was over"


def test_units_are_kept_and_mistakes_told() -> None:
    """Values are written as they were given."""
    values = read_range("5ms", "50ms", log=True)
    assert values.grid(3, log=True) == (5.0, 16.0, 50.0)
    assert values.text(16.0) == "16ms"
    assert read_range("0.1", "1", log=False).text(0.25) == "0.25"
    assert read_range("0.00001s", "3000000s", log=True).text(0.00002) == "0.00002s"  # no unit follows an exponent
    assert read_range("0.00001s", "3000000s", log=True).text(2_500_000.0) == "2500000s"
    for low, high, said in (("5ms", "1s", "one unit"), ("5", "4", "more than --from"), ("x", "4", "a number")):
        with pytest.raises(ConfigError, match=said):
            read_range(low, high, log=False)
    with pytest.raises(ConfigError, match="above 0"):
        read_range("0", "4", log=True)


def test_a_foreign_file_is_no_sweep(tmp_path: Path) -> None:
    """It is told, and not guessed at."""
    (tmp_path / SWEEP).write_text("{}", encoding="utf-8")
    with pytest.raises(StoreFileError, match="not a sweep that squall wrote"):
        load_sweep(tmp_path)
