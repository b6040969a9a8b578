"""Durable events a second: published, on disk, handled, acknowledged on disk; squall beside its limit.

The limit is held within 5 % of the design's limit programs. To compare: on a quiet machine run those (cases `stream`
and `await`, 1 and 10 subscribers, both levels of `synchronous`), then `python -m tests.benchmarks --only durable`: the
limit's figures must be the same or higher here.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.benchmarks.limits.durable import DurableLimit
from tests.benchmarks.load import PAYLOAD_BYTES, TYPE, Tally
from tests.benchmarks.rounds import Sample, Scale, alternate
from tests.benchmarks.table import Bar, Row, compare

from squall import Event, EventData, EventRouter, Priority, Retry
from squall.plugins.breaker import BreakerPlugin
from squall.plugins.metrics import MetricsPlugin
from squall.plugins.retry import RetryPlugin
from squall.plugins.sqlite import SqlitePlugin

PAYLOAD = b"x" * PAYLOAD_BYTES
PUBLISHERS = 128
BATCH = 100
OUTSTANDING = 2_000
RETRIED = 100
EVENTS = 40_000


@dataclass(frozen=True)
class Job:
    """What is measured. `alone`: each publish awaits its own receipt; else they come a hundred at a time."""

    durability: Literal["process", "disk"]
    fan: int
    alone: bool
    bar: Bar | None


JOBS = {
    "disk, 1 subscriber": Job("disk", 1, alone=False, bar=Bar("≥", 0.7)),
    "disk, 10 subscribers": Job("disk", 10, alone=False, bar=Bar("≥", 0.5)),
    "process, 1 subscriber": Job("process", 1, alone=False, bar=None),
    f"disk, {PUBLISHERS} publishers, each awaits its receipt": Job("disk", 1, alone=True, bar=Bar("≥", 0.7)),
}


class Limit:
    """The least that must be done."""

    def __init__(self, folder: Path, job: Job, tally: Tally) -> None:
        self._store = DurableLimit(folder / "limit.db", job.durability, job.fan, tally.count)

    def publish_many(self, number: int) -> None:
        publish = self._store.publish
        for _ in range(number):
            publish(PAYLOAD)

    def publish(self) -> Awaitable[object]:
        return self._store.publish_and_wait(PAYLOAD)

    async def close(self) -> None:
        self._store.close()


class Squall:
    """A router with its default plugins; priorities are mixed 1 : 2 : 6 : 1, every hundredth event fails at first."""

    def __init__(self, folder: Path, job: Job) -> None:
        store = SqlitePlugin(path=str(folder / "squall.db"), durability=job.durability)
        self._router = EventRouter([store, RetryPlugin(base="1ms", cap="5ms"), BreakerPlugin(), MetricsPlugin()])
        self._publisher = self._router.publisher("bench")
        levels = [Priority.CRITICAL, *[Priority.HIGH] * 2, *[Priority.NORMAL] * 6, Priority.LOW]
        self._batch = [EventData(TYPE, PAYLOAD, levels[number * 7 % 10]) for number in range(BATCH)]
        self._next_level = itertools.cycle(levels).__next__

    async def start(self, fan: int, tally: Tally) -> None:
        """Start, with so many durable subscriptions."""
        await self._router.start()
        for number in range(fan):
            failed: set[int] = set()

            async def handle(event: Event, failed: set[int] = failed) -> None:
                if event.seq % RETRIED == 0 and event.seq not in failed:
                    failed.add(event.seq)
                    raise Retry
                tally.handled += 1

            name = f"bench-{number}"
            await self._router.subscriber(name).subscribe("order.>", handle, name=name, in_flight=2 * OUTSTANDING)

    def publish_many(self, number: int) -> Awaitable[object]:
        return self._publisher.publish_batch(self._batch[:number])

    def publish(self) -> Awaitable[object]:
        return self._publisher.publish(TYPE, PAYLOAD, self._next_level())

    async def close(self) -> None:
        await self._router.stop()


async def stream(system: Limit | Squall, tally: Tally, events: int, fan: int) -> None:
    """A hundred at a time, at most so many events on their way."""
    waits: set[asyncio.Future[object]] = set()
    for published in range(BATCH, events + 1, BATCH):
        wait = system.publish_many(BATCH)
        if wait is not None:
            task = asyncio.ensure_future(wait)
            waits.add(task)
            task.add_done_callback(waits.discard)
        await asyncio.sleep(0)
        while published * fan - tally.handled > OUTSTANDING * fan:  # noqa: ASYNC110
            await asyncio.sleep(0.0005)


async def alone(system: Limit | Squall, events: int) -> None:
    """Many publishers, each with one event on its way."""

    async def publish(times: int) -> None:
        for _ in range(times):
            await system.publish()

    await asyncio.gather(*(publish(events // PUBLISHERS) for _ in range(PUBLISHERS)))


async def once(job: str, case: str, events: int) -> Sample:
    """`events` a second, from the first publish until all were handled."""
    asked, tally = JOBS[job], Tally()
    events -= events % (PUBLISHERS if asked.alone else BATCH)
    with tempfile.TemporaryDirectory() as folder:
        system: Limit | Squall
        if case == "limit":
            system = Limit(Path(folder), asked, tally)
        else:
            system = Squall(Path(folder), asked)
            await system.start(asked.fan, tally)
        gc.collect()
        began = time.perf_counter()
        await (alone(system, events) if asked.alone else stream(system, tally, events, asked.fan))
        while tally.handled < events * asked.fan:  # noqa: ASYNC110
            await asyncio.sleep(0.0005)
        took_s = time.perf_counter() - began
        await system.close()
    return {"events": events / took_s}


def measure(scale: Scale) -> list[Row]:
    """Every job, in a folder of its own each time."""
    rows = []
    for name, job in JOBS.items():
        events = max(PUBLISHERS, scale.of(EVENTS))
        cases = {case: {"job": name, "case": case, "events": events} for case in ("squall", "limit")}
        found = alternate(once, cases, scale, f"durable: {name}")
        rows.append(
            compare("durable", name, "events/s", "events", found["squall"], found["limit"], "limit on disk", job.bar)
        )
    return rows
