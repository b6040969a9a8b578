"""A sweep that is ended in its midst, as a real process: what was found by then is kept, and told."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from tests.chaos.cli.command import await_line, finished, in_its_midst

from squall.chaos.sweep.file import SWEEP, list_sweeps, load_sweep

pytestmark = pytest.mark.slow  # whole runs

# Its first run has 20 events; the second, five minutes of load, is where it is ended.
LONG = """\
version: 1
name: long
about: As long as it is told to be.
vars: {length: 100ms}
subscribers:
  billing: {pattern: order.>, concurrency: 4, handler: {call: shop}}
load:
  stages: [{for: "${length}", rate: 200}]
  events: [{type: order.created}]
expect: [no_loss]
"""
FIRST_RUN = 20


def begun_sweep(folder: Path, *options: str, do: str = "await asyncio.sleep(0)") -> subprocess.Popen[str]:
    """A sweep whose first run is over, and whose second has begun to handle events."""
    over = ["--over", "length", "--from", "100ms", "--to", "300000ms", "--repeats", "1"]
    return in_its_midst(folder, "sweep", LONG, *over, *options, do=do, count=FIRST_RUN + 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_keeps_what_was_found(tmp_path: Path, number: signal.Signals) -> None:
    """Exit 130: the run is ended in good order, is no point, and nothing is run after it; file and page say so."""
    process = begun_sweep(tmp_path)
    process.send_signal(number)
    said = finished(process)
    assert said.code == 130, said.err
    assert "stopping: faults are healed" in said.err
    assert "✓ length 100ms  holds" in said.out
    assert "interrupted; so far: " in said.out
    (folder,) = list_sweeps(tmp_path / "runs")
    sweep = load_sweep(folder)
    assert (sweep.interrupted, sweep.over, sweep.exit_code) == (True, True, 130)
    assert [(point.text, point.outcome) for point in sweep.points] == [("100ms", "held")]
    assert sweep.sentence in said.out
    assert "Interrupted" in (folder / "sweep.html").read_text("utf-8")
    verdicts = [one.read_text("utf-8") for one in tmp_path.glob("runs/long/2*/verdict.json")]
    # By which of the two: their names have no order within a second.
    assert sorted("interrupted after" in one for one in verdicts) == [False, True]


def test_programs_are_told_too(tmp_path: Path) -> None:
    """One document, with the points so far."""
    process = begun_sweep(tmp_path, "--json")
    process.send_signal(signal.SIGINT)
    said = finished(process)
    told = json.loads(said.out)
    assert (said.code, told["exit_code"]) == (130, 130)
    assert told["sweep"] == json.loads((Path(tmp_path / told["folder"]) / SWEEP).read_text("utf-8"))
    assert told["sweep"]["interrupted"]
    assert len(told["sweep"]["points"]) == 1


def test_the_second_signal_ends_at_once(tmp_path: Path) -> None:
    """Whatever the handlers of the run do; what was written after the run before is there and can be read."""
    process = begun_sweep(tmp_path, do=f"await asyncio.sleep(3600 if calls > {FIRST_RUN} else 0)")
    process.send_signal(signal.SIGINT)
    await_line(process, "stopping")
    process.send_signal(signal.SIGINT)
    said = finished(process)
    assert said.code == 130
    assert said.err.strip().endswith("ended at once: what was not written is lost")
    (folder,) = list_sweeps(tmp_path / "runs")
    sweep = load_sweep(folder)
    assert not sweep.over
    assert [point.text for point in sweep.points] == ["100ms"]
