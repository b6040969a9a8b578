"""The latest stored events, held in memory: who reads near the head need not ask the store's file or server."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from squall.core.event import Event
from squall.core.query import search
from squall.core.store import Page, Query

MAX_EVENTS_HELD = 8_192
MAX_BYTES_HELD = 16_000_000


class RecentEvents:
    """Groups of events as they were stored. Every stored event from `first` on is here."""

    def __init__(self, first: int, max_events: int = MAX_EVENTS_HELD) -> None:
        self.first = first
        self._max_events = max_events
        self._groups: deque[Sequence[Event]] = deque()
        self._sizes: deque[int] = deque()
        self._count = 0
        self._bytes = 0

    def add(self, events: Sequence[Event], size_bytes: int) -> None:
        """Keep a group that was stored, and let the oldest go past the bounds. size_bytes is that of its payloads."""
        self._groups.append(events)
        self._sizes.append(size_bytes)
        self._count += len(events)
        self._bytes += size_bytes
        while self._count > self._max_events or self._bytes > MAX_BYTES_HELD:
            oldest = self._groups.popleft()
            self._count -= len(oldest)
            self._bytes -= self._sizes.popleft()
            self.first = oldest[-1].seq + 1

    def page(self, query: Query, low: int, high: int) -> Page:
        """What answers the query among the events from low, which is not before `first`, to high."""
        found = self._down(low, high) if query.newest_first else self._up(low, high)
        if query.seqs is not None:
            chosen = frozenset(query.seqs)
            found = (event for event in found if event.seq in chosen)
        return search(found, query, low, high)

    def _up(self, low: int, high: int) -> Iterator[Event]:
        start = bisect_left(self._groups, low, key=lambda group: group[-1].seq)
        for group in islice(self._groups, start, None):
            for event in group:
                if event.seq > high:
                    return
                if event.seq >= low:
                    yield event

    def _down(self, low: int, high: int) -> Iterator[Event]:
        for group in reversed(self._groups):
            for event in reversed(group):
                if event.seq < low:
                    return
                if event.seq <= high:
                    yield event
