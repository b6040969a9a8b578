"""What a full subscription gives up for what is published now: the oldest of all that waits, wherever it does."""

from __future__ import annotations

import heapq

from squall.core.clock import Timer
from squall.core.event import Event
from squall.core.keys import KeyLocks
from squall.core.queue import PriorityEventQueue
from squall.core.subscription import OverflowPolicy

SLACK = 64


class Dropping:
    """Chooses among what waits in the queue and what waits aside: for its time, or for its key.

    What waits aside is sorted when something is to be dropped, and kept so while it lasts; entries for what waits there
    no more are passed over.
    """

    def __init__(
        self,
        queue: PriorityEventQueue,
        delayed: dict[int, tuple[Event, Timer]],
        keys: KeyLocks | None,
        overflow: OverflowPolicy,
    ) -> None:
        self._queue, self._delayed, self._keys, self._lowest = queue, delayed, keys, overflow == "drop_lowest"
        self._keyed = {} if keys is None else keys.waiting
        self._heap: list[tuple[int, int]] = []

    def noted(self, event: Event) -> None:
        """This one waits aside from now on."""
        if self._heap:
            heapq.heappush(self._heap, self._rank(event))
            if len(self._heap) > 2 * (len(self._delayed) + len(self._keyed)) + SLACK:
                self._heap.clear()  # most of it is over: sorted anew when it is needed

    def take(self) -> Event | None:
        """Take out the event that was published first, or the first of the least urgent; None when nothing waits."""
        queued, aside = self._queue.oldest(lowest=self._lowest), self._aside()
        if queued is not None and (aside is None or self._rank(queued) < self._rank(aside)):
            return self._queue.levels[queued.priority].popleft()
        if aside is None:
            return None
        if (delayed := self._delayed.pop(aside.seq, None)) is not None:
            delayed[1].cancel()
        elif self._keys is not None:
            self._keys.withdraw(aside.seq)
        return aside

    def _aside(self) -> Event | None:
        if not self._heap:
            events = [*self._keyed.values(), *(event for event, _ in self._delayed.values())]
            self._heap = sorted(map(self._rank, events))
        while self._heap:
            seq = self._heap[0][1]
            if seq in self._delayed:
                return self._delayed[seq][0]
            if seq in self._keyed:
                return self._keyed[seq]
            heapq.heappop(self._heap)
        return None

    def _rank(self, event: Event) -> tuple[int, int]:
        return (-event.priority if self._lowest else 0, event.seq)
