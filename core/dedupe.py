"""Ids that callers gave: an event that is published again within the window is stored once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from squall.core.clock import Clock
from squall.core.errors import Conflict, PublishError, SquallError
from squall.core.event import Event
from squall.core.query import every_page
from squall.core.store import EventStore, Query, Repeated

Store = Callable[[Sequence[Event]], Awaitable[None]]


@dataclass(slots=True)
class _Seen:
    """An id that was published, remembered until `until_ns` (monotonic). `seq` is 0 while it is not known; `storing` is
    awaited while the event is being stored; `doubtful_after`, where nobody knows whether it was stored, is the seq
    after which it would stand. `event_type` is None where a routing rule may have changed it."""

    content: bytes
    event_type: str | None
    until_ns: int
    seq: int = 0
    storing: asyncio.Future[None] | None = None
    doubtful_after: int | None = None


class Dedupe:
    """Which of the callers' ids were seen within the store's window."""

    def __init__(self, store: EventStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._window_ns = round(store.capabilities.dedupe_window_s * 1e9)
        self.seen: dict[str, _Seen] = {}

    async def load(self, head: int) -> None:
        """Remember what was stored within the window before this router was started. Raises StoreError."""
        if not self._window_ns or not head or self._store.capabilities.dedupes:
            return
        since_ns = self._clock.time_ns() - self._window_ns
        async for event in every_page(self._store, Query(since_ns=since_ns, own_id=True, before_seq=head + 1)):
            until_ns = self._clock.monotonic_ns() + event.time_ns - since_ns
            self.seen[event.id] = _Seen(_content(event), None, until_ns, event.seq)

    async def publish(self, events: Sequence[Event], store: Store) -> set[str]:
        """Store those events that were not stored before, all or none; returns the ids of the others, which are given
        their seq. Raises Conflict, and what `store` raises."""
        if self._window_ns and self._store.capabilities.dedupes:
            return await _leave_to_store(events, store)
        await self._settled(events)
        # No await from here until they are noted: who comes now with the same id waits for this one.
        again: set[str] = set()
        fresh: dict[str, _Seen] = {}
        for event in events if self._window_ns else ():
            seen = self._find(event)
            if event.id in fresh:
                raise _twice(event.id)
            if seen is not None and seen.seq:
                event.seq = seen.seq
                again.add(event.id)
            elif event.own_id:
                fresh[event.id] = _Seen(_content(event), event.type, self._until_ns())
        rest = [event for event in events if event.id not in again]
        if rest:
            await self._store_fresh(rest, fresh, store)
        return again

    async def _settled(self, events: Sequence[Event]) -> None:
        """Returns when of each of these ids it is known whether it is stored."""
        waited = True
        while waited:  # while one is waited for, another may be given again
            waited = False
            for event in events:
                while (seen := self._find(event)) is not None:
                    if seen.storing is not None:
                        await asyncio.shield(seen.storing)
                    elif seen.doubtful_after is not None:
                        seen.seq, seen.doubtful_after = await self._look_up(event.id, seen.doubtful_after), None
                    else:
                        break
                    waited = True

    async def _store_fresh(self, events: Sequence[Event], fresh: dict[str, _Seen], store: Store) -> None:
        storing, before = asyncio.get_running_loop().create_future(), self._store.next_seq - 1
        for seen in fresh.values():
            seen.storing = storing
        self.seen.update(fresh)
        try:
            await store(events)
        except BaseException as error:
            surely_not = isinstance(error, SquallError) and getattr(error, "outcome", "fail") == "fail"
            for event_id, seen in fresh.items():
                seen.doubtful_after = before
                if surely_not:
                    del self.seen[event_id]
            raise
        finally:
            storing.set_result(None)
            for seen in fresh.values():
                seen.storing = None
        for event in events:
            if event.id in fresh:
                fresh[event.id].seq = event.seq

    def _find(self, event: Event) -> _Seen | None:
        """What is known of the event's id. Raises Conflict where that was another event."""
        seen = self.seen.get(event.id) if event.own_id else None
        if seen is None or seen.until_ns <= self._clock.monotonic_ns():
            return None
        if seen.content != _content(event) or seen.event_type not in (None, event.type):
            raise conflict(event.id, self._window_ns / 1e9)
        return seen

    def _until_ns(self) -> int:
        """When what is seen now is forgotten. What is over by now goes: the oldest stand first."""
        now_ns = self._clock.monotonic_ns()
        while self.seen and (oldest := next(iter(self.seen.items())))[1].until_ns <= now_ns:
            del self.seen[oldest[0]]
        return now_ns + self._window_ns

    async def _look_up(self, event_id: str, after: int) -> int:
        """The seq under which the store has this id; 0 where it has not."""
        query = Query(own_id=True, after_seq=after, before_seq=self._store.next_seq)
        async for event in every_page(self._store, query):
            if event.id == event_id:
                return event.seq
        return 0


async def _leave_to_store(events: Sequence[Event], store: Store) -> set[str]:
    """Dedupe.publish where the store recognises ids by itself, over all routers that share it."""
    seen: set[str] = set()
    for event in events:
        if event.own_id:
            event.given = _content(event, event.type)
            if event.id in seen:
                raise _twice(event.id)
            seen.add(event.id)
    rest, again = list(events), set[str]()
    while rest:
        unrouted = [(event.type, event.priority) for event in rest]
        try:
            await store(rest)
            break
        except PublishError as error:
            for event, was in zip(rest, unrouted, strict=True):  # routing rules change them, and are asked again
                event.type, event.priority = was
            if not isinstance(error, Repeated):
                raise
            again.update(error.seqs)
            for event in rest:
                event.seq = error.seqs.get(event.id, 0)
            rest = [event for event in rest if not event.seq]
    return again


def conflict(event_id: str, window_s: float) -> Conflict:
    """What the publisher of another event is told."""
    return Conflict(
        f"event_id {event_id}: another event was published with it within the last {window_s:g} s; nothing was stored "
        "(an id is given again only to repeat a publish)"
    )


def _twice(event_id: str) -> Conflict:
    return Conflict(f"event_id {event_id}: given to two events of the batch; nothing of it was stored")


def _content(event: Event, *more: str) -> bytes:
    """What a repeated publish gives again, in 16 bytes; metadata is not part of it: middleware adds to that."""
    given = repr((event.source, event.key, *more)).encode()
    return blake2b(given + event.payload, digest_size=16).digest()
