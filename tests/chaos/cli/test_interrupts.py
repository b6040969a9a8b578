"""Ctrl-C and SIGTERM, sent to a real process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.chaos.cli.command import await_line, child, finished, in_its_midst

from squall.chaos.check.facts import RunFacts
from squall.chaos.history.reader import open_history
from squall.chaos.report.measured import measure

pytestmark = pytest.mark.slow  # whole runs

LONG = """\
version: 1
name: long
about: Far longer than a test may take.
subscribers:
  billing: {pattern: order.>, concurrency: 4, handler: {call: shop}}
load:
  stages: [{for: 300s, rate: 200}]
  events: [{type: order.created}]
faults:
  - {id: errors, at: 0s, for: 300s, do: exception, on: "handler:billing", probability: 0.1}
  - {id: refuses, at: 0s, for: 300s, do: refuse, on: "storage:events", probability: 0.1}
  - {id: later, at: 200s, for: 10s, do: refuse, on: "storage:events"}
expect: [no_loss]
"""

# So that the faults have acted by then.
HANDLED = 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_heals_drains_and_judges(tmp_path: Path, number: signal.Signals) -> None:
    """Exit 130; the verdict is there and says that the run was interrupted; every fault that acted is healed."""
    process = in_its_midst(tmp_path, "run", LONG, count=HANDLED)
    process.send_signal(number)
    said = finished(process)
    (folder,) = tmp_path.glob("runs/long/2*")
    assert said.code == 130, said.err
    assert "stopping: faults are healed" in said.err
    verdict = json.loads((folder / "verdict.json").read_text("utf-8"))["verdict"]
    assert verdict["state"] == "unknown"
    assert any("interrupted after" in reason["text"] for reason in verdict["reasons"])
    assert "UNKNOWN" in said.out
    assert "interrupted after" in said.out
    with open_history(folder / "history", tmp_path) as db:
        windows = db.execute("SELECT name, hits > 0, healed FROM fault ORDER BY name").fetchall()
        published = db.execute("SELECT count(*) FROM publish WHERE ended IS NOT NULL").fetchone()
    assert windows == [("errors", True, True), ("refuses", True, True)]
    assert published is not None
    assert published[0] > 0


def test_the_second_signal_ends_at_once(tmp_path: Path) -> None:
    """While it drains handlers that take an hour: exit 130, one line, no verdict."""
    process = in_its_midst(tmp_path, "run", LONG, do="await asyncio.sleep(3600)", count=1)
    process.send_signal(signal.SIGINT)
    await_line(process, "stopping")
    process.send_signal(signal.SIGINT)
    said = finished(process)
    assert said.code == 130
    assert said.err.strip().endswith("ended at once: what was not written is lost")
    assert "Traceback" not in said.err
    assert not list(tmp_path.glob("runs/long/2*/verdict.json"))


def test_slow_handlers_do_not_hold_up_the_first_signal(tmp_path: Path) -> None:
    """The drain is brief, whatever is still being handled."""
    process = in_its_midst(tmp_path, "run", LONG, do="await asyncio.sleep(3600)", count=1)
    process.send_signal(signal.SIGINT)
    said = finished(process)
    assert said.code == 130
    assert "UNKNOWN" in said.out


def test_a_handler_that_blocks_the_loop_cannot_keep_the_second_signal_out(tmp_path: Path) -> None:
    """Nothing of the loop runs any more, and still two signals end the process. It sleeps in pieces: of two signals at
    once the system may give one to another thread, which does not wake it."""
    process = in_its_midst(tmp_path, "run", LONG, do="[time.sleep(0.01) for _ in range(10**6)]", count=1)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert finished(process).code == 130


def test_a_signal_starts_no_further_run(tmp_path: Path) -> None:
    """Of three runs one was begun."""
    process = in_its_midst(tmp_path, "run", LONG, "--repeat", "3", count=HANDLED)
    process.send_signal(signal.SIGINT)
    said = finished(process)
    assert said.code == 130
    assert len(list(tmp_path.glob("runs/long/2*"))) == 1


TWICE = """\
import os, signal, threading
from squall.chaos.cli.interrupts import Interrupts
with Interrupts():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(30)
print("went on")
"""


@pytest.mark.parametrize("reader", ["gone", "asleep"])
def test_who_does_not_read_cannot_keep_the_second_signal_out(reader: str) -> None:
    """Whether nobody is there to read what it says, or somebody who has not read for long."""
    read, write_end = os.pipe()
    try:
        os.set_blocking(write_end, False)
        with contextlib.suppress(BlockingIOError):
            while reader == "asleep":
                os.write(write_end, bytes(65536))
        os.set_blocking(write_end, True)
        if reader == "gone":
            os.close(read)
        command = [sys.executable, "-c", TWICE]
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=write_end, timeout=30, check=False)
        assert (ended.returncode, ended.stdout) == (130, b"")
    finally:
        os.close(write_end)
        if reader == "asleep":
            os.close(read)


def test_a_run_that_is_killed_has_told_who_subscribes(tmp_path: Path) -> None:
    """So that what was recorded can be told by name, and be shown over time; also while the steady state is judged."""
    steady = "steady: {for: 1s, expect: [{error_budget: {max_ratio: 0, subscribers: [billing]}}]}\n"
    process = in_its_midst(tmp_path, "run", LONG + steady, count=300)  # of which the first 200 are written by then
    process.kill()
    finished(process)
    (folder,) = tmp_path.glob("runs/long/2*")
    with open_history(folder / "history", tmp_path) as db:
        assert db.execute("SELECT name, join_ok IS NOT NULL, leave_ok FROM subscription").fetchall() == [
            ("billing", True, None)
        ]
        ((event,),) = db.execute("SELECT min(event) FROM attempt").fetchall()
        measured = measure(db, RunFacts())
    assert measured is not None
    (billing,) = measured.subscribers
    assert sum(billing.handled) >= 200
    told = finished(child(tmp_path, "why", "long", str(event)))
    assert "handled by billing" in told.out, told
