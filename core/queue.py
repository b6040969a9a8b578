"""Four levels of events, served in proportion 8:4:2:1 without starving anyone."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from operator import attrgetter

from squall.core.event import Event, Priority

WEIGHTS = (8, 4, 2, 1)
RATE_WINDOW_NS = 1_000_000_000
_NEVER = 1 << 62
_STRIDES = tuple(WEIGHTS[0] // weight for weight in WEIGHTS)


class Level(deque[Event]):
    """One priority's events, with the non-blocking methods of a queue. Unbounded: room is reserved before."""

    put_nowait = deque.append

    def get_nowait(self) -> Event:
        """The oldest event; raises asyncio.QueueEmpty."""
        if not self:
            raise asyncio.QueueEmpty
        return self.popleft()

    def qsize(self) -> int:
        return len(self)

    def empty(self) -> bool:
        return not self

    def put_back(self, event: Event) -> None:
        """An event whose turn was before, or had to wait: in its place by seq, so that nothing is overtaken."""
        if not self or event.seq < self[0].seq:
            self.appendleft(event)
        else:
            self.insert(bisect_left(self, event.seq, key=attrgetter("seq")), event)

    def full(self) -> bool:
        return False


class PriorityEventQueue:
    """The queue of one subscription.

    Stride scheduling (Waldspurger and Weihl, 1995): each level has a pass that grows by its stride when it is served,
    and the least pass is next, the more urgent level first among equals. A level that comes back from being empty
    gets at least the virtual time, so it neither hoards turns nor waits for others to catch up. While level l waits,
    at most 1 + Σ_{j≠l} (⌈w_j/w_l⌉ + 1) other events are served: 7, 8, 11, 18.
    """

    def __init__(self) -> None:
        self.critical_queue = Level()
        self.high_queue = Level()
        self.normal_queue = Level()
        self.low_queue = Level()
        self.levels = (self.critical_queue, self.high_queue, self.normal_queue, self.low_queue)
        self.processing_rates: dict[Priority, float] = dict.fromkeys(Priority, 0.0)
        self.served = [0, 0, 0, 0]
        self._passes = [0, 0, 0, 0]
        self._rated: tuple[int, tuple[int, ...]] = (0, (0, 0, 0, 0))

    @property
    def queue_depths(self) -> dict[Priority, int]:
        """Events waiting, by priority."""
        return {priority: len(self.levels[priority]) for priority in Priority}

    def __len__(self) -> int:
        return sum(map(len, self.levels))

    def empty(self) -> bool:
        return not any(self.levels)

    def put_nowait(self, event: Event) -> None:
        self.levels[event.priority].append(event)

    def get_nowait(self) -> Event:
        """The next event by priority and share; raises asyncio.QueueEmpty."""
        event = self.take()
        if event is None:
            raise asyncio.QueueEmpty
        return event

    def take(self) -> Event | None:
        """The next event by priority and share, or None."""
        # Written out: in a loop over the levels it takes half as long again, of each event that is not NORMAL.
        levels, passes = self.levels, self._passes
        critical, high, normal, low = levels
        of_critical, of_high, of_normal, of_low = passes
        best, least = -1, _NEVER
        if critical:
            best, least = 0, of_critical
        if high and of_high < least:
            best, least = 1, of_high
        if normal and of_normal < least:
            best, least = 2, of_normal
        if low and of_low < least:
            best, least = 3, of_low
        if best < 0:
            return None
        if of_critical < least and not critical:
            passes[0] = least
        if of_high < least and not high:
            passes[1] = least
        if of_normal < least and not normal:
            passes[2] = least
        if of_low < least and not low:
            passes[3] = least
        passes[best] = least + _STRIDES[best]
        self.served[best] += 1
        return levels[best].popleft()

    def oldest(self, *, lowest: bool) -> Event | None:
        """What was published first, or the oldest of the least urgent; None when nothing waits."""
        waiting = [level[0] for level in reversed(self.levels) if level]
        if lowest or not waiting:
            return waiting[0] if waiting else None
        return min(waiting, key=lambda event: event.seq)

    def measure(self, now_ns: int) -> None:
        """Bring processing_rates (events/s by priority) up to date, when a window of a second is over: the mean over
        it. Called with every sweep, so that what is read does not depend on who reads."""
        then_ns, before = self._rated
        if now_ns - then_ns < RATE_WINDOW_NS:
            return
        self._rated = (now_ns, tuple(self.served))
        for priority in Priority:
            self.processing_rates[priority] = (self.served[priority] - before[priority]) * 1e9 / (now_ns - then_ns)


class CriticalFirst(PriorityEventQueue):
    """CRITICAL before all others, while those wait for at most `burst` of it in a row; then one of them has its turn,
    by share. It stays out of the others' shares: its pass is set anew each time."""

    def __init__(self, burst: int) -> None:
        super().__init__()
        self._burst, self._in_a_row = burst, 0

    def take(self) -> Event | None:
        others = self.high_queue or self.normal_queue or self.low_queue
        self._passes[0] = _NEVER if others and self._in_a_row >= self._burst else 0
        event = super().take()
        passed = others and event is not None and event.priority is Priority.CRITICAL
        self._in_a_row = self._in_a_row + 1 if passed else 0
        return event
