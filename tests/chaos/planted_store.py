"""More faults of the system under test: stores that lose, number, alter or refuse wrongly, or keep wrong books."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import msgspec
from tests.chaos.planted import OnStored, StoreWrapper

from squall import (
    DeadLetter,
    Event,
    EventStore,
    Page,
    Plugin,
    Priority,
    Query,
    StoreError,
    Subscription,
    around,
    hookimpl,
)
from squall.core.middleware import Middleware, Next
from squall.core.plugin import Context
from squall.core.store import Progress, Settlement


class Announcing(Plugin):
    """A store that changes what it announces; `announced` says how. None: nothing of it is announced."""

    def announced(self, event: Event) -> Event | None:
        raise NotImplementedError

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> EventStore:
        return _Announcing(store, self)


class _Announcing(StoreWrapper):
    def __init__(self, store: EventStore, plugin: Announcing) -> None:
        super().__init__(store)
        self._plugin = plugin

    async def open(self, on_stored: OnStored) -> int:
        def announce(events: Sequence[Event]) -> None:
            kept = [found for event in events if (found := self._plugin.announced(event)) is not None]
            if kept:
                on_stored(kept)

        return await self._store.open(announce)


class LosesTheFirst(Announcing):
    def announced(self, event: Event) -> Event | None:
        return event if event.seq > 3 else None


class LosesTheLast(Announcing):
    def announced(self, event: Event) -> Event | None:
        return event if event.seq < 395 else None


class LosesOneKey(Announcing):
    def announced(self, event: Event) -> Event | None:
        return event if event.key != "k-3" else None


class LosesWhatever(Announcing):
    """Every 23rd event, whether a fault stands or not."""

    def announced(self, event: Event) -> Event | None:
        return event if event.seq % 23 else None


class GivesOneSeqTwice(Announcing):
    def announced(self, event: Event) -> Event | None:
        event.seq -= event.seq % 50 == 0
        return event


class SwapsSeqs(Announcing):
    """Now and then a later event has the lower seq."""

    def announced(self, event: Event) -> Event | None:
        event.seq += {0: 1, 1: -1}.get(event.seq % 100, 0)
        return event


class AltersOneByte(Announcing):
    """The last byte of every 50th payload."""

    def announced(self, event: Event) -> Event | None:
        if event.seq % 50 == 0:
            event.payload = event.payload[:-1] + bytes([event.payload[-1] ^ 1])
        return event


class LosesPayloads(Announcing):
    """Every 50th event is delivered without its payload."""

    def announced(self, event: Event) -> Event | None:
        if event.seq % 50 == 0:
            event.payload = b""
        return event


class DeliversUnderAnothersNumber(Announcing):
    """Every 50th payload names the next event: the lowest bit of the number in its header, which is even, is set."""

    def announced(self, event: Event) -> Event | None:
        if event.seq % 50 == 0:
            event.payload = event.payload[:8] + bytes([event.payload[8] ^ 1]) + event.payload[9:]
        return event


class ForgetsKeys(Announcing):
    """Nothing is kept apart any more."""

    def announced(self, event: Event) -> Event | None:
        event.key = None
        return event


class Delivering(Plugin):
    """Every 50th event is handed to handlers as `delivered` makes it; what is settled is the event itself."""

    def delivered(self, event: Event) -> Event:
        raise NotImplementedError

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Middleware:
        async def change(event: Event, following: Next) -> None:
            await following(self.delivered(event) if event.seq % 50 == 0 else event)

        return around(change, stage="handler")


class DeliversAsAnotherType(Delivering):
    def delivered(self, event: Event) -> Event:
        return msgspec.structs.replace(event, type="order.cancelled")


class DeliversAsMoreUrgent(Delivering):
    def delivered(self, event: Event) -> Event:
        return msgspec.structs.replace(event, priority=Priority.CRITICAL)


class DeliversUnderAnotherKey(Delivering):
    def delivered(self, event: Event) -> Event:
        return msgspec.structs.replace(event, key="k-none")


class DeliversWithAnotherSeq(Delivering):
    def delivered(self, event: Event) -> Event:
        return msgspec.structs.replace(event, seq=event.seq + 1)


class _StoresHalf(StoreWrapper):
    _batches = 0

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        self._batches += len(events) > 1
        if len(events) == 1 or self._batches % 2:
            return self._store.append(events)
        pending = self._store.append(events[: len(events) // 2])
        self.answer()
        return pending

    def answer(self) -> None:
        raise StoreError("nobody knows what was stored", outcome="info")


class StoresHalfABatch(Plugin):
    """Of every other batch the first half is stored, and what became of it is told to be unknown."""

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> EventStore:
        return _StoresHalf(store)


class _AcksHalf(_StoresHalf):
    def answer(self) -> None:
        """All is well, it says."""


class AcksHalfABatch(Plugin):
    """Of every other batch the first half is stored, and all of it acknowledged."""

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> EventStore:
        return _AcksHalf(store)


class AcksWhatIsRefused(Plugin):
    """The store's refusal is swallowed: the publisher is told that all is well."""

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> Middleware:
        async def swallow(event: Event, following: Next) -> None:
            try:
                await following(event)
            except StoreError as error:
                ctx.logger.debug("swallowed on purpose: %s", error)

        return around(swallow, stage="fault")


