"""What a live run tells of its target: figures that are true now, or none."""

from __future__ import annotations

import asyncio
from pathlib import Path

from squall import VirtualClock
from squall.chaos.history import HistoryWriter
from squall.chaos.recorder import Recorder
from squall.chaos.targets.in_process import InProcessTarget
from squall.chaos.watch import Progress, Watch
from squall.core.target import Counters, SubscriberCounts

NO_COUNTS = SubscriberCounts(None, None, None, None, None, None)
SECOND_NS = 1_000_000_000


class Unreachable(InProcessTarget):
    """Its first count takes five seconds; nothing is pending by the second."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock, self.asked_ns = clock, list[int]()

    async def describe(self) -> str:
        return "slow"

    async def counters(self) -> Counters:
        self.asked_ns.append(self.clock.monotonic_ns())
        if len(self.asked_ns) == 1:
            await self.clock.sleep(5)
            return Counters(7, {"billing": NO_COUNTS._replace(pending=7, dead_lettered=1)})
        return Counters(7, {"billing": NO_COUNTS._replace(pending=0, dead_lettered=1)})


async def test_a_count_that_took_long_is_not_told_for_long(tmp_path: Path) -> None:
    """What it cost is no reason to count no more, nor to tell for minutes what was true once."""
    clock, told = VirtualClock(), list[tuple[int, Progress]]()
    recorder, target = Recorder(HistoryWriter(tmp_path / "history"), clock, bytes(8)), Unreachable(clock)
    began_ns = clock.monotonic_ns()
    watch = Watch(recorder, target, lambda now: told.append((clock.monotonic_ns() - began_ns, now)), None)
    running = asyncio.create_task(watch.run())
    for _ in range(45 * 4):
        await clock.advance(0.25)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    def pending(from_s: float, to_s: float) -> set[int | None]:
        return {now.pending for at_ns, now in told if from_s * SECOND_NS <= at_ns < to_s * SECOND_NS}

    assert pending(6, 14) == {7}
    assert pending(17, 35) == {None}
    assert pending(37, 44) == {0}
