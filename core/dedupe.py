"""Ids that callers gave: an event that is published again within the window is stored once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from squall.core.clock import Clock
from squall.core.errors import Conflict, Outcome, PublishError, StoreError
from squall.core.event import Event
from squall.core.quarantine import Decodable
from squall.core.query import every_page
from squall.core.store import EventStore, Query, Repeated

Store = Callable[[Sequence[Event]], Awaitable[None]]


@dataclass(slots=True)
class _Seen:
    """An id that was published, remembered until `until_ns` (monotonic). `seq` is 0 while it is not known; `storing` is
    awaited while the event is being stored, and remembered so long at any rate; `doubtful`, where nobody knows whether
    it was stored, are the seqs between which it would stand. `event_type` is None where a routing rule may have changed
    it."""

    content: bytes
    event_type: str | None
    until_ns: int
    seq: int = 0
    storing: asyncio.Future[None] | None = None
    doubtful: tuple[int, int] | None = None


@dataclass(slots=True)
class _Storing:
    """Events that are being stored, and what is noted of their ids. `answer` is the store's, once it was asked: what
    becomes of them, whether or not their publisher still waits for it."""

    events: Sequence[Event]
    fresh: dict[str, _Seen]
    after: int
    over: asyncio.Future[None]
    answer: asyncio.Future[None] | None = None


class Dedupe:
    """Which of the callers' ids were seen within the store's window. `storing` are those that are being stored."""

    def __init__(self, store: EventStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._window_ns = round(store.capabilities.dedupe_window_s * 1e9)
        self.seen: dict[str, _Seen] = {}
        self.storing: dict[str, _Storing] = {}

    async def load(self, head: int) -> None:
        """Remember what was stored within the window before this router was started. Raises StoreError."""
        if not self._window_ns or not head or self._store.capabilities.dedupes:
            return
        since_ns = self._clock.time_ns() - self._window_ns
        stored = Query(since_ns=since_ns, own_id=True, before_seq=head + 1)
        async for event in every_page(Decodable(self._store), stored):
            until_ns = self._clock.monotonic_ns() + event.time_ns - since_ns
            self.seen[event.id] = _Seen(_content(event), None, until_ns, event.seq)

    async def publish(self, events: Sequence[Event], store: Store) -> set[int]:
        """Store those events that were not stored before, all or none; returns the places of the others, which are
        given their seq. Raises Conflict, StoreError where it cannot be looked up, and what `store` raises."""
        if self._window_ns and self._store.capabilities.dedupes:
            return await _leave_to_store(events, store, self._window_ns / 1e9)
        await self._settled(events)
        # No await from here until they are noted: who comes now with the same id waits for this one.
        fresh: dict[str, _Seen] = {}
        again: dict[int, _Seen] = {}
        for number, event in enumerate(events if self._window_ns else ()):
            seen = self._find(event, fresh)
            if seen is not None:
                again[number] = seen
            elif event.own_id:
                fresh[event.id] = _Seen(_content(event), event.type, self._until_ns())
        rest = [event for number, event in enumerate(events) if number not in again]
        if rest:
            await self._store_fresh(rest, fresh, store)
        for number, seen in again.items():
            events[number].seq = seen.seq
        return set(again)

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        """Have the store append them. If these are being stored under their own ids, its answer is what counts."""
        storing = next((self.storing[event.id] for event in events if event.id in self.storing), None)
        if storing is None:
            return self._store.append(events)
        storing.answer = asyncio.get_running_loop().create_future()
        try:
            pending = self._store.append(events)
        except Exception as error:
            storing.answer.set_exception(error)
            storing.answer.exception()  # it is told here; the future may be replaced before anybody looks
            raise
        if pending is None:
            storing.answer.set_result(None)
            return None
        storing.answer = asyncio.ensure_future(pending)
        return storing.answer

    async def _settled(self, events: Sequence[Event]) -> None:
        """Returns when of each of these ids it is known whether it is stored."""
        waited = True
        while waited:  # while one is waited for, another may be given again
            waited = False
            for event in events:
                while (seen := self._find(event, {})) is not None:
                    if seen.storing is not None:
                        await asyncio.shield(seen.storing)
                    elif seen.doubtful is not None:
                        await self._look_up(event.id, seen, *seen.doubtful)
                    else:
                        break
                    waited = True

    async def _store_fresh(self, events: Sequence[Event], fresh: dict[str, _Seen], store: Store) -> None:
        over = asyncio.get_running_loop().create_future()
        storing = _Storing(events, fresh, self._store.next_seq - 1, over)
        for event_id, seen in fresh.items():
            seen.storing = over
            self.seen[event_id], self.storing[event_id] = seen, storing
        try:
            await store(events)
        finally:
            if storing.answer is None or storing.answer.done():
                self._over(storing)
            else:  # its publisher was cancelled; what the store was given it goes on with
                storing.answer.add_done_callback(lambda _: self._over(storing))

    def _over(self, storing: _Storing) -> None:
        """It is known what became of these events, or that it is not known. Their window begins."""
        try:
            outcome, until_ns = _outcome(storing.answer), self._until_ns()
            for event in storing.events:
                seen = storing.fresh.get(event.id)
                if seen is None:
                    continue
                del self.storing[event.id], self.seen[event.id]
                seen.storing, seen.until_ns = None, until_ns
                if outcome == "ok" and event.seq:  # else a routing rule has dropped it
                    seen.seq = event.seq
                elif outcome == "info":
                    seen.doubtful = storing.after, self._store.next_seq
                else:
                    continue
                self.seen[event.id] = seen  # as the newest
        finally:
            storing.over.set_result(None)

    def _find(self, event: Event, batch: Mapping[str, _Seen]) -> _Seen | None:
        """What is known of the event's id, from before or from its batch. Raises Conflict where that was another."""
        seen = (batch.get(event.id) or self.seen.get(event.id)) if event.own_id else None
        if seen is None or (seen.storing is None and seen.until_ns <= self._clock.monotonic_ns()):
            return None
        if seen.content != _content(event) or seen.event_type not in (None, event.type):
            raise conflict(event.id, self._window_ns / 1e9)
        return seen

    def _until_ns(self) -> int:
        """When what is seen now is forgotten. What is over by now goes, but for what is still being stored: the oldest
        stand first."""
        now_ns = self._clock.monotonic_ns()
        while self.seen:
            event_id, oldest = next(iter(self.seen.items()))
            if oldest.storing is not None or oldest.until_ns > now_ns:
                break
            del self.seen[event_id]
        return now_ns + self._window_ns

    async def _look_up(self, event_id: str, seen: _Seen, after: int, before: int) -> None:
        """Ask the store whether it has this id. Raises StoreError while it does not say."""
        found = 0
        try:
            async for event in every_page(self._store, Query(own_id=True, after_seq=after, before_seq=before)):
                if event.id == event_id:
                    found = event.seq
                    break
        except StoreError as error:
            raise StoreError(
                f"event_id {event_id}: whether it was stored is not known yet ({error}); try again", "info"
            ) from error
        seen.seq, seen.doubtful = found, None
        if not found and self.seen.get(event_id) is seen:
            del self.seen[event_id]


