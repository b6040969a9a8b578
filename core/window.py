"""A durable subscription's bounded view of the store: live events first, the backlog by pages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from squall.core.errors import SquallError
from squall.core.event import Event, Priority
from squall.core.quarantine import quarantine, read_around
from squall.core.queue import WEIGHTS
from squall.core.store import Query

if TYPE_CHECKING:
    from squall.core.dispatch import Dispatcher

RETRY_READ_S = 1.0


class Window:
    """For each priority: up to which seq it was read, and whether it is live, fed by the store's announcements.

    A level that finds the window full falls behind and is read from the store, each level into its own share of the
    window, so that none waits behind another's backlog: with what is live it holds twice its size at most. A level goes
    live again, on the loop and in one step, when a page reached the head: no gap, no overlap.
    """

    def __init__(self, dispatcher: Dispatcher, positions: list[int]) -> None:
        subscription = dispatcher.subscription
        exact, least = subscription.priority_filter, subscription.priority_min
        self._takes = [exact in (None, one) and (least is None or one <= least) for one in Priority]
        self._live = [not takes for takes in self._takes]
        self._positions = positions
        self._dispatcher, self._wants, self._store = dispatcher, dispatcher.wants, dispatcher.wiring.store
        self._size, self._pattern = subscription.in_flight, subscription.pattern
        self._skip: set[int] = set()
        self._reading: asyncio.Task[None] | None = None
        self._closed = False

    def position(self, priority: Priority) -> int:
        """All up to this seq was taken into the window, or is not wanted."""
        return self._dispatcher.head() if self._live[priority] else self._positions[priority]

    def skip(self, seqs: set[int]) -> None:
        """These were taken up otherwise: by their attempt rows."""
        self._skip |= seqs

    def announce(self, event: Event) -> None:
        """A newly stored event: taken when its level is live and there is room, else left for reading."""
        level, own = event.priority, self._dispatcher
        if not self._live[level] or event.seq <= self._positions[level] or not self._takes[level]:
            return
        if own.pending - len(own.delayed) >= self._size:  # what waits for its time has released its slot
            self.fall_behind(event)
        elif self._wants is None or self._wants(event):
            own.offer(event)

    def fall_behind(self, event: Event) -> None:
        """Leave a newly stored event, and what follows it at its level, for reading."""
        level = event.priority
        if self._live[level] and event.seq > self._positions[level] and self._takes[level]:
            self._live[level], self._positions[level] = False, event.seq - 1

    def refill(self) -> None:
        """Start reading if a level is behind and half of its share of the window is free."""
        if self._reading is None and not self._closed and any(self._free(level) for level in self._behind()):
            self._reading = asyncio.get_running_loop().create_task(self._read())
            self._reading.add_done_callback(self._read_ended)

    def _behind(self) -> list[Priority]:
        return [level for level in Priority if not self._live[level]]

    def _free(self, level: Priority) -> int:
        """How many events a level that is behind may be given: up to its share of the window, by weight among those
        that are behind, so that each has events to be chosen from; 0 while half of that is still waiting."""
        if len(self._dispatcher.delayed) >= self._dispatcher.wiring.max_delayed:
            return 0  # what waits for its time is in memory too
        share = max(1, self._size * WEIGHTS[level] // sum(WEIGHTS[other] for other in self._behind()))
        waiting = len(self._dispatcher.queue.levels[level])
        return share - waiting if waiting <= share // 2 else 0

    async def backlog(self) -> int:
        """How many wanted events the store holds that were not taken yet."""
        count = 0
        for level in Priority:
            after = self._positions[level]
            while not self._live[level] and after < self._dispatcher.head():
                query = Query(pattern=self._pattern, priority=level, after_seq=after)
                page, broken = await read_around(self._store, query, self._skip)
                fresh = [event for event in page.events if event.seq not in self._skip]
                count += len(broken) + sum(self._wants is None or self._wants(event) for event in fresh)
                after = page.events[-1].seq if len(page.events) >= query.limit else max(after + 1, page.searched_to)
        return count

    def close(self) -> None:
        """Read no more. What was not read stays behind, and owed."""
        self._closed = True
        # What is stored from now on is not offered any more: it must not count as taken.
        self._positions = [self.position(level) for level in Priority]
        self._live = [False] * len(Priority)
        if self._reading is not None:
            self._reading.cancel()

    def _read_ended(self, task: asyncio.Task[None]) -> None:
        self._reading = None
        if not task.cancelled() and (error := task.exception()) is not None:
            wiring = self._dispatcher.wiring
            wiring.observers.logger.error("reading the backlog of %s failed: %s; tried again", self._pattern, error)
            wiring.clock.call_later(RETRY_READ_S, self.refill)
        else:
            # What was flushed while the read was ending found it still reading, and asked for nothing.
            asyncio.get_running_loop().call_soon(self.refill)

    async def _read(self) -> None:
        dispatcher = self._dispatcher
        for level in Priority:
            while not self._live[level] and (room := self._free(level)) > 0:
                after, head = self._positions[level], dispatcher.head()
                query = Query(pattern=self._pattern, priority=level, after_seq=after, limit=room)
                page, broken = await read_around(self._store, query, self._skip)
                for event in page.events:
                    if event.seq in self._skip:
                        self._skip.discard(event.seq)
                    elif self._wants is None or self._wants(event):
                        dispatcher.offer(event)
                quarantine(dispatcher, broken)
                full = len(page.events) >= room
                self._positions[level] = page.events[-1].seq if full else max(after, page.searched_to)
                if not full and self._positions[level] >= dispatcher.head():
                    self._live[level] = True
                elif not full and self._positions[level] == after < head:
                    raise SquallError(f"the store read nothing from seq {after + 1} up to {head}")
