"""The limits in memory: what Python allows for the least that a router must do.

`await`: the bare handler, awaited. `lanes`: a slotted event with a number and a time, a route found by type, four
priority deques and one worker a subscriber, weighted turns 8:4:2:1, a bare future to wake it, the loop given a turn
every 64 events. Nothing is checked, timed, settled, observed or bounded.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable

Handler = Callable[[bytes], Awaitable[None]]
TYPE = "order.created"
TURNS = (8, 4, 2, 1)
YIELD_AFTER = 64


class SlottedEvent:
    """The least that an event can be."""

    __slots__ = ("id", "metadata", "payload", "priority", "time_ns", "type")

    def __init__(
        self, number: int, event_type: str, priority: int, time_ns: int, payload: bytes, metadata: None
    ) -> None:
        self.id, self.type, self.priority = number, event_type, priority
        self.time_ns, self.payload, self.metadata = time_ns, payload, metadata


class Lanes:
    """One subscriber: four deques, and the worker that empties them."""

    def __init__(self, handler: Callable[[SlottedEvent], Awaitable[None]]) -> None:
        self._deques: tuple[deque[SlottedEvent], ...] = tuple(deque() for _ in TURNS)
        self._handler = handler
        self._wake: asyncio.Future[None] | None = None

    def offer(self, event: SlottedEvent) -> None:
        """Put event into its lane, and wake the worker if it waits."""
        self._deques[event.priority].append(event)
        if (wake := self._wake) is not None:
            self._wake = None
            wake.set_result(None)

    async def work(self) -> None:
        """Handle events for ever."""
        handler, lanes, since_yield = self._handler, tuple(zip(self._deques, TURNS, strict=True)), 0
        loop = asyncio.get_running_loop()
        while True:
            before = since_yield
            for lane, turns in lanes:
                waiting = len(lane)
                for _ in range(turns if waiting > turns else waiting):
                    await handler(lane.popleft())
                    since_yield += 1
            if since_yield == before:
                self._wake = loop.create_future()
                await self._wake
            elif since_yield >= YIELD_AFTER:
                since_yield = 0
                await asyncio.sleep(0)


def lanes(handler: Handler, fan: int) -> tuple[Callable[[bytes], None], list[asyncio.Task[None]]]:
    """A publish function over `fan` subscribers, and their workers."""

    async def unwrap(event: SlottedEvent) -> None:
        await handler(event.payload)

    subscribers = [Lanes(unwrap) for _ in range(fan)]
    routes = {TYPE: [subscriber.offer for subscriber in subscribers]}
    number, wall_ns = itertools.count().__next__, time.time_ns

    def publish(payload: bytes) -> None:
        event = SlottedEvent(number(), TYPE, 2, wall_ns(), payload, None)
        for offer in routes[TYPE]:
            offer(event)

    return publish, [asyncio.get_running_loop().create_task(subscriber.work()) for subscriber in subscribers]
