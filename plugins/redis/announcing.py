"""Announcing: a router is told all that is stored, in seq order, whichever router stored it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from logging import Logger

from squall.core.clock import Clock
from squall.core.event import Event
from squall.core.recent import RecentEvents
from squall.plugins.redis.directory import Directory
from squall.plugins.redis.keys import Keys
from squall.plugins.redis.reading import AT_ONCE, following
from squall.plugins.redis.server import Interrupted, Link, Links, Rejected, Unreachable


class Announcer:
    """`head` is the greatest seq that was announced, or was there at the start; `recent` has the latest events of what
    was announced. `idle` is set while this router stores nothing."""

    def __init__(
        self,
        tail: Link,
        readers: Links,
        keys: Keys,
        directory: Directory,
        recent_events: int,
        clock: Clock,
        logger: Logger,
        backoff_s: Callable[[int], float],
    ) -> None:
        self._tail, self._readers, self._keys, self._directory = tail, readers, keys, directory
        self._recent_events, self._clock, self._logger, self._backoff_s = recent_events, clock, logger, backoff_s
        self.head = 0
        self.recent = RecentEvents(1, recent_events)
        self.idle = asyncio.Event()

    def begin(self, head: int, on_stored: Callable[[Sequence[Event]], None]) -> None:
        """Tell on_stored of what is stored after head."""
        self._on_stored = on_stored
        self.head = head
        self.forget()
        self.idle.set()

    def forget(self) -> None:
        """What was announced so far may be lost: read it from the server."""
        self.recent = RecentEvents(self.head + 1, self._recent_events)

    async def own(self, events: Sequence[Event], first: int, *, others: bool) -> None:
        """Announce what this router has stored, after what others stored before it: it may be an event that was
        repeated here."""
        for seq, event in enumerate(events, first):
            event.seq = seq
        while others and self.head < first - 1:
            try:
                async with self._readers.use() as link:
                    missing = await following(link, self._keys, self.head, count=AT_ONCE)
            except (Unreachable, Interrupted, Rejected, ValueError) as error:
                self._logger.warning("what other routers stored cannot be read: %s; announced as soon as it can", error)
                return  # all of it is left to who follows, in its order
            self._announce_others([event for event in missing if event.seq < first])
            if not missing or missing[-1].seq >= first - 1:
                break  # what is missing before it was trimmed, or is announced
        self._announce(events)

    def _announce(self, events: Sequence[Event]) -> None:
        if events:
            self.head = events[-1].seq
            self.recent.add(events, sum(len(event.payload) for event in events))
            try:
                self._on_stored(events)
            except Exception:
                self._logger.exception("announcing stored events failed; their publishers go on")

    def _announce_others(self, events: Sequence[Event]) -> None:
        self._announce(events)
        if not all(event.type for event in events):
            self.forget()  # who reads what cannot be decoded is to be told of it

    async def follow(self, block_s: float) -> None:
        """Announce what other routers store. While this one stores, its own answers say where the others are."""
        block_ms = max(1, round(block_s * 1000))
        tries = 0
        while True:
            try:
                await self.idle.wait()
                await self._directory.watch()
                found = await following(self._tail, self._keys, self.head, count=1, block_ms=block_ms)
                while found and found[-1].seq > self.head and self.idle.is_set():
                    found = await following(self._tail, self._keys, self.head, count=AT_ONCE)
                    if self.idle.is_set():
                        self._announce_others([event for event in found if event.seq > self.head])
                tries = 0
            except (Unreachable, Interrupted, Rejected, ValueError) as error:
                tries += 1
                log = self._logger.warning if tries == 1 else self._logger.debug
                log("following what other routers store: %s; tried again", error)
                await self._clock.sleep(self._backoff_s(min(tries, 8)))