class _LosesBacklog(StoreWrapper):
    def __init__(self, store: EventStore) -> None:
        super().__init__(store)
        self.read = self._read

    async def _read(self, query: Query) -> Page:
        page = await self._store.read(query)
        return page._replace(events=[event for event in page.events if event.seq % 20])


class LosesBacklog(Plugin):
    """What is read from the store, not announced, has holes."""

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> EventStore:
        return _LosesBacklog(store)


class _AlsoDead:
    def __init__(self, progress: Progress, acked: Event | None) -> None:
        self._progress, self._acked = progress, acked

    def take(self) -> Settlement:
        settlement = self._progress.take()
        extra = [letter._replace(event=self._acked) for letter in settlement.dead if self._acked]
        settlement.dead = settlement.dead + extra
        return settlement

    def committed(self, settlement: Settlement, error: Exception | None) -> None:
        self._progress.committed(settlement, error)


class _StoresDeadTwice(StoreWrapper):
    def __init__(self, store: EventStore) -> None:
        super().__init__(store)
        self.dead_letters = self._twice

    async def _twice(self, subscription: str | None = None, after: int = 0, limit: int = 500) -> list[DeadLetter]:
        found = await self._store.dead_letters(subscription, 0, after + limit)
        return [letter for letter in found for _ in range(2)][after : after + limit]


class StoresDeadTwice(Plugin):
    """Each dead letter is there twice."""

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> EventStore:
        return _StoresDeadTwice(store)


class _BuriesTheLiving(StoreWrapper):
    _first: Event | None = None

    async def open(self, on_stored: OnStored) -> int:
        def announce(events: Sequence[Event]) -> None:
            self._first = self._first or events[0]
            on_stored(events)

        return await self._store.open(announce)

    def settle(self, progress: Progress) -> None:
        self._store.settle(_AlsoDead(progress, self._first))


class BuriesTheLiving(Plugin):
    """Whenever an event is dead-lettered, the first one of all, long since handled, is too."""

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> EventStore:
        return _BuriesTheLiving(store)


class _HoldsLow(StoreWrapper):
    async def open(self, on_stored: OnStored) -> int:
        held: list[Event] = []

        def announce(events: Sequence[Event]) -> None:
            held.extend(event for event in events if event.priority == Priority.LOW)
            urgent = [event for event in events if event.priority != Priority.LOW]
            if len(held) >= 30:
                urgent += held
                held.clear()
            if urgent:
                on_stored(urgent)

        return await self._store.open(announce)


class HoldsLow(Plugin):
    """LOW has to wait until thirty of it have come together."""

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> EventStore:
        return _HoldsLow(store)
