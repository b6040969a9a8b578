"""Rounds in fresh child processes, and what is made of their figures: the one runner of all benchmarks.

A function that measures is named by its module and takes what JSON can hold; it answers figures by name. It runs in a
process of its own, so that no case finds caches, garbage or a loop that another one left. In a trial, whose figures
mean nothing, the cases of a round share one: most of what they would take is to start.
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
    """How much is measured: alternating rounds, and the share of the full number of events in each. `apart`: each case
    in a process of its own."""

    rounds: int
    share: float
    name: str
    apart: bool = True

    def of(self, count: int) -> int:
        """So many of `count`, in hundreds, at least 100."""
        return max(100, round(count * self.share / 100) * 100)


FULL = Scale(rounds=5, share=1.0, name="in full")
QUICK = Scale(rounds=1, share=0.02, name="a trial of a few events, whose figures mean nothing", apart=False)


def progress(text: str) -> None:
    """Tell who waits what is being done."""
    print(text, file=sys.stderr, flush=True)


def child(measure: Measure, **arguments: object) -> Sample:
    """The figures that measure(**arguments) answers in a fresh process. Raises RuntimeError where it fails."""
    (found,) = _child(measure, [arguments])
    return found


def _child(measure: Measure, cases: Sequence[Mapping[str, object]]) -> list[Sample]:
    """As child, of several cases, one after the other."""
    command = [sys.executable, "-m", __name__, measure.__module__, measure.__qualname__, json.dumps(cases)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{measure.__qualname__}({cases}) exited {done.returncode}:\n{done.stderr[-2000:]}")
    found: list[Sample] = json.loads(done.stdout.splitlines()[-1])
    return found


def alternate(
    measure: Measure, cases: Mapping[str, Mapping[str, object]], scale: Scale, what: str
) -> dict[str, list[Sample]]:
    """As many rounds as the scale says, each of which runs every case once; cases are arguments by name."""
    found: dict[str, list[Sample]] = {case: [] for case in cases}
    for number in range(1, scale.rounds + 1):
        progress(f"{what}: round {number} of {scale.rounds}")
        given = list(cases.values())
        samples = [child(measure, **one) for one in given] if scale.apart else _child(measure, given)
        for case, sample in zip(cases, samples, strict=True):
            found[case].append(sample)
    return found


def median(samples: Sequence[Sample], figure: str) -> float:
    """The median of one figure over all rounds."""
    return statistics.median(sample[figure] for sample in samples)


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample], figure: str) -> float:
    """The median over all rounds of the ratio of one figure, ours to theirs, within a round."""
    return statistics.median(a[figure] / b[figure] for a, b in zip(ours, theirs, strict=True))


def _answer(module: str, name: str, cases: str) -> None:
    measure = getattr(import_module(module), name)
    gc.collect()
    with heap_set_aside():  # else full passes of the collector are in every case's figures
        answers = (measure(**arguments) for arguments in json.loads(cases))
        print(json.dumps([asyncio.run(answer) if inspect.iscoroutine(answer) else answer for answer in answers]))


if __name__ == "__main__":
    _answer(*sys.argv[1:])
