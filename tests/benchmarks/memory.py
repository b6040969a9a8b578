"""Events a second, and latency at a fixed rate, in memory: squall with its default plugins beside limits and peers.

`lanes` and `await` are held within 5 % of the design's limit programs. To compare: on a quiet machine run those at 1
and 10 subscribers, then `python -m tests.benchmarks --only throughput`: their figures must be the same or higher here.
"""

from __future__ import annotations

import gc
from contextlib import AsyncExitStack
from functools import partial
from itertools import repeat

from tests.benchmarks.limits.memory import lanes
from tests.benchmarks.load import TYPE, Case, Tally, flood, pace, payload
from tests.benchmarks.peers import PEERS, Handler
from tests.benchmarks.rounds import Sample, Scale, alternate
from tests.benchmarks.table import Bar, Row, compare

from squall import Event, EventRouter

RATE = 20_000
CUT_S = 3.0
SQUALL = "squall"
THROUGHPUT = {
    "await": None,
    "lanes": Bar("≥", 0.65),
    "blinker": Bar("≥", 1.0),
    "psygnal": None,
    "pyee": None,
    "bubus": None,
}
LATENCY = {"lanes": Bar("≤", 2.0), "blinker": None, "pyee": None}
FANS = {1: 150_000, 10: 50_000}
LATENCY_EVENTS = 60_000


async def wire(case: str, fan: int, handler: Handler, stack: AsyncExitStack) -> Case:
    """The case, ready to publish to `fan` subscribers until the stack is closed."""
    if case == "await":

        async def call(payload: bytes) -> None:
            for _ in range(fan):
                await handler(payload)

        return Case(call, awaited=True)
    if case == "lanes":
        publish, workers = lanes(handler, fan)
        for worker in workers:
            stack.callback(worker.cancel)
        return Case(publish, awaited=False)
    if case == SQUALL:
        router = await stack.enter_async_context(EventRouter())

        async def handle(event: Event) -> None:
            await handler(event.payload)

        for number in range(fan):
            await router.subscriber(f"bench{number}").subscribe("order.>", handle)
        return Case(partial(router.publisher("bench").publish, TYPE), awaited=True)
    return PEERS[case](fan, handler, stack)


async def throughput(case: str, fan: int, events: int) -> Sample:
    """`deliveries` a second; a slow peer is cut after CUT_S."""
    tally = Tally()
    async with AsyncExitStack() as stack:
        wired = await wire(case, fan, tally.count, stack)
        gc.collect()
        took_s = await flood(wired, repeat(payload(1), events), tally, fan, CUT_S)
        return {"deliveries": tally.handled / took_s}


async def latency(case: str, events: int) -> Sample:
    """`p50` and `p99` from when an event was due until its handler was called, microseconds, at RATE."""
    tally = Tally()
    async with AsyncExitStack() as stack:
        wired = await wire(case, 1, tally.time, stack)
        gc.collect()
        await pace(wired, events, RATE, tally)
    return tally.latencies()


def measure_throughput(scale: Scale) -> list[Row]:
    """At 1 and at 10 subscribers."""
    rows = []
    for fan, events in FANS.items():
        job = f"{fan} subscriber{'s' if fan > 1 else ''}"
        cases = {case: {"case": case, "fan": fan, "events": scale.of(events)} for case in (SQUALL, *THROUGHPUT)}
        found = alternate(throughput, cases, scale, f"throughput, {job}")
        rows += [
            compare("throughput in memory", job, "deliveries/s", "deliveries", found[SQUALL], found[other], other, bar)
            for other, bar in THROUGHPUT.items()
        ]
    return rows


def measure_latency(scale: Scale) -> list[Row]:
    """Open loop, one subscriber."""
    cases = {case: {"case": case, "events": scale.of(LATENCY_EVENTS)} for case in (SQUALL, *LATENCY)}
    found = alternate(latency, cases, scale, "latency")
    return [
        compare(f"latency at {RATE:,} events/s", figure, "µs", figure, found[SQUALL], found[other], other, bar)
        for figure in ("p50", "p99")
        for other, bar in LATENCY.items()
    ]
