"""Rounds in fresh child processes, and what is made of their figures: the one runner of all benchmarks.

A function that measures is named by its module and takes what JSON can hold; it answers figures by name. It runs in a
process of its own, so that no case finds caches, garbage or a loop that another one left.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from squall.core.heap import heap_set_aside

ROOT = Path(__file__).resolve().parents[2]
CHILD_TIMEOUT_S = 300.0

Sample: TypeAlias = dict[str, float]
Measure: TypeAlias = Callable[..., "Sample | Coroutine[Any, Any, Sample]"]


@dataclass(frozen=True)
class Scale:
    """How much is measured: alternating rounds, and the share of the full number of events in each."""

    rounds: int
    share: float
    name: str

    def of(self, count: int) -> int:
        """So many of `count`, in hundreds, at least 100."""
        return max(100, round(count * self.share / 100) * 100)


FULL = Scale(rounds=5, share=1.0, name="in full")
QUICK = Scale(rounds=1, share=0.02, name="a trial of a few events, whose figures mean nothing")


def progress(text: str) -> None:
    """Tell who waits what is being done."""
    print(text, file=sys.stderr, flush=True)


def child(measure: Measure, **arguments: object) -> Sample:
    """The figures that measure(**arguments) answers in a fresh process. Raises RuntimeError where it fails."""
    command = [sys.executable, "-m", __name__, measure.__module__, measure.__qualname__, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{measure.__qualname__}({arguments}) exited {done.returncode}:\n{done.stderr[-2000:]}")
    found: Sample = json.loads(done.stdout.splitlines()[-1])
    return found


def alternate(
    measure: Measure, cases: Mapping[str, Mapping[str, object]], count: int, what: str
) -> dict[str, list[Sample]]:
    """`count` rounds, each of which runs every case once; cases are arguments by name."""
    found: dict[str, list[Sample]] = {case: [] for case in cases}
    for number in range(1, count + 1):
        progress(f"{what}: round {number} of {count}")
        for case, arguments in cases.items():
            found[case].append(child(measure, **arguments))
    return found


def median(samples: Sequence[Sample], figure: str) -> float:
    """The median of one figure over all rounds."""
    return statistics.median(sample[figure] for sample in samples)


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample], figure: str) -> float:
    """The median over all rounds of the ratio of one figure, ours to theirs, within a round."""
    return statistics.median(a[figure] / b[figure] for a, b in zip(ours, theirs, strict=True))


def _answer(module: str, name: str, arguments: str) -> None:
    measure = getattr(import_module(module), name)
    gc.collect()
    with heap_set_aside():  # else full passes of the collector are in every case's figures
        answer = measure(**json.loads(arguments))
        print(json.dumps(asyncio.run(answer) if inspect.iscoroutine(answer) else answer))


if __name__ == "__main__":
    _answer(*sys.argv[1:])
