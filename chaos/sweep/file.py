"""A sweep as a file: `sweep.json`, in a folder of its own under `sweeps/` of the runs folder.

Version 1: the fields of `Sweep` by name. Runs are named as `squall runs` names them; infinite figures are the text
"Infinity". A later version may add fields; one that changes their meaning gets another number.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from squall.chaos.sweep.knee import CONFIDENCE, Knee
from squall.chaos.sweep.plan import Outcome, State
from squall.chaos.whole_file import read_document, write_document
from squall.core.clock import Clock
from squall.core.errors import ConfigError, Problem, StoreFileError

VERSION = 1
SWEEPS = "sweeps"
SWEEP = "sweep.json"
EXIT_CODES: dict[State, int] = {"knee": 0, "holds": 0, "broken": 1, "generator": 3, "unknown": 3}


@dataclass(frozen=True)
class Point:
    """One run of a sweep. `text` is the value as `--set` reads it, `run` its folder's name; `broke` names what did not
    hold. per_s: events acknowledged per second of load; p99_s: latency of the slowest subscriber, seconds."""

    value: float
    text: str
    seed: int
    run: str
    outcome: Outcome
    headline: str
    broke: tuple[str, ...] = ()
    asked: int = 0
    achieved: int = 0
    per_s: float | None = None
    p99_s: float | None = None


@dataclass(frozen=True)
class Level:
    """A value of the curve: how many of its runs broke, of how many that were decided, and the middle one of their
    latencies p99, seconds. `undecided`: how many were not."""

    value: float
    text: str
    decided: int
    broke: int
    undecided: int
    p99_s: float | None


@dataclass(frozen=True)
class FoundKnee:
    """The knee and its confidence interval, in the unit of the values."""

    at: float
    low: float
    high: float
    confidence: float = CONFIDENCE

    @staticmethod
    def of(knee: Knee | None) -> FoundKnee | None:
        return None if knee is None else FoundKnee(knee.at, knee.low, knee.high)


@dataclass(frozen=True, config=ConfigDict(ser_json_inf_nan="strings"))
class Sweep:
    """A sweep, over or not yet (`over`). `key` is what was raised, from low to high in `unit`; `limit` the lowest value
    at which the generator could not keep up. `cut_short`: it would go on if it had not made as many runs as it may."""

    scenario: str
    key: str
    unit: str
    low: float
    high: float
    whole: bool
    log: bool
    method: Literal["bisection", "grid"]
    repeats: int
    started: str
    over: bool = False
    interrupted: bool = False
    cut_short: bool = False
    state: State = "unknown"
    sentence: str = ""
    knee: FoundKnee | None = None
    limit: float | None = None
    points: tuple[Point, ...] = ()
    curve: tuple[Level, ...] = ()
    version: int = VERSION

    @property
    def exit_code(self) -> int:
        """0: a knee, or none in the range; 1: broken at its lowest value; 3: unknown; 130: interrupted."""
        return 130 if self.interrupted else EXIT_CODES[self.state]


_ADAPTER = TypeAdapter(Sweep)


def make_sweep_folder(runs: Path, clock: Clock, sweep_id: str) -> Path:
    """A new folder for a sweep. Raises StoreFileError."""
    stamp = datetime.fromtimestamp(clock.time_ns() / 1e9, UTC).strftime("%Y%m%d-%H%M%S")
    folder = runs / SWEEPS / f"{stamp}-{sweep_id}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise StoreFileError(
            f"{folder}: the sweep's folder cannot be made ({error.strerror or error}); use --runs with a folder that "
            "can be written"
        ) from error
    return folder


def save_sweep(sweep: Sweep, folder: Path) -> None:
    """Write sweep.json. Raises StoreFileError when it cannot be written."""
    write_document(folder / SWEEP, _ADAPTER, sweep)


def load_sweep(folder: Path) -> Sweep:
    """Read sweep.json. Raises StoreFileError when it is missing, foreign, or of another version."""
    path = folder / SWEEP
    sweep = read_document(path, _ADAPTER, "a sweep that squall wrote")
    if sweep.version != VERSION:
        raise StoreFileError(f"{path}: its version is {sweep.version}, this squall reads version {VERSION}")
    return sweep


def list_sweeps(runs: Path) -> list[Path]:
    """The folders of all sweeps, newest first."""
    return sorted((path.parent for path in runs.glob(f"{SWEEPS}/*/{SWEEP}")), key=lambda one: one.name, reverse=True)


def find_sweep(folders: Sequence[Path], name: str | None) -> Path:
    """The folder of that name; without one, the newest. Raises ConfigError that names what there is."""
    for folder in folders:
        if name in (None, folder.name):
            return folder
    there = ", ".join(folder.name for folder in folders[:3])
    raise ConfigError([Problem("SWEEP", f"there is no sweep '{name:.80}'", hint=f"the newest: {there}")])
