"""Sweeps made by hand: what every kind of run of a sweep comes to, without any being run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from squall.chaos.report.sweep_page import write_sweep_report
from squall.chaos.sweep.drive import Asked, concluded
from squall.chaos.sweep.file import SWEEPS, Point, Sweep, save_sweep
from squall.chaos.sweep.plan import Outcome, Plan
from squall.chaos.sweep.values import read_range

NAME = "20260102-000000-abc123"
RUNS = ("capacity/20260101-000000-abc123",)
OUTCOMES: tuple[tuple[int, Outcome, float], ...] = (
    (10, "held", 0.021),
    (20, "held", 0.024),
    (40, "broke", 0.9),
    (30, "broke", 0.4),
    (80, "unknown", 0.3),
    (100, "generator", 4.0),
)
"""In the order of the runs: the rate, what came out, the latency p99 in seconds."""


def sweep(
    runs: Sequence[str] = RUNS, scenario: str = "capacity", key: str = "rate", broke: Sequence[str] = ("latency p99",)
) -> Sweep:
    """A sweep over a rate of 10 to 100, with a knee between 20 and 30; at 100 the generator sent 70 of 100 events."""
    points = [
        Point(
            value,
            str(value),
            number,
            runs[number % len(runs)],
            outcome,
            f"headline of {value}",
            tuple(broke) if outcome == "broke" else (),
            100,
            70 if outcome == "generator" else 100,
            float(value),
            p99_s,
        )
        for number, (value, outcome, p99_s) in enumerate(OUTCOMES)
    ]
    values = read_range("10", "100", log=False)
    asked = Asked(scenario, key, values, Plan(values.grid(2, log=False), whole=True))
    begun = Sweep(scenario, key, "", 10, 100, True, False, "bisection", 5, "2026-01-02T00:00:00+00:00", over=True)
    return concluded(begun, asked, points, interrupted=False)


def sweep_folder(runs: Path, made: Sweep | None = None, name: str = NAME) -> Path:
    """The sweep's folder in the folder of runs, its page in it where it is over."""
    folder, made = runs / SWEEPS / name, made or sweep()
    folder.mkdir(parents=True)
    save_sweep(made, folder)
    if made.over:
        write_sweep_report(made, folder)
    return folder


def begun(made: Sweep) -> Sweep:
    """The same while it goes on: after its first run."""
    return replace(
        made, over=False, state="unknown", knee=None, limit=None, points=made.points[:1], curve=made.curve[:1]
    )
