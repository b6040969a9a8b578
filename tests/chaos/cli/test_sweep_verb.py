"""`squall sweep` as it is called: what it prints for people and programs, and what it says of mistakes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from tests.chaos.cli.command import squall, write

from squall.chaos.sweep.file import SWEEP, list_sweeps, load_sweep

SHIPPED = Path(__file__).resolve().parents[3] / "scenarios"

pytestmark = pytest.mark.slow  # whole sweeps

# A router that takes 20 events at once and 50 a second: six always pass, of three hundred most are refused.
LIMITED = """\
version: 1
name: limited
about: A router that takes so many events and no more.
plugins: [{rate_limit: {rate: 50, burst: 20}}]
vars: {rate: 20}
subscribers: {all: {pattern: ">"}}
load: {stages: [{for: 300ms, rate: "${rate}"}], events: [{type: a.b}]}
expect: [{error_budget: {max_ratio: 0.02}}]
"""
RANGE = ("--over", "rate", "--from", "20", "--to", "1000")
RATIO = "expect.0.error_budget.max_ratio"
TWO_RUNS = (*RANGE, "--grid", "2", "--repeats", "1")


@pytest.fixture
def limited(here: Path) -> str:
    """That scenario, in the working directory."""
    return str(write(here / "limited.yaml", LIMITED))


def test_programs_get_one_document(here: Path, limited: str) -> None:
    """The sweep as its file has it, where it is, and the exit code; nothing else on stdout."""
    said = squall("sweep", limited, *TWO_RUNS, "--json")
    told = json.loads(said.out)
    assert (said.code, told["exit_code"]) == (0, 0)
    folder = Path(told["folder"])
    assert told["sweep"] == json.loads((folder / SWEEP).read_text("utf-8"))
    assert told["report"] == str(folder / "sweep.html")
    assert (folder / "sweep.html").exists()
    swept = told["sweep"]
    assert (swept["state"], swept["key"], swept["version"]) == ("knee", "rate", 1)
    assert [(one["text"], one["outcome"]) for one in swept["points"]] == [("20", "held"), ("1000", "broke")]
    assert swept["points"][1]["broke"] == ["error budget"]
    assert 20 <= swept["knee"]["low"] <= swept["knee"]["at"] <= swept["knee"]["high"] <= 1000


def test_people_get_a_line_a_run_and_a_sentence(here: Path, limited: str) -> None:
    """With the page's path last, so that it can be opened."""
    said = squall("sweep", limited, *TWO_RUNS)
    first, second, *_, knee, _, runs, last = said.out.splitlines()
    assert said.code == 0
    assert first.startswith("✓ rate 20  holds")
    assert second.startswith("✗ rate 1000  breaks")
    assert second.endswith("error budget")
    assert knee.startswith("it breaks at rate ")
    (folder,) = list_sweeps(here / "runs")
    assert (runs, last) == ("2 runs", str(folder.relative_to(here) / "sweep.html"))


def test_a_sweep_that_would_have_gone_on_says_so(here: Path, limited: str) -> None:
    """Its interval is as wide as so few runs make it; the file and the page say it too."""
    said = squall("sweep", limited, *RANGE, "--max-runs", "2")
    assert said.code == 0
    assert "2 runs, as many as --max-runs allows: more would tell it better\n" in said.out
    (folder,) = list_sweeps(here / "runs")
    assert load_sweep(folder).cut_short
    assert "as many as --max-runs allows" in (folder / "sweep.html").read_text("utf-8")


def test_a_second_sweep_stands_beside_the_first(here: Path, limited: str) -> None:
    """What the first found is as it was."""
    squall("sweep", limited, *TWO_RUNS)
    (first,) = list_sweeps(here / "runs")
    before = (first / SWEEP).read_bytes()
    squall("sweep", limited, *TWO_RUNS)
    folders = list_sweeps(here / "runs")
    assert len(folders) == 2
    assert first in folders
    assert (first / SWEEP).read_bytes() == before
    runs = [one.run for folder in folders for one in load_sweep(folder).points]
    assert len(set(runs)) == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--set", "nowhere.x=1", *RANGE), "nowhere"),
        (("--over", "load.nope", *RANGE[2:]), "nope"),
        (("--over", "rat", *RANGE[2:]), "did you mean"),
        (("--over", "load.stages.7.rate", *RANGE[2:]), "load.stages"),
        (("--over", "rate", "--from", "5", "--to", "4"), "--to: expected more than --from (5), got 4"),
        (("--over", "rate", "--from", "5", "--to", "5"), "--to: expected more than --from (5), got 5"),
        (("--over", "rate", "--from", "1ms", "--to", "2s"), "--to: expected one unit, got '1ms' and '2s'"),
        (("--over", "rate", "--from", "few", "--to", "2"), "--from: expected a number"),
        (("--over", "rate", "--from", "0", "--to", "2", "--log"), "--log: expected a --from above 0"),
        (("--over", "rate", "--from", "1ms", "--to", "5ms"), "rate"),
        (("--over", "load.events.0.size", "--from", "1KB", "--to", "999999999KB"), "size"),
    ],
)
def test_a_mistake_is_told_before_anything_is_run(
    here: Path, limited: str, arguments: tuple[str, ...], says: str
) -> None:
    """Exit 2, where it is and what was expected; no folder is made for a sweep that cannot be."""
    said = squall("sweep", limited, *arguments)
    assert said.code == 2, said.out + said.err
    assert says in said.err
    assert not (here / "runs").exists()


