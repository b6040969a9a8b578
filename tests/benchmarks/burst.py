"""A burst: 100,000 events for one subscriber that is held until all of them are accepted; time, loss, and bytes.

The bytes of an event are what `tracemalloc` counts while all events wait, over their number; each side in a process of
its own. The bare objects are the least that could be held: a slotted object with the fields of an event, its own id,
number, time and payload of 200 bytes, in a deque. That is 510 bytes with CPython 3.11 on 64 bits; the design has 514.
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

from tests.benchmarks.limits.memory import lanes
from tests.benchmarks.load import TYPE, Case, payloads
from tests.benchmarks.rounds import Sample, Scale, alternate, median
from tests.benchmarks.table import Bar, Row, compare

from squall import Event, EventRouter

EVENTS = 100_000
LIMIT_S = 30.0
GROUP = "burst"


class BareEvent:
    """The fields of squall's Event save the key; what is alike in events of one kind is shared, the rest its own."""

    __slots__ = tuple(name for name in Event.__struct_fields__ if name != "key")

    def __init__(self, number: int, payload: bytes) -> None:
        self.id = self.correlation_id = str(uuid.uuid4())
        self.type, self.source, self.priority, self.version = TYPE, "bench", 2, "1.0"
        self.timestamp, self.seq, self.payload = time.time_ns(), number, payload
        self.published_ns, self.metadata = 0, None


Resume = Callable[[], Awaitable[None]]


async def held_router(handled: list[bytes], stack: AsyncExitStack) -> tuple[Case, Resume]:
    """A router with its default plugins and one subscriber, which is paused; and what resumes it."""
    router = await stack.enter_async_context(EventRouter())

    async def handle(event: Event) -> None:
        handled.append(event.payload)

    subscriber = router.subscriber("bench")
    subscription = await subscriber.subscribe("order.>", handle)
    await subscriber.pause_subscription(subscription)
    publish = partial(router.publisher("bench").publish, TYPE)
    return Case(publish, awaited=True), lambda: subscriber.resume_subscription(subscription)


async def held_lanes(handled: list[bytes], stack: AsyncExitStack) -> tuple[Case, Resume]:
    """The limit with one subscriber: its worker runs as soon as the publisher gives it a turn, so at the end."""

    async def handle(payload: bytes) -> None:
        handled.append(payload)

    publish, workers = lanes(handle, 1)
    for worker in workers:
        stack.callback(worker.cancel)
    return Case(publish, awaited=False), lambda: asyncio.sleep(0)


async def _publish(case: Case, texts: list[bytes]) -> None:
    for text in texts:
        pending = case.publish(text)
        if case.awaited:
            await pending  # type: ignore[misc]


async def absorb(case: str, events: int) -> Sample:
    """`seconds` until all events were accepted and handled; how many different ones were: `handled`, of `accepted`."""
    handled: list[bytes] = []
    async with AsyncExitStack() as stack:
        wired, resume = await (held_lanes if case == "lanes" else held_router)(handled, stack)
        texts = list(payloads(events))
        gc.collect()
        began = time.perf_counter()
        await _publish(wired, texts)
        await resume()
        while len(handled) < events and time.perf_counter() < began + LIMIT_S:  # noqa: ASYNC110
            await asyncio.sleep(0)
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "handled": len(set(handled)), "accepted": events}


async def hold(case: str, events: int) -> Sample:
    """`bytes` an event, while all of them wait."""
    async with AsyncExitStack() as stack:
        wired, _ = await held_router([], stack)
        bare: deque[BareEvent] = deque()
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        if case == "squall":
            for text in payloads(events):
                await wired.publish(text)  # type: ignore[misc]
        else:
            bare.extend(BareEvent(number, text) for number, text in enumerate(payloads(events)))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return {"bytes": (after - before) / events}


def measure(scale: Scale) -> list[Row]:
    """Time, loss and bytes."""
    events = scale.of(EVENTS)
    job = f"{events:,} events: "
    timed = alternate(absorb, {case: {"case": case, "events": events} for case in ("squall", "lanes")}, scale, "burst")
    ours = timed["squall"]
    bytes_of = alternate(
        hold, {case: {"case": case, "events": events} for case in ("squall", "bare")}, scale, "burst, bytes"
    )
    handled, accepted = min(sample["handled"] for sample in ours), median(ours, "accepted")
    return [
        compare(GROUP, job + "accepted and handled", "s", "seconds", ours, timed["lanes"], "lanes", Bar("<", 1, "s")),
        Row(
            GROUP, job + "handled", handled, "events", "accepted", accepted, handled / accepted, Bar("≥", 1.0)
        ),
        compare(
            GROUP, job + "held", "bytes/event", "bytes", bytes_of["squall"], bytes_of["bare"], "bare objects",
            Bar("≤", 1.3),
        ),
    ]  # fmt: skip
