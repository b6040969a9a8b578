"""Live progress: what a frame shows, and what a real terminal gets."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.chaos.cli.command import CALM, LOSS, write

from squall.chaos.cli.live import Live
from squall.chaos.fault_run import FaultProgress
from squall.chaos.present_progress import Frames, bar, fault_lines, plain_line
from squall.chaos.scenario import make_scenario
from squall.chaos.watch import Progress
from squall.core.yaml_source import parse_document

SCENARIO = make_scenario(parse_document(CALM, "calm.yaml"))
ACTIVE = FaultProgress("outage", "exception", "handler:billing", 0.3, "active", -4.0, 8.0, 1812)
PLANNED = FaultProgress("refuse", "write-error", "storage:events", 1.0, "planned", 4.2, 3.0, 0)
HEALED = FaultProgress("slow", "slow", "handler:billing", 1.0, "healed", -9.0, 3.0, 12)
LOAD = Progress(
    target="in-process · memory",
    phase="load",
    phase_s=12.0,
    total_s=50.0,
    asked=2000.0,
    achieved=1998.4,
    acknowledged=24_000,
    refused=3,
    handled=23_000,
    in_flight=214,
    pending=1506,
    dead_lettered=7,
    p99_s=0.012,
    lag_s=0.05,
    faults=(HEALED, ACTIVE, PLANNED),
)


def shown(*moments: Progress, width: int = 80) -> str:
    """The last frame of these moments."""
    frames = Frames(SCENARIO)
    for moment in moments:
        lines = frames.lines(moment, width)
    return "\n".join(line.plain for line in lines)


def test_a_frame_of_the_load_shows_what_people_watch() -> None:
    """Rate asked and achieved, what waits, and each fault: over, active with its hits, planned with its time."""
    text = shown(LOAD)
    for words in (
        "12/50 s   2,000/s asked, 1,998 acknowledged",
        "in flight 214 · pending 1,506 · refused 3 · dead letters 7 · p99 12 ms · loop lag 50 ms",
        "in-process · memory",
    ):
        assert words in " ".join(text.split("\n")) or words in " ".join(text.split())
    assert re.search(r"slow on handler:billing +✓ 12 hits", text)
    assert re.search(r"exception on handler:billing \(30 %\) +━━━━━───── 1,812 hits", text)
    assert re.search(r"write-error on storage:events +in 4 s", text)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_frame_fits_the_terminal(width: int) -> None:
    """A line that wraps would be drawn over the wrong one."""
    assert all(len(line) <= width for line in shown(LOAD, width=width).splitlines())


def test_phases_that_are_over_stay_in_sight() -> None:
    """With what they came to."""
    steady = replace(LOAD, phase="steady", phase_s=5.0, total_s=5.0, faults=(), p99_s=0.003)
    drain = replace(LOAD, phase="drain", phase_s=1.0, total_s=60.0)
    text = shown(steady, LOAD, replace(LOAD, phase="heal"), drain)
    assert "steady   ✓ 5.0 s at 200/s, p99 3 ms" in text
    assert "load     ✓ 12.0 s, 24,000 acknowledged, 3 refused or unknown" in text
    assert "faults   ✓ healed: slow 12 hits · outage 1,812 hits" in text
    assert "drain    1 s of at most 60 s" in text


def test_of_many_faults_those_that_are_over_give_way() -> None:
    """What acts and what comes is shown; how many more there are is said."""
    over = [replace(HEALED, id=f"h{n}", on=f"handler:h{n}") for n in range(6)]
    text = "\n".join(line.plain for line in fault_lines([*over, ACTIVE, PLANNED], 80))
    assert "exception on" in text
    assert "write-error on" in text
    assert "and 2 more" in text


@pytest.mark.parametrize(("share", "drawn"), [(-1, "────"), (0.5, "━━──"), (0.625, "━━╸─"), (1, "━━━━"), (7, "━━━━")])
def test_a_bar_never_leaves_its_box(share: float, drawn: str) -> None:
    """Whatever the share."""
    assert bar(share, 4, "").plain == drawn


def test_without_a_terminal_a_moment_is_one_line() -> None:
    """Phase, rates, what waits, faults that act."""
    assert plain_line(LOAD) == (
        "  load     12/50 s · 2,000/s asked, 1,998 acknowledged · in flight 214 · pending 1,506 · refused 3 · "
        "dead letters 7 · p99 12 ms · loop lag 50 ms · outage 1,812 hits"
    )


def test_handlers_that_ignore_their_cancellation_are_counted_where_there_are_any() -> None:
    """On a terminal and without one."""
    assert "abandoned" not in plain_line(LOAD) + shown(LOAD)
    some = replace(LOAD, abandoned=1234)
    assert " · dead letters 7 · abandoned 1,234 · " in plain_line(some)
    assert "abandoned 1,234" in shown(some, width=120)


def test_a_fault_that_counts_at_its_end_is_on_until_then() -> None:
    """`0 hits` would say that it does nothing. What it counted is told once it is over."""
    cut = FaultProgress("cut", "down", "net:redis", 1.0, "active", -1.0, 8.0, 0)
    (line,) = fault_lines([cut], 80)
    assert re.search(r"down on net:redis +━.+─ on$", line.plain), line.plain
    assert plain_line(replace(LOAD, faults=(cut,))).endswith(" · cut on")
    (line,) = fault_lines([replace(cut, state="healed", hits=3)], 80)
    assert line.plain.endswith("✓ 3 hits")


def test_without_a_terminal_a_phase_tells_of_itself_after_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    """When it begins, after a second, and then every five: not only after five."""
    with Live(SCENARIO) as live:
        for quarter in range(45):
            live.show(replace(LOAD, phase_s=quarter / 4))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  load")]
    assert [line.split("/")[0].split()[-1] for line in lines] == ["0", "1", "5", "10"]


def on_a_terminal(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command on a pseudo-terminal of 80 columns: exit code and everything that was written to it."""
    parent, terminal = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"} | (env or {})
    with subprocess.Popen(
        [sys.executable, "-m", "squall", *arguments],
        cwd=folder, env=environment, stdin=terminal, stdout=terminal, stderr=terminal,
    ) as process:  # fmt: skip
        os.close(terminal)
        said = b""
        while True:
            try:
                part = os.read(parent, 65536)
            except OSError:  # the other end is closed: that is how a pty says so
                break
            said += part
        os.close(parent)
    return process.returncode, said.decode()


@pytest.mark.slow  # a whole run
def test_a_terminal_gets_colours_and_one_frame_over_the_other(tmp_path: Path) -> None:
    """The cursor goes up between frames and is shown again at the end; the verdict stays below."""
    code, said = on_a_terminal(tmp_path, "run", str(write(tmp_path / "loss.yaml", LOSS)))
    assert code == 1
    assert "\x1b[1A" in said
    assert said.index("\x1b[?25l") < said.rindex("\x1b[?25h") < said.index("INVALID")
    assert re.search(r"\x1b\[1;31mINVALID", said)


@pytest.mark.slow  # a whole run
def test_no_color_is_kept_to(tmp_path: Path) -> None:
    """Neither colour nor weight; the progress is still drawn."""
    code, said = on_a_terminal(tmp_path, "run", str(write(tmp_path / "loss.yaml", LOSS)), env={"NO_COLOR": "1"})
    assert code == 1
    assert re.findall(r"\x1b\[[0-9;]*m", said) == []
    assert "\x1b[1A" in said