def test_a_scenario_that_lacks_something_is_told_before_anything_is_run(here: Path) -> None:
    """Its handler is nowhere; or there is no such scenario."""
    lacking = LIMITED.replace('{pattern: ">"}', '{pattern: ">", handler: {call: shop}}')
    said = squall("sweep", str(write(here / "lacking.yaml", lacking)), *RANGE)
    assert said.code == 2
    assert "shop" in said.err
    said = squall("sweep", "nowhere.yaml", *RANGE)
    assert said.code == 2
    assert "nowhere.yaml" in said.err
    assert not (here / "runs").exists()


def test_programs_are_told_of_mistakes(limited: str) -> None:
    """The same words, as a document."""
    said = squall("sweep", limited, "--over", "rate", "--from", "5", "--to", "4", "--json")
    told = json.loads(said.out)
    assert (said.code, told["exit_code"]) == (2, 2)
    assert "expected more than --from (5), got 4" in told["error"]


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_run(here: Path, limited: str) -> None:
    """Exit 4; a file is in its way."""
    write(here / "taken", "")
    said = squall("sweep", limited, *RANGE, "--runs", "taken")
    assert said.code == 4, said.err
    assert "taken" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("given", "works"),
    [
        ((), "--over rate --from 8 --to 320"),
        (("--over", "rate"), "--over rate --from 8 --to 320"),
        (("--from", "30"), "--over rate --from 30 --to 320"),
        (("--over", "rate", "--to", "90", "--set", "load.stages.0.for=200ms"), "--over rate --from 8 --to 90 --set"),
        (("--over", "load.stages.0.for", "--from", "90ms"), "--over load.stages.0.for --from 90ms --to 4800ms"),
        (("--over", "plugins.0.rate_limit.burst", "--seed", "7"), "burst --from 8 --to 320 --seed 7"),
        (("--over", "expect.0.error_budget.max_ratio"), "max_ratio --from 0.008 --to 0.32"),
        (("--over", RATIO, "--set", f"{RATIO}=0.1"), f"{RATIO} --from 0.04 --to 0.8 --set"),  # and no share above 1
        (("--over", "subscribers.all.concurrency"), "--over subscribers.all.concurrency --from VALUE --to VALUE"),
        (("--over", "load.events.0.size"), "--over load.events.0.size --from VALUE --to VALUE"),
    ],
)
def test_what_is_not_given_is_told_with_a_command_that_works(
    here: Path, limited: str, given: tuple[str, ...], works: str
) -> None:
    """From the scenario's own value; each end of the range is one that the scenario takes."""
    said = squall("sweep", limited, *given)
    missing = [option for option in ("--over", "--from", "--to") if option not in given]
    assert (said.code, said.err.startswith(f"{', '.join(missing)}: required")) == (2, True), said.err
    assert f"such as: squall sweep {limited} --over " in said.err
    assert works in said.err
    assert not (here / "runs").exists()


def test_the_proposed_command_works_as_it_is_printed(limited: str) -> None:
    """As it stands, but for how often it is run."""
    said = squall("sweep", limited)
    command = shlex.split(said.err.partition("such as: ")[2].strip().removesuffix(")"))
    assert squall(*command[1:], "--grid", "2", "--repeats", "1").code == 0


def test_what_is_raised_nowhere_is_told_before_its_range(limited: str) -> None:
    """A range of nothing would not help, nor would one that goes on from a value that is not taken."""
    said = squall("sweep", limited, "--over", "rat")
    assert said.code == 2
    assert "did you mean 'rate'?" in said.err
    assert "the load publishes nothing" in squall("sweep", limited, "--over", "rate", "--from", "1").err


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_of_each_scenario_that_is_shipped_something_can_be_raised(here: Path, name: str) -> None:
    """Its load."""
    said = squall("sweep", name)
    assert "VALUE" not in said.err
    command = shlex.split(said.err.partition("such as: ")[2].strip().removesuffix(")"))
    over, low, high = command[4:9:2]
    for value in (low, high):
        assert squall("validate", name, "--set", f"{over}={value}").code == 0
