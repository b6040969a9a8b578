"""Watches what a run's target holds while the load goes on: memory, objects, handles, threads, tasks, and its store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

from squall.chaos.footprint import footprint
from squall.chaos.history import NULL
from squall.chaos.load import LoadGenerator
from squall.chaos.processes import Processes
from squall.chaos.recorder import Recorder
from squall.chaos.rows import Table
from squall.core.target import Target

SAMPLES = 600
LEAST_S, MOST_S = 0.05, 30.0
WRITTEN = 25
COUNT_NS = 1_000_000_000
STORE = "store"
COLUMNS = (
    "pid", "time", "events", "memory", "objects", "handles", "threads", "tasks", "store", "kept", "waiting",
)  # fmt: skip


class Samples:
    """The samples of one run, over a load of load_s: of the processes that its target has brought along, or else of the
    bench's own, in which the target is."""

    def __init__(
        self,
        recorder: Recorder,
        target: Target,
        folder: Path,
        load_s: float,
        processes: Processes,
        generator: LoadGenerator,
    ) -> None:
        self._recorder, self._target, self._store = recorder, target, folder / STORE
        self._processes, self._generator = processes, generator
        self._every_s = min(MOST_S, max(LEAST_S, load_s / SAMPLES))
        self._rows = Table("sample", COLUMNS, recorder.write)
        self._kept, self._pending, self._count_ns = NULL, 0, 0

    async def prepare(self) -> None:
        """Sample once, and have it written: what writing takes for the first time, tens of megabytes, is there then."""
        await self._look()
        self.flush()
        await self._recorder.flush()

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            for _ in range(WRITTEN):
                await self._look()
                await self._recorder.clock.sleep(self._every_s)
            self.flush()

    def flush(self) -> None:
        """Have what is not written yet be written: samples that pile up would look like growth themselves."""
        self._rows.flush()

    async def _look(self) -> None:
        if self._recorder.now() >= self._count_ns:
            sums = await self._target.counters()
            self._kept = NULL if sums.stored is None else sums.stored
            self._pending = sum(one.pending or 0 for one in sums.subscribers.values())
            self._count_ns = self._recorder.now() + COUNT_NS
        for pid in self._processes.brought() or [os.getpid()]:
            self._sample(pid)

    def _sample(self, pid: int) -> None:
        held = footprint(pid)
        if held is None:  # it has just ended
            return
        memory, objects, tasks = held.memory, NULL, NULL
        if pid == os.getpid():  # what the bench itself is known to keep is no growth of the target
            own_bytes, own_objects = self._recorder.held
            memory, objects = held.memory - own_bytes, sys.getallocatedblocks() - own_objects
            tasks = len(asyncio.all_tasks()) - self._generator.publishers
        self._rows.add(
            [
                pid, self._recorder.now(), self._recorder.acknowledged, memory, objects, held.handles, held.threads,
                tasks, self._store_bytes(), self._kept, self._pending + self._generator.in_flight,
            ]
        )  # fmt: skip

    def _store_bytes(self) -> int:
        """The size of the store's files; NULL where it keeps none."""
        if not self._store.is_dir():
            return NULL
        size = 0
        for path in self._store.iterdir():
            with contextlib.suppress(FileNotFoundError):  # a journal that is gone since
                size += path.stat().st_size
        return size
