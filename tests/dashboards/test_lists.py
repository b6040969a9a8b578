"""What the pages of all runs say, and those of a run that goes on, or of which something is gone; without a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.chaos.report import folders
from tests.chaos.sweep import by_hand
from tests.chaos.test_live_file import write
from tests.dashboards import made_runs
from tests.dashboards.test_pages import opened, said

from squall.chaos.run_folder import COMPOSED, VERDICT
from squall.dashboards.compare import newest_pair

pytestmark = pytest.mark.slow  # each page is Streamlit's whole script


def made(runs: Path, scenario: str, day: int, *, valid: bool = True) -> Path:
    """A judged run of that scenario, of that day in January."""
    kind = folders.valid_folder if valid else folders.invalid_folder
    made = kind(runs.parent / f"made-{scenario}-{day}")
    folder = runs / scenario / f"202601{day:02}-000000-abc123"
    folder.parent.mkdir(parents=True, exist_ok=True)
    return made.rename(folder)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs, and the newest two, which a sweep has made."""
    runs = tmp_path / "runs"
    made(runs, "shop", 1)
    made(runs, "shop", 2, valid=False)
    made(runs, "other", 3)
    swept = [made(runs, "capacity", day) for day in (4, 5)]
    by_hand.sweep_folder(runs, by_hand.sweep([f"capacity/{folder.name}" for folder in swept]))
    return runs


def test_runs_of_sweeps_are_counted_and_not_listed(runs: Path) -> None:
    """Unless they are asked for; the way there and back stands beside the number."""
    told = said(opened(runs, "runs"))
    assert "3 runs of 5, newest first" not in told
    assert "3 runs, newest first" in told
    assert "Besides, 2 runs of sweeps : show them here, too" in told
    assert "capacity/" not in told
    everything = said(opened(runs, "runs", sweeps="shown"))
    assert "5 runs, newest first" in everything
    assert "leave them out" in everything
    assert "capacity/20260104" in everything


def test_runs_are_filtered_by_scenario_and_verdict(runs: Path) -> None:
    """From the address; where nothing fits, the filters can be taken away."""
    shop = said(opened(runs, "runs", scenario="shop"))
    assert "2 runs of 5, newest first" in shop
    assert "other/" not in shop
    lossy = said(opened(runs, "runs", scenario="shop", verdict="invalid"))
    assert "1 run of 5" in lossy
    assert "shop/20260102" in lossy
    none = said(opened(runs, "runs", verdict="unreadable"))
    assert "None of the 5 runs is shown. Take the filters away" in none


def test_two_runs_of_one_scenario_are_compared(runs: Path) -> None:
    """The newest that there are, and no sweep has made: not the newest two, whatever they are."""
    assert newest_pair(runs).name.startswith("20260102")
    assert newest_pair(runs).parent.name == "shop"
    shop = said(opened(runs, "compare", run="shop"))
    assert "There is no other run of" not in shop
    assert "There is no other run of other: a is the newest run of another scenario" in said(
        opened(runs, "compare", run="other")
    )


def test_a_run_that_goes_on_is_not_said_to_have_ended(tmp_path: Path) -> None:
    """Its pages speak of what there is so far."""
    runs = tmp_path / "runs"
    folder = folders.unfinished_folder(runs)
    write(folder, [0.0, 1.0])
    overview = said(opened(runs, "overview"))
    assert "Goes on There is no verdict yet" in overview
    assert "ended" not in overview.partition("Acknowledged")[0]
    assert "Look at it live" in overview
    assert "Nothing has been dead-lettered so far; the run goes on" in said(opened(runs, "dead_letters"))
    assert "goes on now: load and faults" in said(opened(runs, "runs"))
    shutil.rmtree(folder / "history")
    for page in ("overview", "traces", "flow", "dead_letters"):
        assert "Nothing recorded yet The run has only begun" in said(opened(runs, page)), page


def test_a_run_without_its_history_says_so(runs: Path) -> None:
    """On every page that shows what was recorded; where it belongs and what to do is told, and its verdict shown."""
    folder = next(runs.glob("other/2*"))
    shutil.rmtree(folder / "history")
    for page in ("overview", "traces", "flow", "dead_letters"):
        told = said(opened(runs, page, run="other"))
        assert "Its history is gone" in told, page
        assert f"{folder}/history" in told, page
        assert "No event was published" not in told, page
    assert (folder / VERDICT).exists()


def test_the_chain_needs_nothing_but_what_was_composed(tmp_path: Path) -> None:
    """It is shown of a run whose history is damaged, too."""
    folder = made_runs.real_run(tmp_path)
    (folder / "history" / "attempt.parquet").write_bytes(b"no table")
    assert (folder / COMPOSED).exists()
    assert "Delivering to billing" in said(opened(folder.parents[1], "plugins"))


@pytest.mark.parametrize("file", ["environment.json", "scenario.yaml"])
def test_a_run_of_which_a_file_is_missing_says_which(runs: Path, file: str) -> None:
    """And not that there is no such run."""
    folder = next(runs.glob("other/2*"))
    (folder / file).unlink()
    told = said(opened(runs, "overview", run="other/20260103-000000-abc123"))
    assert file in told
    assert "there is no such run" not in told


def test_a_damaged_document_is_told_in_a_line(runs: Path) -> None:
    """With the place that does not fit, and nothing of the library that found it."""
    folder = next(runs.glob("other/2*"))
    (folder / VERDICT).write_text("{}", encoding="utf-8")
    told = said(opened(runs, "overview", run="other"))
    assert "verdict.json: is not a verdict that squall wrote (" in told
    assert "Field required" in told
    assert "pydantic" not in told
    assert "validation error" not in told
