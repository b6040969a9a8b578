"""What was in memory before a run is no garbage while it lasts, so that the collector need not look through it."""

from __future__ import annotations

import gc
from pathlib import Path

from tests.chaos.short_run import run, scenario

from squall.chaos.targets.in_process import InProcessTarget
from squall.core.target import Counters


async def test_objects_are_set_aside_for_the_length_of_a_run(tmp_path: Path) -> None:
    """And given back to the collector afterwards: a program may go on for long."""
    seen: list[int] = []

    class Target(InProcessTarget):
        async def counters(self) -> Counters:
            seen.append(gc.get_freeze_count())
            return await super().counters()

    gc.unfreeze()  # whatever another test of this process has left
    await run(tmp_path, scenario(faults=[]), target=Target)
    assert seen[0] > 10_000  # in the drain; once more the target is asked when all is over
    assert gc.get_freeze_count() == 0
