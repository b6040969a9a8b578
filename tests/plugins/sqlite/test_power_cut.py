"""The power is cut at every call that changes the disk: what is lost, and what must not be."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

import pytest
from tests.fast import first
from tests.plugins.sqlite.disk import Call, Disk
from tests.plugins.sqlite.workload import LIMIT_S, Told, Workload, check, make_store, stored

pytestmark = pytest.mark.usefixtures("in_a_hurry")

ROUNDS = 7


@dataclass
class Cut:
    """The power was cut: what was told by then, and the folder that the machine finds when it starts again."""

    told: Told
    folder: Path


async def cuts(folder: Path, durability: Literal["process", "disk"], seed: int | None) -> list[Cut]:
    """A workload, cut at each of its calls. Without a seed nothing survives that was not synced."""
    disk = Disk()
    work = Workload(make_store(folder / "squall.db", durability, disk.name))
    made: list[Cut] = []

    def cut(call: Call) -> None:
        at = folder / str(call.number)
        at.mkdir()
        made.append(Cut(work.told, at))
        disk.cut(at, None if seed is None else Random(f"{seed}:{call.number}"))

    async with asyncio.timeout(LIMIT_S):
        await work.open()
        disk.on_call = cut
        await work.work(ROUNDS)
        await work.store.close()
    return made


async def lost(cut: Cut) -> str | None:
    """What was lost that should not be."""
    try:
        check(cut.told, await stored(cut.folder / "squall.db"))
    except AssertionError as broken:
        return str(broken)
    return None


@pytest.mark.parametrize("seed", first(1, [None, 1, 2]), ids=["all-unsynced-lost", "some-sectors-1", "some-sectors-2"])
async def test_what_was_acknowledged_at_disk_survives_a_power_cut(seed: int | None, tmp_path: Path) -> None:
    """Also half-written groups, checkpoints and logs that begin anew: wherever it is cut."""
    made = await cuts(tmp_path, "disk", seed)
    assert len(made) > 25
    assert any(cut.told.high for cut in made)
    for cut in made:
        assert await lost(cut) is None, cut


async def test_the_control_at_process_loses_acknowledged_events(tmp_path: Path) -> None:
    """Or the disk of these tests would not forget, and the test above would prove nothing."""
    made = await cuts(tmp_path, "process", None)
    losses = [await lost(cut) for cut in made]
    assert sum("acknowledged and is lost" in (loss or "") for loss in losses) > len(made) // 4


async def test_a_store_that_lost_events_to_a_power_cut_goes_on(tmp_path: Path) -> None:
    """At `process`: what is left is whole up to some event, and new events are numbered above it."""
    made = await cuts(tmp_path, "process", 3)
    work = Workload(make_store(made[-1].folder / "squall.db"))
    await work.open()
    before = await work.store.counts()
    assert before.events == before.head_seq
    await work.go_on()
    assert work.announced[0].seq == before.head_seq + 1
    await work.store.close()
