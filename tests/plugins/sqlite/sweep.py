"""One fault after the other, at every call of a workload that changes the disk, each on a fresh file."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import apsw
from tests.plugins.sqlite.disk import Call, Disk, error_of
from tests.plugins.sqlite.workload import LIMIT_S, Told, Workload, check, make_store, stored

ROUNDS = 6
LASTING = 1 << 30


@dataclass
class Fault:
    """Fails so many calls of its sort, from a place on, until it is healed."""

    error: int
    at: int
    times: int
    bitten: Call | None = None
    healed: bool = False

    def __call__(self, call: Call) -> None:
        sort = "sync" if self.error == apsw.SQLITE_IOERR_FSYNC else "write"
        if self.healed or call.number < self.at or call.kind != sort or self.times == 0:
            return
        self.times -= 1
        self.bitten = self.bitten or call
        raise error_of(self.error)


@dataclass
class Sweep:
    """`points` counts the faults, `outcomes` what publishers were told around a fault of the log, `of_checkpoints`
    the same of faults of the database itself."""

    folder: Path
    error: int
    times: int
    points: int = 0
    outcomes: Counter[str | None] = field(default_factory=Counter)
    of_checkpoints: Counter[str | None] = field(default_factory=Counter)

    async def run(self) -> None:
        """Raises AssertionError where an answer turns out to be false, TimeoutError where there is none."""
        at = 0
        while (bitten_at := await self.fault_at(at)) is not None:
            at = bitten_at + 1
            self.points += 1

    async def fault_at(self, at: int) -> int | None:
        """Work with a fault at that place or after it; where it met a call, if it did."""
        folder = self.folder / str(at)
        folder.mkdir()
        disk = Disk()
        work = Workload(make_store(folder / "squall.db", vfs=disk.name))
        deaths = _Deaths(folder, work)
        try:
            async with asyncio.timeout(LIMIT_S):
                await work.open()
                begun = disk.calls
                disk.on_call = fault = Fault(self.error, begun + at, self.times)
                work.refused = lambda: deaths.note(disk.copy, at_most=2)
                await work.work(ROUNDS)
                outcomes = Counter(work.told.outcomes)
                deaths.note(disk.cut)
                fault.healed = True
                await work.go_on()
                deaths.note(disk.cut)
        finally:
            disk.on_call = None
            await work.store.close()
        found = await stored(folder / "squall.db")
        check(work.told, found)
        assert len(work.announced) == len(found.events), "something is stored that was never announced"
        await deaths.check()
        if fault.bitten is None:
            return None
        (self.outcomes if fault.bitten.suffix == "-wal" else self.of_checkpoints).update(outcomes)
        return fault.bitten.number - begun


@dataclass
class _Deaths:
    """Copies of the files as of some moment: what was told by then must hold there too."""

    folder: Path
    work: Workload
    noted: list[tuple[Told, Path]] = field(default_factory=list)

    def note(self, copy: Callable[[Path], None], at_most: int = 10) -> None:
        """The process dies now, or the power is cut: copy makes what is found afterwards."""
        if len(self.noted) >= at_most:
            return
        to = self.folder / f"death-{len(self.noted)}"
        to.mkdir()
        self.noted.append((self.work.told, to))
        copy(to)

    async def check(self) -> None:
        for told, folder in self.noted:
            check(told, await stored(folder / "squall.db"))
