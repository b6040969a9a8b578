"""What recording costs: the bench's in-process target with its recorder, and with a sink that only calls the handler.

At capacity the time ends when all that was recorded is on disk. The store is the default one, in memory.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Literal

from tests.benchmarks.load import NONCE, TYPE, Case, Tally, flood, pace, payloads
from tests.benchmarks.rounds import Sample, Scale, alternate
from tests.benchmarks.table import Bar, Row, compare

from squall import Priority, SystemClock
from squall.chaos.history import HistoryWriter
from squall.chaos.recorder import Recorder
from squall.chaos.targets.in_process import InProcessTarget
from squall.core.config import Config
from squall.core.fault import Handler
from squall.core.target import Message, Received, RunContext, Settlement, SubscriberSpec

RATE = 20_000
EVENTS = {"capacity": 150_000, "rate": 60_000}
GROUP = "recording"
CASES = ("on", "off")
P99_BAR = Bar("<", 1_000, "µs")


class PlainSink:
    """Calls the handler, and keeps nothing."""

    def __init__(self, handle: Callable[[Received], Awaitable[None]]) -> None:
        self._handle = handle

    async def deliver(self, received: Received) -> None:
        await self._handle(received)

    def settling(self, payloads: Sequence[bytes], settlement: Settlement, invoked_ns: int) -> None: ...

    def settled(
        self, payloads: Sequence[bytes], ok_ns: int, answer: Literal["ok", "refused", "lost"] = "ok"
    ) -> None: ...

    def gate_changed(self, gate: str, state: str) -> None: ...


class Bench:
    """A target with one subscriber, and what publishes to it: by way of a recorder, or not."""

    def __init__(self, target: InProcessTarget, recorder: Recorder | None, writer: HistoryWriter) -> None:
        self._target, self.recorder, self._writer = target, recorder, writer
        self._number = itertools.count(1).__next__

    def case(self) -> Case:
        """How to publish to it."""
        target, recorder, number = self._target, self.recorder, self._number
        if recorder is None:
            return Case(lambda payload: target.publish(Message(TYPE, payload, Priority.NORMAL, None)), awaited=True)
        publish = recorder.publish
        return Case(
            lambda payload: publish(target.publish, Message(TYPE, payload, Priority.NORMAL, None), number(), 0),
            awaited=True,
        )

    async def subscribe(self, tally: Tally) -> None:
        """One subscriber, which counts and times."""

        async def handle(received: Received) -> None:
            await tally.time(received.payload)

        spec = SubscriberSpec("bench", "order.>")
        if self.recorder is None:
            await self._target.subscribe(spec, PlainSink(handle))
        else:
            await self._target.subscribe(spec, self.recorder.sink(0, spec, Handler("handler:bench"), handle))

    async def written(self) -> None:
        """Wait until what ended is on disk."""
        if self.recorder is not None:
            await asyncio.sleep(0)  # the last settlement is told within the turn that ended its handler
            await self.recorder.flush()

    def check(self, events: int) -> None:
        """Raises RuntimeError where the recorder lost a row: then it was not as fast as it looked."""
        rows = self._writer.rows
        if self.recorder is not None and not rows["publish"] == rows["attempt"] == events:
            raise RuntimeError(f"recorded of {events} events: {rows}; {self.recorder.failures}")


@asynccontextmanager
async def bench(case: str) -> AsyncIterator[Bench]:
    """The target, started, with its history in a temporary folder."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        target, writer = InProcessTarget(), HistoryWriter(Path(folder) / "history")
        await target.start(RunContext(clock, Random(1), Path(folder), Config()))
        recorder = Recorder(writer, clock, NONCE) if case == "on" else None
        try:
            yield Bench(target, recorder, writer)
        finally:
            await target.stop()
            if recorder is not None:
                await recorder.close()


async def capacity(case: str, events: int) -> Sample:
    """`events` a second, published, handled, and recorded where that is on."""
    tally = Tally()
    async with bench(case) as under:
        await under.subscribe(tally)
        gc.collect()
        began = time.perf_counter()
        await flood(under.case(), payloads(events), tally, fan=1)
        await under.written()
        took_s = time.perf_counter() - began
    under.check(events)
    return {"events": events / took_s}


async def latency(case: str, events: int) -> Sample:
    """`p50` and `p99` from when an event was due until its handler was called, microseconds, at RATE."""
    tally = Tally()
    async with bench(case) as under:
        await under.subscribe(tally)
        gc.collect()
        await pace(under.case(), events, RATE, tally)
    under.check(events)
    return tally.latencies()


def measure(scale: Scale) -> list[Row]:
    """On beside off, at capacity and at a fixed rate."""

    def cases(events: int) -> dict[str, dict[str, object]]:
        return {case: {"case": case, "events": scale.of(events)} for case in CASES}

    full = alternate(capacity, cases(EVENTS["capacity"]), scale, "recording at capacity")
    paced = alternate(latency, cases(EVENTS["rate"]), scale, "recording at a fixed rate")
    at_rate = f"at {RATE:,} events/s: "
    return [
        compare(GROUP, "at capacity", "events/s", "events", full["on"], full["off"], "off", Bar("≥", 0.65)),
        compare(GROUP, at_rate + "p50", "µs", "p50", paced["on"], paced["off"], "off", Bar("≤", 1.5)),
        compare(GROUP, at_rate + "p99", "µs", "p99", paced["on"], paced["off"], "off", P99_BAR),
    ]
