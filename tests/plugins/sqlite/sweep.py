"""One fault after the other, at every call of a workload that changes the disk, each on a fresh file."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import apsw
from tests.plugins.sqlite.disk import Call, Disk
from tests.plugins.sqlite.workload import LIMIT_S, Workload, check, error_of, make_store, stored

ROUNDS = 7


@dataclass
class Fault:
    """Fails the first call of its sort at or after a place: that one only, or all that follow until it is healed."""

    error: int
    at: int
    lasting: bool
    bitten: Call | None = None
    healed: bool = False

    def __call__(self, call: Call) -> None:
        sort = "sync" if self.error == apsw.SQLITE_IOERR_FSYNC else "write"
        if self.healed or call.number < self.at or call.kind != sort or (self.bitten and not self.lasting):
            return
        self.bitten = self.bitten or call
        raise error_of(self.error)


@dataclass
class Sweep:
    """`points` counts the faults, `outcomes` what publishers got other than ok, by the file that the fault met."""

    folder: Path
    error: int
    lasting: bool
    outcomes: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    points: int = 0

    async def run(self) -> None:
        """Raises AssertionError where an answer turns out to be false, TimeoutError where there is none."""
        at = 0
        while (bitten_at := await self.fault_at(at)) is not None:
            at = bitten_at + 1
            self.points += 1

    async def fault_at(self, at: int) -> int | None:
        """Work with a fault at that place or after it; where it met a call, if it did."""
        path = self.folder / f"{at}.db"
        disk = Disk()
        work = Workload(make_store(path, vfs=disk.name))
        async with asyncio.timeout(LIMIT_S):
            await work.open()
            begun = disk.calls
            disk.on_call = fault = Fault(self.error, begun + at, self.lasting)
            await work.work(ROUNDS)
            told = work.told
            await self._check_power_cut(work, disk, f"{at}-ill")
            fault.healed = True
            await work.go_on()
            await self._check_power_cut(work, disk, f"{at}-healed")
            await work.store.close()
        check(work.told, await stored(path))
        if fault.bitten is None:
            return None
        self.outcomes.update((fault.bitten.suffix, outcome) for outcome in told.outcomes if outcome != "ok")
        return fault.bitten.number - begun

    async def _check_power_cut(self, work: Workload, disk: Disk, name: str) -> None:
        """What was told must hold too if the power is cut now."""
        folder = self.folder / name
        folder.mkdir()
        told = work.told
        disk.cut(folder)
        check(told, await stored(next(folder.glob("*.db"))))
