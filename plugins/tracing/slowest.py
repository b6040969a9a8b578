"""The slowest of a window: the few that took longest, without looking twice at all the others."""

from __future__ import annotations

from heapq import heappush, heapreplace
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class Slowest(Generic[T]):
    """Keeps those with the greatest durations, at most so many. Nothing of at most `floor_ns` can be among them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[int, int, T]] = []
        self._tie = count()
        self.floor_ns = 0

    def offer(self, duration_ns: int, what: T) -> T | None:
        """Take one in; returns the one that has no place any more, itself perhaps."""
        entry = (duration_ns, next(self._tie), what)
        if len(self._heap) < self._most:
            heappush(self._heap, entry)
            gone = None
        elif duration_ns <= self.floor_ns:
            return what
        else:
            gone = heapreplace(self._heap, entry)[2]
        if len(self._heap) == self._most:
            self.floor_ns = self._heap[0][0]
        return gone

    def take(self) -> list[T]:
        """The slowest ones, slowest first; a new window begins."""
        found = [what for _, _, what in sorted(self._heap, reverse=True)]
        self._heap.clear()
        self.floor_ns = 0
        return found
