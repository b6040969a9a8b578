"""Durable events a second: published, on disk, handled, acknowledged on disk; squall beside its limit, a process each.

python -m tests.benchmarks.durable [JOB …] [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.benchmarks.limits.durable import DurableLimit

from squall import Event, EventData, EventRouter, Priority, Retry
from squall.plugins.breaker import BreakerPlugin
from squall.plugins.metrics import MetricsPlugin
from squall.plugins.retry import RetryPlugin
from squall.plugins.sqlite import SqlitePlugin

PAYLOAD = b"x" * 200
PUBLISHERS = 128
BATCH = 100
OUTSTANDING = 2_000
RETRIED = 100
ROUNDS, EVENTS = 5, 40_000
ROUNDS_QUICK, EVENTS_QUICK = 3, 10_000


@dataclass(frozen=True)
class Job:
    """What is measured. `alone`: each publish awaits its own receipt; else they come a hundred at a time."""

    name: str
    durability: Literal["process", "disk"]
    fan: int
    alone: bool
    bar: float | None


@dataclass(frozen=True)
class Row:
    """Medians of alternating rounds: squall's figure, the limit's, and of the ratios in each round."""

    job: str
    squall: float
    limit: float
    ratio: float
    bar: float | None
    unit: str


JOBS = (
    Job("disk, 1 subscriber", "disk", 1, alone=False, bar=0.7),
    Job("disk, 10 subscribers", "disk", 10, alone=False, bar=0.5),
    Job("process, 1 subscriber", "process", 1, alone=False, bar=None),
    Job("disk, 128 publishers await", "disk", 1, alone=True, bar=0.7),
)


class Count:
    """Calls of handlers."""

    def __init__(self) -> None:
        self.handled = 0

    async def handle(self, payload: bytes) -> None:
        """Counts."""
        self.handled += 1


class Limit:
    """The least that must be done."""

    def __init__(self, folder: Path, job: Job, count: Count) -> None:
        self._store = DurableLimit(folder / "limit.db", job.durability, job.fan, count.handle)

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
        self._batch = [EventData("order.created", PAYLOAD, levels[number * 7 % 10]) for number in range(BATCH)]
        self._next_level = itertools.cycle(levels).__next__

    async def start(self, fan: int, count: Count) -> None:
        """Start, with so many durable subscriptions."""
        await self._router.start()
        for number in range(fan):
            failed: set[int] = set()

            async def handle(event: Event, failed: set[int] = failed) -> None:
                if event.seq % RETRIED == 0 and event.seq not in failed:
                    failed.add(event.seq)
                    raise Retry
                count.handled += 1

            name = f"bench-{number}"
            await self._router.subscriber(name).subscribe("order.>", handle, name=name, in_flight=2 * OUTSTANDING)

    def publish_many(self, number: int) -> Awaitable[object]:
        return self._publisher.publish_batch(self._batch[:number])

    def publish(self) -> Awaitable[object]:
        return self._publisher.publish("order.created", PAYLOAD, self._next_level())

    async def close(self) -> None:
        await self._router.stop()


async def stream(system: Limit | Squall, count: Count, events: int, fan: int) -> None:
    """A hundred at a time, at most so many events on their way."""
    waits: set[asyncio.Future[object]] = set()
    for published in range(BATCH, events + 1, BATCH):
        wait = system.publish_many(BATCH)
        if wait is not None:
            task = asyncio.ensure_future(wait)
            waits.add(task)
            task.add_done_callback(waits.discard)
        await asyncio.sleep(0)
        while published * fan - count.handled > OUTSTANDING * fan:  # noqa: ASYNC110
            await asyncio.sleep(0.0005)


async def alone(system: Limit | Squall, events: int) -> None:
    """Many publishers, each with one event on its way."""

    async def publish(times: int) -> None:
        for _ in range(times):
            await system.publish()

    await asyncio.gather(*(publish(events // PUBLISHERS) for _ in range(PUBLISHERS)))


async def once(job: Job, case: str, events: int) -> float:
    """Events a second, from the first publish until all were handled."""
    count = Count()
    events -= events % (PUBLISHERS if job.alone else BATCH)
    with tempfile.TemporaryDirectory() as folder:
        system: Limit | Squall
        if case == "limit":
            system = Limit(Path(folder), job, count)
        else:
            system = Squall(Path(folder), job)
            await system.start(job.fan, count)
        gc.collect()
        began = time.perf_counter()
        await (alone(system, events) if job.alone else stream(system, count, events, job.fan))
        while count.handled < events * job.fan:  # noqa: ASYNC110
            await asyncio.sleep(0.0005)
        took_s = time.perf_counter() - began
        await system.close()
    return events / took_s


def child(job: Job, case: str, events: int) -> float:
    """One round in a fresh process."""
    command = [sys.executable, "-m", "tests.benchmarks.durable", job.name, f"--one={case}", f"--events={events}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure(quick: bool = False, jobs: tuple[Job, ...] = JOBS) -> list[Row]:
    """Every job in alternating rounds, each in a process and a folder of its own."""
    rounds, events = (ROUNDS_QUICK, EVENTS_QUICK) if quick else (ROUNDS, EVENTS)
    rows = []
    for job in jobs:
        pairs = [(child(job, "squall", events), child(job, "limit", events)) for _ in range(rounds)]
        squall, limit = (statistics.median(one) for one in zip(*pairs, strict=True))
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        rows.append(Row(job.name, squall, limit, ratio, job.bar, "events/s"))
    return rows


def main() -> None:
    """Print a line for each job; with --one, measure one case here and print it as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", nargs="*", default=[job.name for job in JOBS])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--one", choices=("squall", "limit"))
    options = parser.parse_args()
    jobs = tuple(job for job in JOBS if job.name in options.jobs)
    if options.one:
        print(json.dumps(asyncio.run(once(jobs[0], options.one, options.events))))
        return
    for row in measure(options.quick, jobs):
        bar = "" if row.bar is None else f"  bar {row.bar:.2f}"
        print(
            f"{row.job:28s} squall {row.squall:9,.0f}  limit {row.limit:9,.0f} {row.unit}  ratio {row.ratio:.2f}{bar}"
        )


if __name__ == "__main__":
    main()