def _outcome(answer: asyncio.Future[None] | None) -> Outcome:
    """What a store's answer, where it was asked at all, says about the events."""
    if answer is None:
        return "fail"
    error = asyncio.CancelledError() if answer.cancelled() else answer.exception()
    return "ok" if error is None else error.outcome if isinstance(error, PublishError) else "info"


async def _leave_to_store(events: Sequence[Event], store: Store, window_s: float) -> set[int]:
    """Dedupe.publish where the store recognises ids by itself, over all routers that share it."""
    first = _firsts(events, window_s)
    rest = {number: event for number, event in enumerate(events) if first.get(event.id, event) is event}
    while rest:
        unrouted = [(event.type, event.priority) for event in rest.values()]
        try:
            await store(list(rest.values()))
            break
        except PublishError as error:
            # Routing rules change them, and are asked again.
            for event, was in zip(rest.values(), unrouted, strict=True):
                event.type, event.priority = was
            if not isinstance(error, Repeated):
                raise
            for event in rest.values():
                event.seq = error.seqs.get(event.id, 0)
            rest = {number: event for number, event in rest.items() if not event.seq}
    for event in events:
        event.seq = first.get(event.id, event).seq
    return set(range(len(events))) - set(rest)


def _firsts(events: Sequence[Event], window_s: float) -> Mapping[str, Event]:
    """By id, the first event that was given it; all are marked with what a store tells repetitions by. Raises Conflict
    where a later one of the batch is another."""
    first: dict[str, Event] = {}
    for event in events:
        if event.own_id:
            event.given = _content(event, event.type)
            if first.setdefault(event.id, event).given != event.given:
                raise conflict(event.id, window_s)
    return first


def conflict(event_id: str, window_s: float) -> Conflict:
    """What the publisher of another event is told."""
    return Conflict(
        f"event_id {event_id}: another event was published with it within the last {window_s:g} s; nothing was stored "
        "(an id is given again only to repeat a publish)"
    )


def _content(event: Event, *more: str) -> bytes:
    """What a repeated publish gives again, in 16 bytes; metadata is not part of it: middleware adds to that."""
    given = repr((event.source, event.key, *more)).encode()
    return blake2b(given + event.payload, digest_size=16).digest()
